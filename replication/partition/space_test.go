package partition

import (
	"testing"

	"github.com/quorlog/quorlog/log/vfs"
)

// A disk around the limit does not flap: batches are taken again only clearly above it.
func TestFullDiskHasRoomAgain(t *testing.T) {
	mem := vfs.NewMem()
	n := open(t, Options{DataDir: "/d", FS: mem, SoftFree: 64 << 20, BallastBytes: -1})
	for _, step := range []struct {
		free uint64
		full bool
	}{{70 << 20, false}, {63 << 20, true}, {65 << 20, true}, {79 << 20, true}, {81 << 20, false}, {65 << 20, false}, {63 << 20, true}} {
		mem.SetFree(step.free)
		n.CheckSpace()
		if n.Full() != step.full {
			t.Errorf("with %d MiB free it is full: %v", step.free>>20, n.Full())
		}
	}
}
