package agent

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/quorlog/quorlog/internal/leaks"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, leaks.Gossip()...)
}
