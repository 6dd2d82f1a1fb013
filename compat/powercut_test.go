package compat

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// TestPowerCut cuts the power of the broker's disk under load, mounts it again and checks that everything acknowledged
// is there, once, in order and at its offset.
func TestPowerCut(t *testing.T) {
	const producers, partitions = 2, 3
	cuts := rig.Count(5, 20, 200)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d, %d power cuts", seed, cuts)
	rng := rand.New(rand.NewPCG(seed, 1))
	d := testcluster.NewDisk(t, 1024)
	node := testcluster.Start(t, testcluster.Options{DataDir: filepath.Join(d.Dir, "data")})
	createTopic(t, node, "cuts", partitions)
	h := newHistory()
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for p := range producers {
		cl := idempotentProducer(t, node, "cuts")
		own := rand.New(rand.NewPCG(seed, uint64(p+2)))
		wg.Go(func() { h.produceUntil(ctx, t, cl, p, partitions, own) })
	}
	for range cuts {
		waitAcked(t, h, h.ackedCount()+500+rng.IntN(5000))
		d.Cut(t)
		node.Kill()
		d.Restore(t)
		node.Restart()
	}
	waitAcked(t, h, h.ackedCount()+200)
	stop()
	wg.Wait()
	h.check(t, node, "cuts")
	node.Kill()
}
