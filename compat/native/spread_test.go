package native

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"

	"github.com/quorlog/quorlog/grpcapi/client"
	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
)

// tally counts the calls of a client by node, and the batches that a node had to hand on.
type tally struct {
	mu     sync.Mutex
	calls  map[string]map[string]int // by method and address
	reads  map[int32][]string        // where streams of a partition were opened
	handed int
	kept   int
}

func newTally() *tally {
	return &tally{calls: map[string]map[string]int{}, reads: map[int32][]string{}}
}

// at is how many calls of a method went to each address.
func (c *tally) at(method string) map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.calls[method])
}

type callKey struct{}

// call is one, and where it went.
type call struct{ method, addr string }

// TagRPC implements stats.Handler.
func (c *tally) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, callKey{}, &call{method: info.FullMethodName[strings.LastIndexByte(info.FullMethodName, '/')+1:]})
}

// HandleRPC implements stats.Handler.
func (c *tally) HandleRPC(ctx context.Context, event stats.RPCStats) {
	of, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch e := event.(type) {
	case *stats.OutHeader:
		of.addr = e.RemoteAddr.String()
		if c.calls[of.method] == nil {
			c.calls[of.method] = map[string]int{}
		}
		c.calls[of.method][of.addr]++
	case *stats.OutPayload:
		if sent, ok := e.Payload.(*quorlogv1.ConsumeRequest); ok && of.method == "ConsumeStream" {
			c.reads[sent.GetPartition()] = append(c.reads[sent.GetPartition()], of.addr)
		}
	case *stats.InPayload:
		if got, ok := e.Payload.(*quorlogv1.ProduceStreamResponse); ok {
			for _, b := range got.GetProduced().GetBatches() {
				if b.GetLeader() != nil {
					c.handed++
				} else {
					c.kept++
				}
			}
		}
	}
}

// TagConn implements stats.Handler.
func (c *tally) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (c *tally) HandleConn(context.Context, stats.ConnStats) {}

// leaders are the addresses of the nodes that lead a topic's partitions, by partition. It waits until all replicas are in sync.
func (w *world) leaders(topic string) (addrs []string) {
	w.Helper()
	w.eventually(func() bool {
		got, err := w.topics(0).DescribeTopic(w.ctx, &quorlogv1.DescribeTopicRequest{Name: topic})
		addrs = nil
		for _, p := range got.GetPartitions() {
			if p.GetLeader() < 1 || len(p.GetInSync()) < len(p.GetReplicas()) {
				return false
			}
			addrs = append(addrs, w.addrs[p.GetLeader()-1])
		}
		return err == nil
	})
	return addrs
}

// connected waits until a client has called all nodes: until then it may take what there is.
func (w *world) connected(c *client.Client, seen *tally) {
	w.Helper()
	w.eventually(func() bool {
		_, err := quorlogv1.NewClusterClient(c.Conn()).GetServers(w.ctx, &quorlogv1.GetServersRequest{ServersOnly: true})
		return err == nil && len(seen.at("GetServers")) == len(w.addrs)
	})
}

// The client of three nodes: what it writes goes to leaders, what it reads comes from followers, as much from one node as from another.
func clientSpreads(w *world) {
	const partitions = 12
	w.topic("spread", partitions)
	seen := newTally()
	c := newClient(w, w.addrs, client.Options{Partitioner: client.Manual, Dial: []grpc.DialOption{grpc.WithStatsHandler(seen)}})
	w.connected(c, seen)
	for round := range 20 {
		var records []*client.Record
		for p := range int32(partitions) {
			records = append(records, &client.Record{Topic: "spread", Partition: p, Value: []byte(strconv.Itoa(round))})
		}
		w.must(c.Produce(w.ctx, records...))
	}
	if at := seen.at("ProduceStream"); len(at) != 3 {
		w.Errorf("produced to %v", at)
	}
	seen.mu.Lock()
	if seen.kept < 20*partitions || seen.handed > 0 {
		w.Errorf("%d batches went to leaders, %d had to be handed on", seen.kept, seen.handed)
	}
	seen.mu.Unlock()
	leaders := w.leaders("spread")
	var before []int
	for node := range w.addrs {
		before = append(before, w.served(node, "ConsumeStream"))
	}
	n := 0
	for r, err := range c.Read(w.ctx, client.ReadOptions{Topic: "spread"}) {
		w.must(err)
		if string(r.Value) != strconv.FormatInt(r.Offset, 10) {
			w.Errorf("%d@%d: %s", r.Partition, r.Offset, r.Value)
		}
		if n++; n == 20*partitions {
			break
		}
	}
	const least = partitions/3 - 2
	for node := range w.addrs { // what the nodes themselves say
		w.eventually(func() bool { return w.served(node, "ConsumeStream") >= before[node]+least })
	}
	w.notFromLeaders(seen, leaders, w.leaders("spread"))
}

// notFromLeaders asks that no partition was read from its leader. Those whose leader has changed meanwhile can't be judged.
func (w *world) notFromLeaders(seen *tally, before, after []string) {
	w.Helper()
	seen.mu.Lock()
	defer seen.mu.Unlock()
	judged := 0
	for p, leader := range before {
		if after[p] != leader {
			continue
		}
		judged++
		if at := seen.reads[int32(p)]; len(at) == 0 || slices.Contains(at, leader) {
			w.Errorf("partition %d was read from %v, %s leads it", p, at, leader)
		}
	}
	if judged == 0 {
		w.Error("all leaders have changed: this has shown nothing")
	}
}

// Readers of one partition with three replicas are shared among its followers, and leave its leader alone.
func readersShared(w *world) {
	const readers = 6
	w.topic("shared", 1)
	seen := newTally()
	c := newClient(w, w.addrs, client.Options{Dial: []grpc.DialOption{grpc.WithStatsHandler(seen)}})
	w.connected(c, seen)
	w.must(c.Produce(w.ctx, &client.Record{Topic: "shared", Value: []byte("v")}))
	for {
		leader := w.leaders("shared")[0]
		var served []int
		for node := range w.addrs {
			served = append(served, w.served(node, "ConsumeStream"))
		}
		opened := seen.at("ConsumeStream")
		w.readTogether(c, readers)
		got := seen.at("ConsumeStream")
		if w.leaders("shared")[0] != leader {
			w.Log("the leader has changed: once more")
			continue
		}
		for node, addr := range w.addrs {
			want := readers / 2
			if addr == leader {
				want = 0
			}
			if n := got[addr] - opened[addr]; n != want {
				w.Fatalf("%d of %d readers read from %s, want %d; %s leads", n, readers, addr, want, leader)
			}
			w.eventually(func() bool { return w.served(node, "ConsumeStream") >= served[node]+want }) // what the nodes themselves say
		}
		return
	}
}

// readTogether opens readers one after the other, each of which gets a record, and then ends all.
func (w *world) readTogether(c *client.Client, readers int) {
	w.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	for range readers {
		came := make(chan error, 1)
		reading.Go(func() {
			for _, err := range c.Read(ctx, client.ReadOptions{Topic: "shared", Partitions: []int32{0}}) {
				came <- err
				<-ctx.Done()
				return
			}
		})
		w.must(<-came)
	}
}

// served is how many calls of a method a node has served, as its metrics say.
func (w *world) served(node int, method string) (n int) {
	w.Helper()
	_, text := w.http(http.MethodGet, "http://"+w.addrs[node]+"/metrics", nil)
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "quorlog_grpc_calls_total{") && strings.Contains(line, method) {
			count, err := strconv.Atoi(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]))
			w.must(err)
			n += count
		}
	}
	return n
}
