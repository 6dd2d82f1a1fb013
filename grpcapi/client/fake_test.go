package client

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"

	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(&examples{M: m}) }

// patience bounds a test's waits; it is never met.
const patience = time.Minute

func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// fakeCluster is some servers with the same data, which do to their clients what nodes do when they fail.
type fakeCluster struct {
	t     *testing.T
	nodes []*fakeNode
	mu    struct {
		sync.Mutex
		partitions map[partitionKey]*fakePartition
		counts     map[string]int32 // partitions, by topic
		changed    chan struct{}    // closed when something is stored or moves
		producers  int64
		missed     int // reads of what is not there
		chaos      func(node int) chaos
	}
}

// chaos is what becomes of a request.
type chaos uint8

const (
	fine      chaos = iota
	refuses         // NOT_LEADER_OR_FOLLOWER
	timesOut        // stored, and nobody knows
	forgets         // not stored, and nobody knows
	breaks          // stored; the stream ends instead of an answer
	breaksOff       // not stored; as above
	lies            // stored, and another batch is answered for
	hangs           // nothing ever again on this stream
)

type fakePartition struct {
	partition
	leader  int
	follows []int
	records []*quorlogv1.Record
}

type fakeNode struct {
	quorlogv1.UnimplementedRecordsServer
	quorlogv1.UnimplementedClusterServer
	c      *fakeCluster
	id     int
	addr   string
	server *grpc.Server
	silent bool // GetServers does not name it
	mu     struct {
		sync.Mutex
		produced, streams, links int // batches, ConsumeStreams and ProduceStreams
		kick                     chan struct{}
	}
}

func newFake(t *testing.T, nodes int) *fakeCluster {
	t.Helper()
	c := &fakeCluster{t: t}
	c.mu.partitions, c.mu.counts, c.mu.changed = map[partitionKey]*fakePartition{}, map[string]int32{}, make(chan struct{})
	c.mu.chaos = func(int) chaos { return fine }
	for id := range nodes {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		n := &fakeNode{c: c, id: id, addr: l.Addr().String()}
		n.mu.kick = make(chan struct{})
		c.nodes = append(c.nodes, n)
		n.serve(l)
	}
	return c
}

func (n *fakeNode) serve(l net.Listener) {
	n.server = grpc.NewServer(grpc.MaxConcurrentStreams(100))
	quorlogv1.RegisterRecordsServer(n.server, n)
	quorlogv1.RegisterClusterServer(n.server, n)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = n.server.Serve(l) // it ends with the test
	}()
	n.c.t.Cleanup(func() {
		n.server.Stop()
		<-ended
	})
}

func (c *fakeCluster) topic(name string, partitions int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.growLocked(name, 0, partitions)
}

// grow adds partitions to a topic, up to a number.
func (c *fakeCluster) grow(name string, partitions int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.growLocked(name, c.mu.counts[name], partitions)
}

func (c *fakeCluster) growLocked(name string, from, to int32) {
	c.mu.counts[name] = to
	for i := from; i < to; i++ {
		p := &fakePartition{partition: partition{producers: map[int64]*memory{}}, leader: int(i) % len(c.nodes)}
		for id := range c.nodes {
			if id != p.leader {
				p.follows = append(p.follows, id)
			}
		}
		c.mu.partitions[partitionKey{name, i}] = p
	}
	c.tellLocked()
}

func (c *fakeCluster) tellLocked() {
	close(c.mu.changed)
	c.mu.changed = make(chan struct{})
}

// move has another node lead a partition.
func (c *fakeCluster) move(key partitionKey, to int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.mu.partitions[key]
	if p.leader != to {
		p.follows = append(slices.DeleteFunc(p.follows, func(id int) bool { return id == to }), p.leader)
		p.leader = to
	}
	c.tellLocked()
}

// log is what a partition holds, as text.
func (c *fakeCluster) log(key partitionKey) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.mu.partitions[key].partition.log)
}

func (c *fakeCluster) target() string {
	addrs := make([]string, len(c.nodes))
	for i, n := range c.nodes {
		addrs[i] = n.addr
	}
	return Scheme + ":///" + strings.Join(addrs, ",")
}

