package compat

import (
	"testing"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// scaled picks a count.
func scaled(byDefault, inFull int) int { return rig.Count(byDefault, byDefault, inFull) }

// missing skips the test, or fails it where every client must be there.
func missing(t *testing.T, what string, err error) {
	t.Helper()
	testcluster.Missing(t, what, err)
}
