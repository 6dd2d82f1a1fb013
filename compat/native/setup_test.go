package native

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/quorlog/quorlog/agent"
	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
	"github.com/quorlog/quorlog/internal/leaks"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, leaks.Gossip()...)
}

// world is a cluster and clients of all kinds.
type world struct {
	*testing.T
	ctx   context.Context
	addrs []string
	conns []*grpc.ClientConn // one to each node
	kafka *kgo.Client
	admin *kadm.Client
}

// patience is for how long a test waits for anything; it is never met.
const patience = 2 * time.Minute

// limited is a world without anything, whose waits end when the test's patience does.
func limited(t *testing.T) *world {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return &world{T: t, ctx: ctx}
}

// part runs a part of a test, which may wait for as long as a whole one.
func (w *world) part(t *testing.T, do func(*world)) {
	own := *w
	own.T, own.ctx = t, limited(t).ctx
	do(&own)
}

func newWorld(t *testing.T, nodes int) *world {
	t.Helper()
	// None of these tests is about fail-over: where processors are held up, leaderships are to stay where they are.
	settings := map[string]string{"quorlog.election.timeout.ms": "10000"}
	c, err := agent.NewCluster(agent.ClusterConfig{
		Nodes: nodes, Dir: t.TempDir(), Settings: settings, Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		OnFatal: func(err error) { t.Errorf("fatal: %v", err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	w := limited(t)
	t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	w.must(c.Start(w.ctx))
	for _, n := range c.Nodes() {
		w.addrs = append(w.addrs, n.Addr())
		w.conns = append(w.conns, dial(t, n.Addr()))
	}
	w.kafka = w.client()
	w.admin = kadm.NewClient(w.kafka)
	return w
}

func dial(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return cc
}

// dialLarge is a client of the first node that takes large answers.
func dialLarge(w *world) quorlogv1.RecordsClient {
	w.Helper()
	cc, err := grpc.NewClient("passthrough:///"+w.addrs[0], grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	w.must(err)
	w.Cleanup(func() { _ = cc.Close() })
	return quorlogv1.NewRecordsClient(cc)
}

func (w *world) client(opts ...kgo.Opt) *kgo.Client {
	w.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(w.addrs...), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(cl.Close)
	return cl
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) topic(name string, partitions int32) {
	w.Helper()
	_, err := w.topics(0).CreateTopic(w.ctx, &quorlogv1.CreateTopicRequest{Name: name, Partitions: partitions, ReplicationFactor: int32(min(len(w.addrs), 3))})
	w.must(err)
	for node := range w.conns { // who asks another node may find it without the topic for a moment
		w.eventually(func() bool {
			got, err := w.topics(node).DescribeTopic(w.ctx, &quorlogv1.DescribeTopicRequest{Name: name})
			for _, p := range got.GetPartitions() {
				if p.GetLeader() < 0 || len(p.GetInSync()) < len(p.GetReplicas()) {
					return false
				}
			}
			return err == nil
		})
	}
}

// eventually waits for a condition.
func (w *world) eventually(holds func() bool) {
	w.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-w.ctx.Done():
			w.Fatal("it did not come to be")
		}
	}
}

func (w *world) records(node int) quorlogv1.RecordsClient {
	return quorlogv1.NewRecordsClient(w.conns[node])
}
func (w *world) topics(node int) quorlogv1.TopicsClient {
	return quorlogv1.NewTopicsClient(w.conns[node])
}
func (w *world) groups(node int) quorlogv1.GroupsClient {
	return quorlogv1.NewGroupsClient(w.conns[node])
}
func (w *world) cluster(node int) quorlogv1.ClusterClient {
	return quorlogv1.NewClusterClient(w.conns[node])
}

// leader is the number of the node that leads a partition.
func (w *world) leader(topic string, partition int32) int {
	w.Helper()
	var at int
	w.eventually(func() bool {
		got, err := w.topics(0).DescribeTopic(w.ctx, &quorlogv1.DescribeTopicRequest{Name: topic})
		if err != nil || got.GetPartitions()[partition].GetLeader() < 0 {
			return false
		}
		at = int(got.GetPartitions()[partition].GetLeader()) - 1
		return true
	})
	return at
}

// listed is a node's list of the cluster's groups. Whoever has begun to coordinate some says for a while that they are loading.
func (w *world) listed(node int) *quorlogv1.ListGroupsResponse {
	w.Helper()
	var list *quorlogv1.ListGroupsResponse
	w.eventually(func() bool {
		got, err := w.groups(node).ListGroups(w.ctx, &quorlogv1.ListGroupsRequest{})
		if status.Code(err) == codes.Unavailable {
			return false
		}
		w.must(err)
		list = got
		return true
	})
	return list
}

// refused checks an error's code and reason.
func (w *world) refused(err error, code codes.Code, reason string) *status.Status {
	w.Helper()
	st, _ := status.FromError(err)
	got := ""
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			got = info.GetReason()
		}
	}
	if st.Code() != code || got != reason {
		w.Errorf("%v %q (%v), want %v %q", st.Code(), got, err, code, reason)
	}
	return st
}

// get asks by HTTP.
func (w *world) http(method, url string, body io.Reader) (int, string) {
	w.Helper()
	req, err := http.NewRequestWithContext(w.ctx, method, url, body)
	w.must(err)
	transport := &http.Transport{DialContext: (&net.Dialer{}).DialContext}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	w.must(err)
	text, err := io.ReadAll(resp.Body)
	w.must(err)
	w.must(resp.Body.Close())
	return resp.StatusCode, string(text)
}

func ptr[T any](v T) *T { return &v }