func (c *fakeCluster) client(o Options) *Client {
	c.t.Helper()
	cl, err := New(c.target(), o)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(cl.Close)
	return cl
}

// kick ends the streams of a node.
func (n *fakeNode) kick() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.mu.kick)
	n.mu.kick = make(chan struct{})
}

func (n *fakeNode) counts() (produced, streams int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.produced, n.mu.streams
}

// GetServers implements quorlogv1.ClusterServer.
func (n *fakeNode) GetServers(_ context.Context, req *quorlogv1.GetServersRequest) (*quorlogv1.GetServersResponse, error) {
	c := n.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if proto.Size(req) > 64<<10 {
		return nil, status.Error(codes.ResourceExhausted, "a large request")
	}
	out := &quorlogv1.GetServersResponse{Partitions: map[string]int32{}}
	for _, topic := range req.GetTopics() {
		if n, ok := c.mu.counts[topic]; ok {
			out.Partitions[topic] = n
		}
	}
	for _, node := range c.nodes {
		if node.silent {
			continue
		}
		s := &quorlogv1.Server{Id: int32(node.id), Address: node.addr, Alive: true}
		for key, p := range c.mu.partitions {
			if !slices.Contains(req.GetTopics(), key.topic) {
				continue
			}
			ref := &quorlogv1.PartitionRef{Topic: key.topic, Partition: key.partition}
			if p.leader == node.id {
				s.Leads = append(s.Leads, ref)
			} else if slices.Contains(p.follows, node.id) {
				s.Follows = append(s.Follows, ref)
			}
		}
		out.Servers = append(out.Servers, s)
	}
	return out, nil
}

// InitProducer implements quorlogv1.RecordsServer.
func (n *fakeNode) InitProducer(context.Context, *quorlogv1.InitProducerRequest) (*quorlogv1.InitProducerResponse, error) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.c.mu.producers++
	return &quorlogv1.InitProducerResponse{ProducerId: n.c.mu.producers}, nil
}

func failure(code codes.Code, reason string, details ...protoadapt.MessageV1) error {
	st := status.New(code, reason)
	if full, err := st.WithDetails(append(details, &errdetails.ErrorInfo{Domain: "quorlog", Reason: reason})...); err == nil {
		st = full
	}
	return st.Err()
}

func failed(code codes.Code, reason string) *quorlogv1.ProduceStreamResponse_Error {
	return &quorlogv1.ProduceStreamResponse_Error{Error: &quorlogv1.Error{Code: int32(code), Reason: reason, Message: reason}}
}

// ProduceStream implements quorlogv1.RecordsServer.
func (n *fakeNode) ProduceStream(stream grpc.BidiStreamingServer[quorlogv1.ProduceStreamRequest, quorlogv1.ProduceStreamResponse]) error {
	n.mu.Lock()
	n.mu.links++
	kick := n.mu.kick
	n.mu.Unlock()
	answers := make(chan *quorlogv1.ProduceStreamResponse, 300)
	ended := make(chan error, 1)
	go func() {
		defer close(answers)
		for {
			req, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				ended <- err
				return
			}
			answer, err := n.produce(req)
			switch {
			case err != nil:
				ended <- err
				return
			case answer == nil:
				<-stream.Context().Done()
			default:
				answers <- answer
			}
		}
	}()
	for {
		select {
		case <-kick:
			return status.Error(codes.Unavailable, "kicked")
		case err := <-ended:
			return err
		case a, ok := <-answers:
			if !ok {
				return nil
			}
			if err := stream.Send(a); err != nil {
				return err
			}
		}
	}
}

