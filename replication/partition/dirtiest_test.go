package partition

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
)

// sealedAfter is the segment age of these tests' partitions.
const sealedAfter = 10 * time.Minute

func compactedConfig() replication.TopicConfig {
	cfg := testConfig()
	cfg.CleanupPolicy, cfg.SegmentAge, cfg.MinCleanableRatio, cfg.MaxCompactionLag = replication.CleanupCompact, sealedAfter, 0.5, 1<<62
	return cfg
}

// dirty appends records of a kibibyte and of now, each of another key.
func dirty(t *testing.T, p *Partition, records int) {
	t.Helper()
	for i := range records {
		b := keyedAt(t, time.Now(), fmt.Sprint(time.Now().UnixMilli(), "-", i), make([]byte, 1<<10))
		if _, err := p.Append(b).Wait(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// seal lets time go by until what was appended may be cleaned.
func seal(n *node) {
	time.Sleep(sealedAfter)
	n.Maintain(ctx)
}

// pass does one pass, if a partition needs it, and returns the one; nil is none. All of it is clean then.
func pass(n *node) (cleaned *Partition) {
	n.t.Helper()
	before := map[*Partition]float64{}
	for _, p := range n.All() {
		before[p] = share(n.t, p)
	}
	done := NewCompactor(n.Manager).CleanDirtiest(ctx, CleanOptions{MapBytes: 1 << 16, Pace: func(context.Context, int) error { return nil }})
	for p, was := range before {
		switch now := share(n.t, p); {
		case now == was:
		case now > 0 || cleaned != nil:
			n.t.Fatalf("the dirty share of %v was %v and is %v", p.ID(), was, now)
		default:
			cleaned = p
		}
	}
	if done != (cleaned != nil) {
		n.t.Fatalf("there was a pass: %v, over %v", done, cleaned)
	}
	return cleaned
}

func share(t testing.TB, p *Partition) float64 {
	t.Helper()
	d, err := p.clean.Dirt(time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return d.Ratio()
}

// A partition is left alone while its dirty share is not above min.cleanable.dirty.ratio, however long that is.
func TestCompactionWaitsForTheDirtyRatio(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, Options{DataDir: "/d", FS: vfs.NewMem()})
		p := n.partition(0, compactedConfig())
		dirty(t, p, 20)
		if pass(n) != nil {
			t.Error("there was a pass although no segment was sealed")
		}
		seal(n)
		if pass(n) != p {
			t.Fatal("all is dirty, and there was no pass")
		}
		dirty(t, p, 15)
		time.Sleep(24 * time.Hour)
		seal(n)
		if got := share(t, p); got < 0.3 || got > 0.5 || pass(n) != nil {
			t.Errorf("there was a pass although the share is %v, or it should be otherwise", got)
		}
		dirty(t, p, 10)
		seal(n)
		if got := share(t, p); got <= 0.5 || pass(n) != p {
			t.Errorf("there was no pass although the share is %v, or it should be otherwise", got)
		}
	})
}

// A small dirty share is cleaned all the same when its oldest record is older than max.compaction.lag.ms, whose segment is sealed by then.
func TestCompactionIsNeverLaterThanItsLag(t *testing.T) {
	const lag = time.Hour
	for _, age := range []time.Duration{sealedAfter, 7 * 24 * time.Hour} {
		t.Run(age.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := open(t, Options{DataDir: "/d", FS: vfs.NewMem()})
				cfg := compactedConfig()
				cfg.MaxCompactionLag, cfg.MinCleanableRatio = lag, 0.99
				p := n.partition(0, cfg)
				dirty(t, p, 20)
				seal(n)
				if pass(n) != p {
					t.Fatal("all is dirty, and there was no pass")
				}
				cfg.SegmentAge = age
				p.setConfig(cfg)
				dirty(t, p, 2)
				for range int(lag/sealedAfter) - 1 {
					seal(n)
					if pass(n) != nil {
						t.Fatal("there was a pass although no record is late")
					}
				}
				if got := share(t, p) > 0; got != (age < lag) {
					t.Errorf("before the lag is over there are dirty segments: %v", got)
				}
				seal(n)
				time.Sleep(time.Second)
				if pass(n) != p {
					t.Errorf("there was no pass although a record is late; the share is %v", share(t, p))
				}
			})
		})
	}
}

// Of several partitions that need it the one with the largest dirty share comes first.
func TestCompactionBeginsWithTheDirtiest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, Options{DataDir: "/d", FS: vfs.NewMem()})
		cfg := compactedConfig()
		cfg.MinCleanableRatio = 0.1
		want, got := []int32{3, 0, 5, 1, 4, 2}, []int32(nil)
		for i := range want {
			dirty(t, n.partition(int32(i), cfg), 10)
		}
		seal(n)
		for range want {
			pass(n)
		}
		for i, id := range want {
			p, _ := n.Get(testID(id))
			dirty(t, p, 5*(len(want)-i))
		}
		seal(n)
		for p := pass(n); p != nil; p = pass(n) {
			got = append(got, p.ID().Partition)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	})
}
