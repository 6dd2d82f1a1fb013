package client

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"

	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
)

// await waits until something holds of the cluster, which is locked meanwhile, or the context ends.
func (c *fakeCluster) await(ctx context.Context, holds func() bool) error {
	for {
		c.mu.Lock()
		held, changed := holds(), c.mu.changed
		c.mu.Unlock()
		if held {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// busily writes to partition 0 of a topic until the test ends.
func (c *fakeCluster) busily(ctx context.Context, topic string) {
	ctx, cancel := context.WithCancel(ctx)
	cl := c.client(Options{Partitioner: Manual})
	var running sync.WaitGroup
	running.Go(func() {
		for cl.Produce(ctx, &Record{Topic: topic}) == nil {
		}
	})
	c.t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// growFull adds partitions to a topic of one that have records from the first moment on.
func (c *fakeCluster) growFull(topic string, partitions int32, records int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.growLocked(topic, 1, partitions)
	for p := int32(1); p < partitions; p++ {
		part := c.mu.partitions[partitionKey{topic, p}]
		for i := range records {
			part.records = append(part.records, &quorlogv1.Record{Value: []byte(strconv.FormatInt(i, 10)), Offset: i})
		}
	}
}

// A Read of all partitions reads those that are added while it runs, from their first record, wherever it began itself; one of some does not.
func TestReadsAddedPartitions(t *testing.T) {
	for name, o := range map[string]ReadOptions{
		"earliest": {}, "latest": {Start: Latest()}, "elsewhere": {Start: At(1000), Offsets: map[int32]int64{0: 0}}, "offsets": {Offsets: map[int32]int64{2: 3}},
		"some": {Partitions: []int32{0}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newFake(t, 3)
			c.topic("t", 1)
			ctx := limited(t)
			c.busily(ctx, "t")
			cl := c.client(Options{})
			o.Topic = "t"
			readsAdded(ctx, c, cl, o)
		})
	}
}

func readsAdded(ctx context.Context, c *fakeCluster, cl *Client, o ReadOptions) {
	const partitions, records, more = 4, 20, 100
	var next map[int32]int64 // by partition, but the first
	var changed <-chan struct{}
	olds := 0 // records of the first partition since the others are known
	for r, err := range cl.Read(ctx, o) {
		switch {
		case err != nil:
			c.t.Fatal(err)
		case next == nil:
			next = map[int32]int64{}
			for p := range int32(partitions - 1) {
				next[p+1] = o.Offsets[p+1]
			}
			c.growFull(o.Topic, partitions, records)
			changed = cl.dir.watch(o.Topic, false)
			cl.dir.refresh()
		case r.Partition > 0:
			if len(o.Partitions) > 0 || r.Offset != next[r.Partition] || string(r.Value) != strconv.FormatInt(r.Offset, 10) {
				c.t.Fatalf("%s at %d of %d, want %d", r.Value, r.Offset, r.Partition, next[r.Partition])
			}
			next[r.Partition]++
		case len(o.Partitions) > 0:
			select {
			case <-changed:
				if olds++; olds == more {
					return
				}
			default: // what was added is not known yet
			}
		}
		if !slices.ContainsFunc(slices.Collect(maps.Values(next)), func(n int64) bool { return n < records }) {
			return
		}
	}
	c.t.Fatalf("Read has ended at %v", next)
}

// A node may hear late of a partition that another one has named: its reader waits, and the others go on.
func TestReadsAddedPartitionLate(t *testing.T) {
	c := newFake(t, 2)
	c.topic("t", 1)
	ctx := limited(t)
	c.busily(ctx, "t")
	cl, writer := c.client(Options{}), c.client(Options{Partitioner: Manual})
	grown := make(chan struct{})
	var late sync.WaitGroup
	defer late.Wait()
	heard := false
	for r, err := range cl.Read(ctx, ReadOptions{Topic: "t"}) {
		if err != nil {
			t.Fatal(err)
		}
		if heard = r.Partition == 1; heard {
			break
		}
		select {
		case <-grown:
			continue
		default:
			close(grown)
		}
		c.mu.Lock()
		c.mu.counts["t"] = 2
		c.mu.Unlock()
		cl.dir.refresh()
		late.Go(func() {
			if err := c.await(ctx, func() bool { return c.mu.missed > maxMisses }); err != nil {
				t.Error(err)
				return
			}
			c.mu.Lock()
			c.growLocked("t", 1, 2)
			c.mu.Unlock()
			if err := writer.Produce(ctx, &Record{Topic: "t", Partition: 1}); err != nil {
				t.Error(err)
			}
		})
	}
	if !heard {
		t.Error("Read has ended")
	}
}

// More than there is room for end the Read.
func TestReadsTooManyAdded(t *testing.T) {
	c := newFake(t, 1)
	c.topic("t", 1)
	ctx := limited(t)
	c.busily(ctx, "t")
	cl := c.client(Options{})
	grown := false
	var end error
	for _, err := range cl.Read(ctx, ReadOptions{Topic: "t"}) {
		if end = err; end == nil && !grown {
			grown = true
			c.grow("t", maxReads+1)
			cl.dir.refresh()
		}
	}
	if !errors.Is(end, ErrTooManyReads) {
		t.Error(end)
	}
}