// produce stores a batch. The error is for the stream; no answer: it is to hang.
func (n *fakeNode) produce(req *quorlogv1.ProduceStreamRequest) (*quorlogv1.ProduceStreamResponse, error) {
	n.mu.Lock()
	n.mu.produced++
	n.mu.Unlock()
	c := n.c
	c.mu.Lock()
	defer c.mu.Unlock()
	out := &quorlogv1.ProduceStreamResponse{Id: req.GetId()}
	p := c.mu.partitions[partitionKey{req.GetBatch().GetTopic(), req.GetBatch().GetPartition()}]
	if p == nil {
		out.Result = failed(codes.NotFound, "UNKNOWN_TOPIC_OR_PARTITION")
		return out, nil
	}
	what := c.mu.chaos(n.id)
	switch what {
	case refuses:
		out.Result = failed(codes.Unavailable, "NOT_LEADER_OR_FOLLOWER")
		return out, nil
	case forgets:
		out.Result = failed(codes.DeadlineExceeded, "REQUEST_TIMED_OUT")
		return out, nil
	case breaksOff:
		return nil, errBroken
	case hangs:
		return nil, nil
	}
	before := len(p.partition.log)
	o := p.store(req.GetBatch())
	for i, r := range req.GetBatch().GetRecords()[:len(p.partition.log)-before] {
		p.records = append(p.records, &quorlogv1.Record{Key: r.Key, Value: r.Value, Headers: r.GetHeaders(), TimestampMs: r.TimestampMs, Offset: int64(before + i)})
	}
	c.tellLocked()
	switch {
	case what == lies:
		out.Id += 7
	case what == breaks:
		return nil, errBroken
	case what == timesOut:
		out.Result = failed(codes.DeadlineExceeded, "REQUEST_TIMED_OUT")
	case o.err != nil:
		out.Result = failed(status.Code(o.err), Reason(o.err))
	default:
		b := &quorlogv1.ProducedBatch{Partition: req.GetBatch().GetPartition(), BaseOffset: o.base, AppendTimeMs: -1}
		if p.leader != n.id {
			b.Leader = &quorlogv1.NotLeader{Leader: int32(p.leader), Address: c.nodes[p.leader].addr}
		}
		out.Result = &quorlogv1.ProduceStreamResponse_Produced{Produced: &quorlogv1.ProduceResponse{Batches: []*quorlogv1.ProducedBatch{b}}}
	}
	return out, nil
}

var errBroken = status.Error(codes.Unavailable, "broken")

// from is what a partition has from an offset on, a few records at most, and what is closed when there may be more.
func (c *fakeCluster) from(req *quorlogv1.ConsumeRequest, next int64) (*quorlogv1.ConsumeResponse, <-chan struct{}, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.mu.partitions[partitionKey{req.GetTopic(), req.GetPartition()}]
	if p == nil {
		c.mu.missed++
		c.tellLocked()
		return nil, nil, failure(codes.NotFound, "UNKNOWN_TOPIC_OR_PARTITION")
	}
	end := int64(len(p.records))
	if next < 0 {
		next = end
	}
	if next > end {
		return nil, nil, failure(codes.OutOfRange, "OFFSET_OUT_OF_RANGE", &quorlogv1.OffsetRange{EndOffset: end})
	}
	upTo := min(end, next+int64(rand.IntN(5))+1)
	return &quorlogv1.ConsumeResponse{Records: p.records[next:upTo], NextOffset: upTo}, c.mu.changed, nil
}

// beginning is where a request begins; -1 for the end.
func beginning(req *quorlogv1.ConsumeRequest) int64 {
	if req.GetEdge() == quorlogv1.Edge_EDGE_LATEST {
		return -1
	}
	return req.GetOffset()
}

// Consume implements quorlogv1.RecordsServer.
func (n *fakeNode) Consume(_ context.Context, req *quorlogv1.ConsumeRequest) (*quorlogv1.ConsumeResponse, error) {
	got, _, err := n.c.from(req, beginning(req))
	return got, err
}

// ConsumeStream implements quorlogv1.RecordsServer.
func (n *fakeNode) ConsumeStream(req *quorlogv1.ConsumeRequest, stream grpc.ServerStreamingServer[quorlogv1.ConsumeResponse]) error {
	n.mu.Lock()
	n.mu.streams++
	kick := n.mu.kick
	n.mu.Unlock()
	for next := beginning(req); ; {
		got, changed, err := n.c.from(req, next)
		if err != nil {
			return err
		}
		next = got.GetNextOffset()
		if len(got.GetRecords()) > 0 {
			if err := stream.Send(got); err != nil {
				return err
			}
			continue
		}
		select {
		case <-kick:
			return status.Error(codes.Unavailable, "kicked")
		case <-changed:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}
