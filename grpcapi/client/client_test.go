package client

import (
	"context"
	"errors"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
)

// results counts what Send has called.
type results struct {
	mu   sync.Mutex
	good []*Record
	bad  []error
}

func (r *results) done(rec *Record, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.bad = append(r.bad, err)
		return
	}
	r.good = append(r.good, rec)
}

// Servers that refuse, forget, take long, answer for something else and break streams, and leaders that move: nothing is lost, doubled or out of order.
func TestSendThroughChaos(t *testing.T) {
	c := newFake(t, 3)
	const partitions, records = 4, 4000
	c.topic("t", partitions)
	c.mu.Lock()
	c.mu.chaos = func(int) chaos {
		if rand.IntN(4) > 0 {
			return fine
		}
		return chaos(rand.IntN(int(lies) + 1))
	}
	c.mu.Unlock()
	cl := c.client(Options{Partitioner: Manual, BatchBytes: 2000})
	ctx := limited(t)
	var got results
	for i := range records {
		if i%100 == 0 {
			c.move(partitionKey{"t", int32(rand.IntN(partitions))}, rand.IntN(3))
		}
		if err := cl.Send(ctx, &Record{Topic: "t", Partition: int32(i % partitions), Value: []byte(strconv.Itoa(i))}, got.done); err != nil {
			t.Fatal(err)
		}
	}
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if len(got.bad) > 0 || len(got.good) != records {
		t.Fatalf("%d acknowledged, failed: %v", len(got.good), got.bad)
	}
	logs := map[int32][]string{}
	for p := range int32(partitions) {
		logs[p] = c.log(partitionKey{"t", p})
		for i, value := range logs[p] {
			if value != strconv.Itoa(i*partitions+int(p)) {
				t.Fatalf("partition %d: %s at %d", p, value, i)
			}
		}
	}
	for _, r := range got.good {
		if logs[r.Partition][r.Offset] != string(r.Value) {
			t.Errorf("%s is said to be at %d of %d", r.Value, r.Offset, r.Partition)
		}
	}
}

