package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// patience bounds waits for what a healthy cluster does in milliseconds to seconds.
const patience = 2 * time.Minute

// LoadOptions say which clients work on a topic.
type LoadOptions struct {
	Topic      string // default "load"
	Partitions int32  // default 4
	Replicas   int16  // default 3
	Configs    []string
	Writers    int // idempotent franz-go producers; default 2
	Plain      int // franz-go producers without idempotence, acks=all
	Readers    int // franz-go consumers that follow the log from its start; default 1
	Probers    int // probers with sequence numbers of their own, each on a partition of its own
	Shots      int // probers that send each value once, each on a partition of its own
	Rate       int // values per second and franz-go producer; default 300
	Size       int // bytes of a value; default ValueSize
	Jumps      bool
	Client     []kgo.Opt // more options of the franz-go clients
}

// Load is a set of clients at work. Start it, break the cluster, Stop it and Check the history.
type Load struct {
	Topic   string
	History *History
	Probers []*Prober

	t      testing.TB
	o      LoadOptions
	c      *testcluster.Cluster
	seed   uint64
	stop   context.CancelFunc // of the writers and probers
	end    context.CancelFunc // of readers and the watcher
	writes sync.WaitGroup
	reads  sync.WaitGroup
	mu     struct {
		sync.Mutex
		latency *hdrhistogram.Histogram // microseconds from handing a record to the client to its acknowledgement
	}
}

func (o *LoadOptions) fill() {
	if o.Topic == "" {
		o.Topic = "load"
	}
	if o.Partitions == 0 {
		o.Partitions = 4
	}
	if o.Replicas == 0 {
		o.Replicas = 3
	}
	if o.Writers == 0 {
		o.Writers = 2
	}
	if o.Readers == 0 {
		o.Readers = 1
	}
	if o.Rate == 0 {
		o.Rate = 300
	}
	if o.Size == 0 {
		o.Size = ValueSize
	}
}

// StartLoad makes the topic and starts the clients.
func StartLoad(t testing.TB, c *testcluster.Cluster, seed uint64, o LoadOptions) *Load {
	t.Helper()
	o.fill()
	c.CreateTopic(o.Topic, o.Partitions, o.Replicas, o.Configs...)
	l := &Load{Topic: o.Topic, History: NewHistory(o.Partitions), t: t, o: o, c: c, seed: seed}
	l.ResetLatency()
	writing, stop := context.WithCancel(context.Background())
	reading, end := context.WithCancel(context.Background())
	l.stop, l.end = stop, end
	t.Cleanup(l.abandon)
	for i := range o.Writers + o.Plain {
		l.startWriter(writing, i, i < o.Writers)
	}
	for i := range o.Probers + o.Shots {
		p := newProber(c.Addrs(), o.Topic, int32(i)%o.Partitions, l.History, i < o.Probers)
		l.Probers = append(l.Probers, p)
		l.writes.Go(func() { p.run(writing) })
	}
	for i := range o.Readers {
		l.startReader(reading, i)
	}
	l.reads.Go(func() { newWatcher(l).run(reading) })
	return l
}

// client is a franz-go client that gives up on a silent node within seconds and then looks for another.
func (l *Load) client(opts ...kgo.Opt) *kgo.Client {
	l.t.Helper()
	opts = append([]kgo.Opt{
		kgo.SeedBrokers(l.c.Addrs()...), kgo.MetadataMinAge(50 * time.Millisecond), kgo.DialTimeout(time.Second),
		kgo.RequestTimeoutOverhead(2 * time.Second), kgo.RetryTimeout(patience),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
	}, opts...)
	cl, err := kgo.NewClient(append(opts, l.o.Client...)...)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(cl.Close)
	return cl
}

