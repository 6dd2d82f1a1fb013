package compat

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// history is what the producers know: which record was acknowledged at which offset. Each value is unique.
type history struct {
	mu struct {
		sync.Mutex
		acked map[value]place
		sent  map[int]uint32 // producer -> records handed to the client
		fails []error
	}
}

// value identifies a record: which producer sent it as its how-manieth to which partition.
type value struct {
	producer  int
	partition int32
	seq       uint32
}

type place struct {
	partition int32
	offset    int64
}

func newHistory() *history {
	h := &history{}
	h.mu.acked = map[value]place{}
	h.mu.sent = map[int]uint32{}
	return h
}

const valueSize = 200

func (v value) encode() []byte {
	b := make([]byte, valueSize)
	binary.BigEndian.PutUint32(b, uint32(v.producer))
	binary.BigEndian.PutUint32(b[4:], uint32(v.partition))
	binary.BigEndian.PutUint32(b[8:], v.seq)
	for i := 12; i < valueSize; i++ {
		b[i] = byte(v.seq) + byte(i)
	}
	return b
}

func decodeValue(b []byte) (value, error) {
	if len(b) != valueSize {
		return value{}, fmt.Errorf("a value of %d bytes", len(b))
	}
	v := value{int(binary.BigEndian.Uint32(b)), int32(binary.BigEndian.Uint32(b[4:])), binary.BigEndian.Uint32(b[8:])}
	for i := 12; i < valueSize; i++ {
		if b[i] != byte(v.seq)+byte(i) {
			return v, fmt.Errorf("byte %d of %+v is damaged", i, v)
		}
	}
	return v, nil
}

// produceUntil sends numbered records to random partitions until ctx ends, then waits for what is in flight.
func (h *history) produceUntil(ctx context.Context, t *testing.T, cl *kgo.Client, producer int, partitions int32, rng *rand.Rand) {
	next := make([]uint32, partitions)
	for ctx.Err() == nil {
		p := rng.Int32N(partitions)
		v := value{producer, p, next[p]}
		next[p]++
		cl.Produce(context.Background(), &kgo.Record{Partition: p, Value: v.encode()}, func(r *kgo.Record, err error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			if err != nil {
				h.mu.fails = append(h.mu.fails, err)
				return
			}
			h.mu.acked[v] = place{r.Partition, r.Offset}
		})
		h.mu.Lock()
		h.mu.sent[producer]++
		h.mu.Unlock()
	}
	flush, cancel := context.WithTimeout(context.Background(), clientPatience)
	defer cancel()
	if err := cl.Flush(flush); err != nil && !errors.Is(err, kgo.ErrClientClosed) {
		t.Errorf("producer %d: records stay unacknowledged: %v", producer, err)
	}
}

// ackedCount is how many records were acknowledged so far.
func (h *history) ackedCount() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.mu.acked)
}

// check reads the topic to its end and compares: nothing acknowledged is lost or elsewhere, nothing is there twice, each
// producer's records of a partition are in the order of sending, and offsets have no hole.
func (h *history) check(t *testing.T, node *testcluster.Node, topic string) {
	t.Helper()
	found := h.readAll(t, node, topic)
	h.mu.Lock()
	defer h.mu.Unlock()
	lost, moved := 0, 0
	for v, at := range h.mu.acked {
		got, ok := found[v]
		switch {
		case !ok:
			lost++
		case got != at:
			moved++
		}
	}
	sent := uint32(0)
	for _, n := range h.mu.sent {
		sent += n
	}
	t.Logf("sent %d, acknowledged %d, failed %d, found %d: lost %d, at another offset %d", sent, len(h.mu.acked), len(h.mu.fails), len(found), lost, moved)
	if lost > 0 || moved > 0 {
		t.Errorf("%d acknowledged records are lost, %d stand at another offset", lost, moved)
	}
	if len(h.mu.acked) == 0 {
		t.Error("nothing was acknowledged: the test has shown nothing")
	}
	for _, err := range h.mu.fails {
		t.Errorf("an idempotent record failed: %v", err)
	}
}

func (h *history) readAll(t *testing.T, node *testcluster.Node, topic string) map[value]place {
	t.Helper()
	cl := newClient(t, node, kgo.ConsumeTopics(topic))
	ctx, cancel := context.WithTimeout(t.Context(), clientPatience)
	defer cancel()
	ends := rig.Ends(t, kadm.NewClient(cl), topic)
	left := int64(0)
	ends.Each(func(o kadm.ListedOffset) { left += o.Offset })
	found := map[value]place{}
	type stream struct {
		producer  int
		partition int32
	}
	nextOffset, lastSeq := map[int32]int64{}, map[stream]int64{}
	for left > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%d records still to come: %v", left, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			left--
			if r.Offset != nextOffset[r.Partition] {
				t.Errorf("partition %d: offset %d follows %d", r.Partition, r.Offset, nextOffset[r.Partition]-1)
			}
			nextOffset[r.Partition] = r.Offset + 1
			v, err := decodeValue(r.Value)
			if err != nil {
				t.Errorf("partition %d offset %d: %v", r.Partition, r.Offset, err)
				return
			}
			at := place{r.Partition, r.Offset}
			if before, ok := found[v]; ok {
				t.Errorf("%+v is there twice: %+v and %+v", v, before, at)
			}
			found[v] = at
			s := stream{v.producer, r.Partition}
			if last, ok := lastSeq[s]; ok && int64(v.seq) <= last {
				t.Errorf("%+v comes after number %d of the same producer", v, last)
			}
			lastSeq[s] = int64(v.seq)
		})
	}
	return found
}

// idempotentProducer is a franz-go client with its defaults (idempotent, acks=all, snappy) that keeps trying while the
// broker is down.
func idempotentProducer(t *testing.T, node *testcluster.Node, topic string) *kgo.Client {
	return newClient(t, node, kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MaxBufferedRecords(2000), kgo.MetadataMinAge(50*time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }), kgo.UnknownTopicRetries(-1))
}

// TestKill9 kills the broker at random moments under load and checks the whole history afterwards.
func TestKill9(t *testing.T) {
	const producers, partitions = 3, 4
	kills := rig.Count(5, 20, 200)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d, %d kills", seed, kills)
	rng := rand.New(rand.NewPCG(seed, 1))
	node := testcluster.Start(t, testcluster.Options{})
	createTopic(t, node, "kills", partitions)
	h := newHistory()
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for p := range producers {
		cl := idempotentProducer(t, node, "kills")
		own := rand.New(rand.NewPCG(seed, uint64(p+2)))
		wg.Go(func() { h.produceUntil(ctx, t, cl, p, partitions, own) })
	}
	var slowest time.Duration
	for range kills {
		waitAcked(t, h, h.ackedCount()+200+rng.IntN(3000))
		node.Kill()
		slowest = max(slowest, node.Restart())
	}
	waitAcked(t, h, h.ackedCount()+200)
	stop()
	wg.Wait()
	t.Logf("slowest restart: %v", slowest)
	h.check(t, node, "kills")
}

// waitAcked waits until the producers have got so many acknowledgements.
func waitAcked(t *testing.T, h *history, want int) {
	t.Helper()
	deadline := time.Now().Add(clientPatience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for h.ackedCount() < want {
		if time.Now().After(deadline) {
			t.Fatalf("only %d records acknowledged, want %d", h.ackedCount(), want)
		}
		<-tick.C
	}
}
