package partition

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

var compactSeeds = flag.Int("compact.seeds", 6, "number of runs of the simulated cluster with compaction")

// keyed builds a batch of one record; a nil value is a tombstone.
func keyed(t testing.TB, key string, value []byte) Batch {
	t.Helper()
	return keyedAt(t, time.UnixMilli(1), key, value)
}

func keyedAt(t testing.TB, at time.Time, key string, value []byte) Batch {
	t.Helper()
	f, err := batch.Build(batch.BuildOptions{}, batch.Record{Timestamp: at.UnixMilli(), Key: []byte(key), Value: value})
	if err != nil {
		t.Fatal(err)
	}
	h, err := batch.ParseHeader(f)
	if err != nil {
		t.Fatal(err)
	}
	return Batch{Frame: f, Info: batch.Info{Header: h}}
}

// live reads the newest value and offset of each key at a replica; deleted keys are left out.
func live(t testing.TB, p *Partition) map[string]string {
	t.Helper()
	found := map[string]string{}
	for at := p.log.Offsets().LogStart; ; {
		res, err := p.Read(ReadRequest{Offset: at, MaxBytes: 1 << 20, AtLeastOne: true, AnyReplica: true, CurrentEpoch: batch.NoEpoch, LastFetchedEpoch: batch.NoEpoch})
		if err != nil {
			t.Fatalf("read at %d: %v", at, err)
		}
		b, err := res.Range.AppendTo(nil)
		next := res.Range.Next
		res.Range.Release()
		if err != nil {
			t.Fatal(err)
		}
		frames, err := batch.Split(b)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range frames {
			if err := batch.Iterate(f, func(r batch.Record) error {
				if found[string(r.Key)] = fmt.Sprintf("%s at %d", r.Value, r.Offset); r.Value == nil {
					delete(found, string(r.Key))
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		if next == at {
			return found
		}
		at = next
	}
}

// updates is what a writer knows of a key: the last value that was acknowledged, and those since whose fate is not known.
type updates struct {
	acked   string // "" is deleted
	unknown []string
}

func (u *updates) allows(got string) bool {
	for _, v := range append(u.unknown, u.acked) {
		if v == got {
			return true
		}
	}
	return false
}

// Three nodes compact a partition each for itself, while it is written to, nodes are cut off the power and others take over.
// Every replica ends with the last acknowledged value of each key at the same offset, and no deleted key comes back.
func TestReplicasCompactedApartAreEqual(t *testing.T) {
	for seed := range *compactSeeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { compactApart(t, uint64(seed)) })
		})
	}
}

func compactApart(t *testing.T, seed uint64) {
	c := newClusterOf(t, seed, 4<<10) // so that what a node missed comes from the leader's disk
	defer c.close()
	cfg := testConfig()
	cfg.CleanupPolicy, cfg.SegmentBytes, cfg.MinInsyncReplicas = replication.CleanupCompact, 4<<10, 2
	cfg.MaxCompactionLag, cfg.DeleteRetention, cfg.MinCleanableRatio = 1<<62, time.Duration(seed%2)*2*time.Second, 0.1
	configure := func() {
		for i := range c.parts {
			if p := c.parts[i].Load(); p != nil {
				p.setConfig(cfg)
			}
		}
	}
	configure()
	known, down, passes := map[string]*updates{}, -1, 0
	o := CleanOptions{MapBytes: 1 << 16, Pace: func(context.Context, int) error { return nil }}
	o.Everywhere = func(_ context.Context, leader replication.NodeID, _ replication.PartitionID) (Stored, error) {
		if c.parts[leader-1].Load() != nil {
			return NewCompactor(c.nodes[leader-1].Manager).Everywhere(testID(0)), nil
		}
		return 0, errors.New("the node is down")
	}
	clean := func(i int) {
		if c.parts[i].Load() != nil && NewCompactor(c.nodes[i].Manager).CleanDirtiest(ctx, o) {
			passes++
		}
	}
	for step := range 60 {
		switch n := c.rng.IntN(12); {
		case n == 0 && down < 0:
			down = c.rng.IntN(3)
			c.crash(down)
		case n == 1 && down >= 0:
			c.restart(down)
			down = -1
			configure()
		case n < 8:
			clean(c.rng.IntN(3))
		}
		_, p := c.leader()
		for k := range 40 {
			key := fmt.Sprintf("k%d-%d", step/4, c.rng.IntN(25)) // given up after a while, or a deleted one that comes back is overwritten
			value := fmt.Appendf(nil, "%d/%d", step, k)
			if c.rng.IntN(4) == 0 {
				value = nil
			}
			u := known[key]
			if u == nil {
				u = &updates{}
				known[key] = u
			}
			if _, err := p.Append(keyed(t, key, value)).Wait(ctx); err == nil {
				*u = updates{acked: string(value)}
			} else if !errors.Is(err, replication.ErrNotLeader) {
				u.unknown = append(u.unknown, string(value))
			}
		}
		time.Sleep(time.Duration(c.rng.IntN(1500)) * time.Millisecond)
	}
	if down >= 0 {
		c.restart(down)
		configure()
	}
	_, p := c.leader()
	mustAppend(t, p, batch.BuildOptions{}, "the last")
	time.Sleep(20 * time.Second)
	for range 3 {
		for i := range c.parts {
			clean(i)
		}
	}
	if passes < 10 {
		t.Errorf("%d passes of compaction", passes)
	}
	first := live(t, c.parts[0].Load())
	for key, u := range known {
		value := ""
		if got, ok := first[key]; ok {
			fmt.Sscanf(got, "%s", &value)
		}
		if !u.allows(value) {
			t.Errorf("key %s is %q, acknowledged was %q, then not known %q", key, value, u.acked, u.unknown)
		}
	}
	for i := 1; i < 3; i++ {
		other := live(t, c.parts[i].Load())
		if fmt.Sprint(other) != fmt.Sprint(first) {
			t.Errorf("node %d has %v\nnode 1 has %v", i+1, other, first)
		}
	}
}