// Once the directory is known, every batch goes to the leader of its partition, and goes on doing so when that moves.
func TestSendsToLeaders(t *testing.T) {
	c := newFake(t, 3)
	c.topic("t", 3)
	cl := c.client(Options{Partitioner: Manual})
	ctx := limited(t)
	c.connected(ctx, cl)
	for p := range int32(3) {
		if err := cl.Produce(ctx, &Record{Topic: "t", Partition: p, Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
	}
	for i, n := range c.nodes {
		if produced, _ := n.counts(); produced != 1 {
			t.Errorf("node %d got %d batches", i, produced)
		}
	}
	c.move(partitionKey{"t", 0}, 2) // the answer of the old leader, which hands the batch on, tells of the new one
	for range 2 {
		if err := cl.Produce(ctx, &Record{Topic: "t", Partition: 0, Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
	}
	// Both, if the directory was just asked anew.
	if produced, _ := c.nodes[2].counts(); produced != 2 && produced != 3 {
		t.Errorf("the new leader got %d batches", produced-1)
	}
}

// A node that falls silent with its connections open is left as soon as another one leads.
func TestSilentLeader(t *testing.T) {
	t.Parallel()
	c := newFake(t, 2)
	c.topic("t", 1)
	c.mu.Lock()
	c.mu.chaos = func(node int) chaos {
		if node == 0 {
			return hangs
		}
		return fine
	}
	c.mu.Unlock()
	cl := c.client(Options{})
	ctx := limited(t)
	var got results
	for i := range 10 {
		if err := cl.Send(ctx, &Record{Topic: "t", Value: []byte(strconv.Itoa(i))}, got.done); err != nil {
			t.Fatal(err)
		}
	}
	c.move(partitionKey{"t", 0}, 1)
	if err := cl.Flush(ctx); err != nil || len(got.bad) > 0 {
		t.Fatal(err, got.bad)
	}
	if log := c.log(partitionKey{"t", 0}); len(log) != 10 {
		t.Errorf("stored: %v", log)
	}
}

// One node is enough to find the others, and when it has gone they are enough.
func TestDirectory(t *testing.T) {
	c := newFake(t, 3)
	c.topic("t", 3)
	cl, err := New(Scheme+":///"+c.nodes[0].addr, Options{Partitioner: Manual})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx := limited(t)
	write := func() {
		t.Helper()
		for p := range int32(3) {
			if err := cl.Produce(ctx, &Record{Topic: "t", Partition: p, Value: []byte("v")}); err != nil {
				t.Fatal(err)
			}
		}
	}
	write()
	c.mu.Lock()
	c.nodes[0].silent = true
	c.mu.Unlock()
	c.move(partitionKey{"t", 0}, 1)
	c.nodes[0].server.Stop()
	write()
	for p := range int32(3) {
		if n := len(c.log(partitionKey{"t", p})); n != 2 {
			t.Errorf("%d records in partition %d", n, p)
		}
	}
}

// What is asked fits into requests that a server takes, and a topic is made only while somebody waits for it.
func TestDirectoryRequests(t *testing.T) {
	d := newDirectory(t.Context(), []string{"127.0.0.1:1"}, "")
	if all := d.requests(); len(all) != 1 || !all[0].GetServersOnly() {
		t.Errorf("%v", all)
	}
	const topics = 2000
	for i := range topics {
		d.watch(strings.Repeat("t", 100)+strconv.Itoa(i), i%2 == 0)
	}
	for round, making := range []int{topics / 2, 0} {
		named, made := 0, 0
		for _, req := range d.requests() {
			if proto.Size(req) > 40<<10 {
				t.Errorf("a request of %d bytes", proto.Size(req))
			}
			named += len(req.GetTopics())
			if req.GetCreate() {
				made += len(req.GetTopics())
			}
		}
		if named != topics || made != making {
			t.Errorf("round %d: %d topics, %d to be made", round, named, made)
		}
	}
	for i := range 2 * maxTopics {
		d.watch(strconv.Itoa(i), false)
	}
	if n := len(d.mu.topics); n > maxTopics {
		t.Errorf("%d topics are kept", n)
	}
}

func TestKeysAndBatches(t *testing.T) {
	c := newFake(t, 1)
	c.topic("t", 10)
	cl := c.client(Options{})
	ctx := limited(t)
	var got results
	const records = 1000
	for i := range records {
		r := &Record{Topic: "t", Value: []byte(strconv.Itoa(i))}
		if i%2 == 0 {
			r.Key = []byte("the same")
		}
		if err := cl.Send(ctx, r, got.done); err != nil {
			t.Fatal(err)
		}
	}
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	homes := map[int32]bool{}
	for _, r := range got.good {
		if r.Key != nil {
			homes[r.Partition] = true
		}
	}
	if len(homes) != 1 || len(got.good) != records {
		t.Errorf("a key went to %v; %d of %d are stored", homes, len(got.good), records)
	}
	if produced, _ := c.nodes[0].counts(); produced > records/2 {
		t.Errorf("%d batches for %d records", produced, records)
	}
}

// What the server never takes fails, alone; a topic that is not there, too; and what is too large is not even sent.
func TestSendFailures(t *testing.T) {
	t.Parallel()
	c := newFake(t, 2)
	c.topic("t", 1)
	ctx := limited(t)
	cl := c.client(Options{Partitioner: Manual})
	if err := cl.Produce(ctx, &Record{Topic: "t", Partition: 1}); !errors.Is(err, ErrPartition) {
		t.Error(err)
	}
	if err := cl.Produce(ctx, &Record{Topic: "t", Value: make([]byte, 5<<20)}); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	badHeader(ctx, c, cl)
	if err := cl.Produce(ctx, &Record{Topic: "nowhere"}); status.Code(err) != codes.NotFound {
		t.Error(err)
	}
	brief, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := cl.Produce(brief, &Record{Topic: "not-yet"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if _, err := New("quorlog:///localhost:9092", Options{Username: "alice"}); !errors.Is(err, ErrPlaintext) {
		t.Error(err)
	}
	if _, err := New("localhost:9092", Options{}); err == nil {
		t.Error("a target without a scheme is taken")
	}
	for _, target := range []string{"quorlog:///", "quorlog:///host", "quorlog:///:9092", "quorlog:///a:1,,b:2", "dns:///a:1"} {
		if _, err := New(target, Options{}); err == nil {
			t.Errorf("%s is taken", target)
		}
	}
}

// badHeader: a header that no message can carry is refused, and its neighbours do not lose their stream.
func badHeader(ctx context.Context, c *fakeCluster, cl *Client) {
	c.t.Helper()
	c.topic("headers", 3) // node 0 leads 0 and 2
	c.connected(ctx, cl)
	if err := cl.Produce(ctx, &Record{Topic: "headers", Partition: 2}); err != nil {
		c.t.Fatal(err)
	}
	var got results
	for _, key := range []string{"\xff", "good", "caf\xc3"} {
		err := cl.Send(ctx, &Record{Topic: "headers", Headers: []Header{{Key: "a"}, {Key: key}}}, got.done)
		if want := ErrHeaderKey; key != "good" && !errors.Is(err, want) || key == "good" && err != nil {
			c.t.Errorf("%q: %v", key, err)
		}
	}
	if err := cl.Produce(ctx, &Record{Topic: "headers", Partition: 2}); err != nil {
		c.t.Error(err)
	}
	if err := cl.Flush(ctx); err != nil || len(got.good) != 1 || len(got.bad) > 0 {
		c.t.Errorf("%v: %d stored, failed: %v", err, len(got.good), got.bad)
	}
	n := c.nodes[0]
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.links != 1 {
		c.t.Errorf("%d streams produce to one node", n.mu.links)
	}
}

// Records that are not acknowledged are bounded, and time out; what the outcome of is not known says so.
func TestBufferAndTimeout(t *testing.T) {
	t.Parallel()
	c := newFake(t, 1)
	c.topic("t", 1)
	c.mu.Lock()
	c.mu.chaos = func(int) chaos { return forgets }
	c.mu.Unlock()
	cl := c.client(Options{Buffer: 10_000, DeliveryTimeout: 500 * time.Millisecond})
	ctx := limited(t)
	var got results
	const records = 30 // three times the buffer
	for sent := range records {
		if err := cl.Send(ctx, &Record{Topic: "t", Value: make([]byte, 700)}, got.done); err != nil {
			t.Fatal(err)
		}
		// Room is given back after the callbacks; what the producer counts as pending sinks a moment later still.
		got.mu.Lock()
		if pending := sent + 1 - len(got.bad); pending > 10 {
			t.Errorf("%d records are under way", pending)
		}
		got.mu.Unlock()
	}
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if len(got.bad) != records || !slices.ContainsFunc(got.bad, func(err error) bool { return errors.Is(err, ErrUnknownOutcome) }) {
		t.Errorf("%d failed: %v", len(got.bad), got.bad)
	}
	c.mu.Lock()
	c.mu.chaos = func(int) chaos { return fine }
	c.mu.Unlock()
	for { // the pause after the last failure may be longer than a record of this client may take
		err := cl.Produce(ctx, &Record{Topic: "t", Value: []byte("after")})
		if err == nil {
			break
		}
		if !errors.Is(err, errTooLong) {
			t.Fatal(err)
		}
	}
}

// Close ends all at once, whatever is under way, and says so to all.
func TestClose(t *testing.T) {
	c := newFake(t, 2)
	c.topic("t", 2)
	c.mu.Lock()
	c.mu.chaos = func(int) chaos { return refuses }
	c.mu.Unlock()
	cl := c.client(Options{})
	ctx := limited(t)
	var got results
	for range 100 {
		if err := cl.Send(ctx, &Record{Topic: "t", Value: []byte("v")}, got.done); err != nil {
			t.Fatal(err)
		}
	}
	read := make(chan error, 1)
	go func() {
		for _, err := range cl.Read(ctx, ReadOptions{Topic: "t"}) {
			read <- err
		}
	}()
	cl.Close()
	if err := <-read; !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if len(got.bad) != 100 || !errors.Is(got.bad[0], ErrClosed) {
		t.Errorf("%d failed: %v", len(got.bad), got.bad)
	}
	if err := cl.Produce(ctx, &Record{Topic: "t"}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	cl.Close()
}

// Reads are spread over the followers, and go on elsewhere when their streams break: nothing is left out and nothing comes twice.
func TestRead(t *testing.T) {
	c := newFake(t, 3)
	const partitions, records = 6, 3000
	c.topic("t", partitions)
	cl := c.client(Options{Partitioner: Manual})
	ctx := limited(t)
	go func() {
		for i := range records {
			if i%200 == 0 {
				c.nodes[rand.IntN(3)].kick()
				c.move(partitionKey{"t", int32(rand.IntN(partitions))}, rand.IntN(3))
			}
			if cl.Produce(ctx, &Record{Topic: "t", Partition: int32(i % partitions), Value: []byte(strconv.Itoa(i))}) != nil {
				return // the reader waits in vain and says so
			}
		}
	}()
	next := [partitions]int64{}
	n := 0
	for r, err := range cl.Read(ctx, ReadOptions{Topic: "t"}) {
		if err != nil {
			t.Fatal(err)
		}
		if want := int64(next[r.Partition])*partitions + int64(r.Partition); r.Offset != next[r.Partition] || string(r.Value) != strconv.FormatInt(want, 10) {
			t.Fatalf("%s at %d of %d, want %d", r.Value, r.Offset, r.Partition, want)
		}
		next[r.Partition]++
		if n++; n == records {
			break
		}
	}
	if n != records {
		t.Errorf("%d records were read", n)
	}
}

// connected waits until a client has a connection to each node.
func (c *fakeCluster) connected(ctx context.Context, cl *Client) {
	c.t.Helper()
	for _, n := range c.nodes {
		for w := (&wish{}); w.at() != n.addr; {
			w = &wish{addrs: []string{n.addr}}
			if _, err := cl.dir.cluster.GetServers(w.on(ctx), &quorlogv1.GetServersRequest{ServersOnly: true}); err != nil {
				c.t.Fatal(err)
			}
		}
	}
}

func TestReadsAreBalanced(t *testing.T) {
	c := newFake(t, 3)
	c.topic("t", 1)
	ctx := limited(t)
	cl := c.client(Options{})
	if err := cl.Produce(ctx, &Record{Topic: "t", Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	c.connected(ctx, cl)
	ctx, cancel := context.WithCancel(ctx)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	var first sync.WaitGroup
	for range 10 {
		first.Add(1)
		reading.Go(func() {
			met := false
			for _, err := range cl.Read(ctx, ReadOptions{Topic: "t"}) {
				if err == nil && !met {
					met = true
					first.Done()
				}
			}
		})
		first.Wait() // one after the other, so that each knows of those before
	}
	for i, want := range []int{0, 5, 5} { // node 0 leads
		if _, streams := c.nodes[i].counts(); streams != want {
			t.Errorf("node %d is read from %d times, want %d", i, streams, want)
		}
	}
}

// A connection has room for a hundred calls, and a server says nothing to those that wait for it: more partitions than there is room for are
// refused, as many as there is room for are read, and other calls still find theirs.
func TestManyReads(t *testing.T) {
	c := newFake(t, 2)
	c.topic("much", 2*maxReads)
	c.topic("too-much", 2*maxReads+1)
	ctx := limited(t)
	for topic, want := range map[string]error{"much": nil, "too-much": ErrTooManyReads} {
		cl := c.client(Options{Partitioner: Manual})
		c.connected(ctx, cl)
		for p := range c.mu.counts[topic] {
			if err := cl.Produce(ctx, &Record{Topic: topic, Partition: p}); err != nil {
				t.Fatal(err)
			}
		}
		seen := map[int32]bool{}
		var ended error
		for r, err := range cl.Read(ctx, ReadOptions{Topic: topic}) {
			if ended = err; err != nil {
				break
			}
			if seen[r.Partition] = true; want == nil && len(seen) == 2*maxReads {
				if err := cl.Produce(ctx, &Record{Topic: topic, Partition: 0}); err != nil {
					t.Error(err)
				}
				break
			}
		}
		if !errors.Is(ended, want) || want == nil && len(seen) != 2*maxReads {
			t.Errorf("%s: %d partitions are read, %v", topic, len(seen), ended)
		}
	}
}

// As many partitions as no server has take no memory, and a name that no topic can have keeps nobody from any other.
func TestAbsurdTopics(t *testing.T) {
	t.Parallel()
	c := newFake(t, 1)
	c.mu.counts["most"], c.mu.counts["least"] = math.MaxInt32, math.MinInt32
	ctx := limited(t)
	cl := c.client(Options{})
	for topic, want := range map[string]error{"most": ErrTooManyReads, "least": errNotFound} {
		if err := endOf(cl.Read(ctx, ReadOptions{Topic: topic})); !errors.Is(err, want) {
			t.Errorf("%s: %v", topic, err)
		}
	}
	records := quorlogv1.NewRecordsClient(cl.Conn())
	for i, name := range []string{"\xff", strings.Repeat("x", 1<<17), strings.Repeat("x", 250), "", ".", "..", "a b", "a/b", "\u00e4"} {
		if err := endOf(cl.Read(ctx, ReadOptions{Topic: name})); !errors.Is(err, errTopicName) {
			t.Errorf("%.20q is read: %v", name, err)
		}
		if err := cl.Send(ctx, &Record{Topic: name}, nil); !errors.Is(err, errTopicName) {
			t.Errorf("%.20q is written: %v", name, err)
		}
		if _, err := records.ConsumeStream(For(ctx, name, 0), &quorlogv1.ConsumeRequest{}); !errors.Is(err, errTopicName) {
			t.Errorf("%.20q is streamed: %v", name, err)
		}
		reached := codes.Unimplemented // a bare call is the server's to judge; this one has no such method
		if !utf8.ValidString(name) {
			reached = codes.Internal
		}
		if _, err := records.Produce(ctx, &quorlogv1.ProduceRequest{Topic: name, Partition: proto.Int32(0)}); status.Code(err) != reached {
			t.Errorf("%.20q of a bare call: %v", name, err)
		}
		topic := "good-" + strconv.Itoa(i)
		c.topic(topic, 1)
		if err := cl.Produce(ctx, &Record{Topic: topic}); err != nil {
			t.Errorf("after %.20q: %v", name, err)
		}
	}
	for _, name := range []string{strings.Repeat("x", 249), "aA0._-"} {
		c.topic(name, 1)
		if err := cl.Produce(ctx, &Record{Topic: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadStarts(t *testing.T) {
	c := newFake(t, 3)
	c.topic("t", 1)
	ctx := limited(t)
	cl := c.client(Options{})
	for i := range 10 {
		if err := cl.Produce(ctx, &Record{Topic: "t", Value: []byte(strconv.Itoa(i))}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		o    ReadOptions
		want int64
	}{
		{ReadOptions{}, 0}, {ReadOptions{Start: At(4)}, 4}, {ReadOptions{Start: Latest(), Offsets: map[int32]int64{0: 7}}, 7}, {ReadOptions{Partitions: []int32{0}, Start: Earliest()}, 0},
	} {
		c.o.Topic = "t"
		began := false
		for r, err := range cl.Read(ctx, c.o) {
			if began = true; err != nil || r.Offset != c.want {
				t.Errorf("%+v: %v %v", c.o, r, err)
			}
			break
		}
		if !began {
			t.Errorf("%+v: nothing", c.o)
		}
	}
	var out *OutOfRangeError
	if err := endOf(cl.Read(ctx, ReadOptions{Topic: "t", Start: At(11)})); !errors.As(err, &out) || out.End != 10 || Reason(err) != "OFFSET_OUT_OF_RANGE" {
		t.Error(err)
	}
	if err := endOf(cl.Read(ctx, ReadOptions{Topic: "t", Partitions: []int32{1}})); !errors.Is(err, ErrPartition) {
		t.Error(err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := endOf(cl.Read(ended, ReadOptions{Topic: "t", Start: Latest()})); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// endOf is what ends a Read that is not left; nil if nothing does.
func endOf(read iter.Seq2[*Record, error]) (end error) {
	for _, err := range read {
		end = err
	}
	return end
}

// A loop that is left when its context has ended, or its client is closed, is left all the same: it gets no error behind its end.
func TestReadIsLeftAfterItsEnd(t *testing.T) {
	ctx := limited(t)
	c := newFake(t, 1)
	c.topic("t", 2)
	writer := c.client(Options{Partitioner: Manual})
	if err := writer.Produce(ctx, &Record{Topic: "t", Value: []byte("a")}, &Record{Topic: "t", Partition: 1, Value: []byte("b")}); err != nil {
		t.Fatal(err)
	}
	for _, partitions := range [][]int32{{0}, {0, 1}, nil} {
		for name, end := range map[string]func(cl *Client, cancel func()){
			"the context has ended": func(_ *Client, cancel func()) { cancel() },
			"the client is closed":  func(cl *Client, _ func()) { cl.Close() },
		} {
			cl := c.client(Options{})
			reading, cancel := context.WithCancel(ctx)
			rounds := 0
			for _, err := range cl.Read(reading, ReadOptions{Topic: "t", Partitions: partitions}) {
				if err != nil {
					t.Errorf("%v, %s: %v", partitions, name, err)
				}
				rounds++
				end(cl, cancel)
				break
			}
			cancel()
			if rounds != 1 {
				t.Errorf("%v, %s: %d rounds", partitions, name, rounds)
			}
		}
	}
}

// Calls of the generated client go the same ways.
func TestConn(t *testing.T) {
	t.Parallel()
	c := newFake(t, 3)
	c.topic("t", 3)
	cl := c.client(Options{Partitioner: Manual})
	ctx := limited(t)
	c.connected(ctx, cl)
	records := quorlogv1.NewRecordsClient(cl.Conn())
	for range 5 {
		stream, err := records.ConsumeStream(For(ctx, "t", 1), &quorlogv1.ConsumeRequest{Topic: "t", Partition: 1})
		if err != nil {
			t.Fatal(err)
		}
		if err := cl.Produce(ctx, &Record{Topic: "t", Partition: 1, Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if _, streams := c.nodes[1].counts(); streams != 0 {
		t.Errorf("the leader is read from %d times", streams)
	}
	if _, err := records.ConsumeStream(For(ctx, "nowhere", 0), &quorlogv1.ConsumeRequest{Topic: "nowhere"}); Reason(err) != "UNKNOWN_TOPIC_OR_PARTITION" {
		t.Error(err)
	}
}
