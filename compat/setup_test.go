package compat

import (
	"flag"
	"os/exec"
	"testing"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// full runs the counts that an issue asks for instead of those that fit a default run.
var full = flag.Bool("full", false, "run the full counts (minutes to hours)")

// scaled picks a count.
func scaled(byDefault, inFull int) int {
	if *full {
		return inFull
	}
	return byDefault
}

// missing skips the test, or fails it where every client must be there.
func missing(t *testing.T, what string, err error) {
	t.Helper()
	testcluster.Missing(t, what, err)
}

// tool returns the path of a program on PATH.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, name, err)
	}
	return path
}