func (l *Load) startWriter(ctx context.Context, i int, strict bool) {
	opts := []kgo.Opt{kgo.DefaultProduceTopic(l.Topic), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(2000),
		kgo.ProduceRequestTimeout(3 * time.Second), kgo.UnknownTopicRetries(-1)}
	if !strict {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	cl, writer := l.client(opts...), l.History.NewWriter(strict)
	rng := rand.New(rand.NewPCG(l.seed, uint64(i+10)))
	l.writes.Go(func() { l.write(ctx, cl, writer, strict, rng) })
}

// write sends numbered values to random partitions at the load's rate until ctx ends, then waits for what is in flight.
func (l *Load) write(ctx context.Context, cl *kgo.Client, writer int, strict bool, rng *rand.Rand) {
	const slice = 10 * time.Millisecond
	tick := time.NewTicker(slice)
	defer tick.Stop()
	for began, sent := time.Now(), 0; ctx.Err() == nil; {
		for want := int(time.Since(began).Seconds() * float64(l.o.Rate)); sent < want && ctx.Err() == nil; sent++ {
			l.send(ctx, cl, l.History.Sending(writer, rng.Int32N(l.o.Partitions)), strict)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	flush, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := cl.Flush(flush); err != nil {
		l.History.Report(ClientError, "writer %d: records stay without an answer: %v", writer, err)
	}
}

func (l *Load) send(ctx context.Context, cl *kgo.Client, v Value, strict bool) {
	began := time.Now()
	cl.Produce(context.WithoutCancel(ctx), &kgo.Record{Partition: v.Partition, Value: v.Encode(l.o.Size)}, func(r *kgo.Record, err error) {
		if err != nil {
			// An idempotent client goes on until it has an answer; a plain one may give up.
			if strict {
				l.History.Report(ClientError, "%v: %v", v, err)
			}
			l.History.Unknown(v)
			return
		}
		l.History.Acked(v, r.Offset)
		l.mu.Lock()
		defer l.mu.Unlock()
		_ = l.mu.latency.RecordValue(time.Since(began).Microseconds()) // above its highest value: then that is what counts
	})
}

// Latency returns the time to acknowledge at a quantile (0..100) since ResetLatency.
func (l *Load) Latency(quantile float64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Duration(l.mu.latency.ValueAtQuantile(quantile)) * time.Microsecond
}

// ResetLatency forgets the latencies so far.
func (l *Load) ResetLatency() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.latency = hdrhistogram.New(1, int64(patience/time.Microsecond), 3)
}

func (l *Load) startReader(ctx context.Context, i int) {
	from := map[int32]kgo.Offset{}
	for p := range l.o.Partitions {
		from[p] = kgo.NewOffset().At(0)
	}
	cl := l.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.Topic: from}), kgo.ConsumeResetOffset(l.reset()),
		kgo.FetchMaxWait(500*time.Millisecond))
	r := l.History.NewReader(fmt.Sprintf("reader %d", i+1))
	l.reads.Go(func() { l.read(ctx, cl, r) })
}

// reset is where a reader goes on whose offset is out of range: nowhere, unless the log start may move.
func (l *Load) reset() kgo.Offset {
	if l.o.Jumps {
		return kgo.NewOffset().AtStart()
	}
	return kgo.NoResetOffset()
}

func (l *Load) read(ctx context.Context, cl *kgo.Client, r *Reader) {
	for ctx.Err() == nil {
		fetches := cl.PollFetches(ctx)
		fetches.EachError(func(topic string, p int32, err error) {
			if ctx.Err() == nil {
				l.History.Report(ClientError, "%s: %s-%d: %v", r.name, topic, p, err)
			}
		})
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			for _, rec := range p.Records {
				if l.o.Jumps && rec.Offset > r.Position(rec.Partition) {
					r.MayJump(rec.Partition, rec.Offset)
				}
				r.Saw(rec.Partition, rec.Offset, rec.Value)
			}
		})
	}
}

// WaitAcked waits until so many more values have been acknowledged.
func (l *Load) WaitAcked(more int) {
	l.t.Helper()
	want := l.History.Counts().Acked + more
	await(l.t, func() string {
		if got := l.History.Counts().Acked; got < want {
			return fmt.Sprintf("%d values acknowledged, want %d", got, want)
		}
		return ""
	})
}

// Stop ends the writers and probers and waits for what they have in flight.
func (l *Load) Stop() {
	l.stop()
	l.writes.Wait()
}

// abandon ends everything when the test ends, whatever its state.
func (l *Load) abandon() {
	l.stop()
	l.end()
	l.reads.Wait()
}

// Check stops the load, waits until the readers have everything, reads all partitions to their ends, compares the
// replicas, and fails the test unless the history is good.
func (l *Load) Check() Verdict {
	l.t.Helper()
	l.Stop()
	if l.o.Jumps {
		l.keepAll()
	}
	_, ends := l.offsets()
	l.awaitReaders(ends)
	l.end()
	l.reads.Wait()
	l.compareReplicas(l.readFinally())
	v := l.History.Verdict()
	l.t.Logf("%v", v)
	if !v.Good() {
		l.t.Error("the history is not good")
	}
	return v
}

// keepAll ends retention, so that the log starts stay where they are while everything is read.
func (l *Load) keepAll() {
	l.t.Helper()
	adm, all := kadm.NewClient(l.client()), "-1"
	await(l.t, func() string {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		resp, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "retention.bytes", Value: &all}, {Name: "retention.ms", Value: &all}}, l.Topic)
		if err == nil {
			_, err = resp.On(l.Topic, func(r *kadm.AlterConfigsResponse) error { return r.Err })
		}
		if err != nil {
			return "retention goes on: " + err.Error()
		}
		return ""
	})
}

// offsets are the log starts and high watermarks, asked until every partition answers.
func (l *Load) offsets() (starts, ends []int64) {
	l.t.Helper()
	adm := kadm.NewClient(l.client())
	ask := func(list func(context.Context, ...string) (kadm.ListedOffsets, error)) []int64 {
		out := make([]int64, l.o.Partitions)
		await(l.t, func() string {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			got, err := list(ctx, l.Topic)
			if err != nil {
				return err.Error()
			}
			for p := range l.o.Partitions {
				o, ok := got.Lookup(l.Topic, p)
				if !ok || o.Err != nil {
					return fmt.Sprintf("offsets of partition %d: %v", p, o.Err)
				}
				out[p] = o.Offset
			}
			return ""
		})
		return out
	}
	return ask(adm.ListStartOffsets), ask(adm.ListEndOffsets)
}

// awaitReaders waits until every reader is at the end; one that never gets there is the verdict's business.
func (l *Load) awaitReaders(ends []int64) {
	l.History.mu.Lock()
	readers := slices.Clone(l.History.mu.readers)
	l.History.mu.Unlock()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		behind := slices.ContainsFunc(readers, func(r *Reader) bool {
			for p, end := range ends {
				if r.Position(int32(p)) < end {
					return true
				}
			}
			return false
		})
		if !behind {
			return
		}
	}
}

// readFinally reads all partitions to their ends, from log starts that stay where they are: retention may have moved one just before it
// heard of its end. It returns both.
func (l *Load) readFinally() (starts, ends []int64) {
	l.t.Helper()
	for {
		starts, ends = l.offsets()
		for p := range l.o.Partitions {
			l.History.BeginFinal(p, starts[p], ends[p])
		}
		err := l.finalRead(starts, ends)
		if l.o.Jumps {
			if now, _ := l.offsets(); !slices.Equal(now, starts) {
				continue
			}
		}
		if err != nil {
			l.t.Error(err)
		}
		return starts, ends
	}
}

// finalRead reads every partition from its start to its end with one more client.
func (l *Load) finalRead(starts, ends []int64) error {
	l.t.Helper()
	from, left := map[int32]kgo.Offset{}, map[int32]int64{}
	for p := range l.o.Partitions {
		if starts[p] < ends[p] {
			from[p], left[p] = kgo.NewOffset().At(starts[p]), ends[p]
		}
	}
	if len(left) == 0 {
		return nil
	}
	cl := l.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.Topic: from}), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("the final read, with partitions %v to end: %w", left, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset < ends[r.Partition] {
				l.History.FinalRecord(r.Partition, r.Offset, r.Value)
			}
			if r.Offset+1 >= ends[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return nil
}

// await waits until condition returns "", which otherwise says what is missing.
func await(t testing.TB, condition func() string) {
	t.Helper()
	awaitFor(t, patience, condition)
}

func awaitFor(t testing.TB, limit time.Duration, condition func() string) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for missing := condition(); missing != ""; missing = condition() {
		select {
		case <-deadline:
			t.Fatalf("after %v: %s", limit, missing)
		case <-tick.C:
		}
	}
}
