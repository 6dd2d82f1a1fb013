package api

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/broker/auth"
	"github.com/quorlog/quorlog/broker/conn"
	"github.com/quorlog/quorlog/broker/coordinator/replicated"
	"github.com/quorlog/quorlog/broker/fetch"
	"github.com/quorlog/quorlog/broker/produce"
	"github.com/quorlog/quorlog/broker/txn"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
	"github.com/quorlog/quorlog/replication/partition"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// node is a broker without network: the real services over real partitions in a directory. Its metadata group is one
// machine that every command goes to at once.
type node struct {
	t         testing.TB
	api       *API
	ctl       *controller.Controller
	manager   *partition.Manager
	clusterID string
}

// atOnce is a metadata group of one that needs no log.
type atOnce struct {
	mu      sync.Mutex
	index   uint64
	machine *controller.Machine
}

func (g *atOnce) Propose(_ context.Context, command []byte) (any, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.index++
	return g.machine.Apply(g.index, command), nil
}

func (g *atOnce) IsLeader() bool             { return true }
func (g *atOnce) Leader() replication.NodeID { return 1 }

func newNode(t testing.TB) *node {
	t.Helper()
	return newNodeOn(t, vfs.OS{}, nil)
}

// newNodeOn starts a node on a file system, with settings of its own.
func newNodeOn(t testing.TB, fs vfs.FS, static map[string]string) *node {
	t.Helper()
	n := &node{t: t}
	dir := t.TempDir()
	machine := controller.NewMachine(controller.MachineOptions{Node: 1, Static: static, OnFatal: func(err error) { t.Error(err) }})
	n.ctl = controller.New(controller.Options{Machine: machine, Group: &atOnce{machine: machine}})
	t.Cleanup(n.ctl.Close)
	var err error
	n.manager, err = partition.NewManager(partition.Options{
		DataDir: dir, FS: fs, Node: 1, Logger: slog.New(slog.DiscardHandler), OnFatal: func(err error) { t.Error(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	n.follow()
	ctx := context.Background()
	if err := n.ctl.EnsureClusterID(ctx); err != nil {
		t.Fatal(err)
	}
	if err := n.ctl.RegisterNode(ctx, replication.Node{ID: 1, Host: "127.0.0.1", Port: 9092}); err != nil {
		t.Fatal(err)
	}
	n.clusterID = n.ctl.Image().ClusterID
	partitions := admin.NewPartitions(n.ctl, n.manager, nil)
	topic := replicated.New(replicated.Options{Partitions: n.manager, Controller: n.ctl, Topic: broker.TransactionTopic, Count: 3})
	transactions, err := txn.New(txn.Options{
		Logs: topic, Cluster: topic, Node: 1, Peers: noPeers{}, Logger: slog.New(slog.DiscardHandler),
		NewID: func(context.Context) (txn.ProducerID, error) { return 1, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transactions.Close)
	n.api = New(Services{
		Produce: produce.New(produce.Options{Partitions: partitions, Transactions: noPeers{}}),
		Txn:     transactions,
		Users:   auth.NewUsers(controller.NewUsers(n.ctl)),
		Fetch:   fetch.New(fetch.Options{Partitions: fetch.Local(partitions), Sessions: fetch.DefaultSessions}),
		Admin: admin.New(admin.Options{
			Node: 1, Images: n.ctl, Controller: n.ctl, Local: n.manager, FS: fs, DataDir: dir,
			Internal:   map[string]func(context.Context) error{broker.TransactionTopic: topic.EnsureTopic},
			LeaderWait: 30 * time.Second,
		}),
		Logger: slog.New(slog.DiscardHandler),
	})
	return n
}

// noPeers is other nodes that do not answer.
type noPeers struct{ txn.Peers }

func (noPeers) Join(context.Context, produce.Transaction) ([]error, error) {
	return nil, broker.ErrCoordinatorNotAvailable
}

// follow opens and closes partitions as the controller's image says, as an agent does.
func (n *node) follow() {
	changed := make(chan struct{}, 1)
	ended := make(chan struct{})
	cancel := n.ctl.Watch(func(_, _ *controller.Image) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		defer close(ended)
		for {
			select {
			case <-changed:
				n.reconcile(ctx)
			case <-ctx.Done():
				return
			}
		}
	}()
	n.t.Cleanup(func() {
		cancel()
		stop()
		<-ended
		if err := n.manager.Close(); err != nil {
			n.t.Error(err)
		}
	})
}

func (n *node) reconcile(ctx context.Context) {
	im := n.ctl.Image()
	for _, p := range n.manager.All() {
		if im.ByID[p.ID().Topic] == nil {
			if err := n.manager.Delete(ctx, p.ID()); err != nil && ctx.Err() == nil {
				n.t.Error(err)
			}
		}
	}
	for _, topic := range im.Topics {
		cfg := im.TopicConfig(topic.Name)
		for i, a := range topic.Partitions {
			id := replication.PartitionID{Topic: topic.ID, Partition: int32(i)}
			if _, err := n.manager.Ensure(ctx, id, topic.Name, a, cfg); err != nil && ctx.Err() == nil {
				n.t.Error(err)
			}
		}
	}
}

func (n *node) createTopic(name string, partitions int32) replication.TopicID {
	n.t.Helper()
	return n.createTopicWith(name, partitions, nil)
}

func (n *node) createTopicWith(name string, partitions int32, config map[string]string) replication.TopicID {
	n.t.Helper()
	topic := controller.NewTopic{Name: name, Partitions: partitions, ReplicationFactor: 1, Config: config, Internal: broker.IsInternalTopic(name)}
	r := n.api.Admin.CreateTopics(context.Background(), []controller.NewTopic{topic}, false)[0]
	if r.Err != nil {
		n.t.Fatal(r.Err)
	}
	return r.Topic.ID
}

// setBroker changes a setting of all brokers.
func (n *node) setBroker(name, value string) {
	n.t.Helper()
	ops := []controller.ConfigOp{{Name: name, Op: controller.OpSet, Value: value}}
	if err := n.ctl.AlterConfigs(context.Background(), controller.Resource{Type: controller.BrokerResource}, ops, false); err != nil {
		n.t.Fatal(err)
	}
}

// client sends requests to an API without a network in between.
type client struct {
	t       testing.TB
	api     *API
	session *conn.Session
	id      string
}

func newClient(t testing.TB, a *API) *client {
	return &client{t: t, api: a, id: "test", session: conn.NewSession(conn.SessionInfo{
		ID: 1, Listener: "PLAINTEXT", Remote: netip.MustParseAddrPort("127.0.0.1:5000"),
	})}
}

// errNoAnswer is what send returns for a request that gets no answer.
var errNoAnswer = errors.New("no answer")

// start dispatches a request at a version.
func (c *client) start(req kmsg.Request, version int16) conn.Call {
	req.SetVersion(version)
	h := kafkaproto.RequestHeader{Key: kafkaproto.Key(req.Key()), Version: version, CorrelationID: 7, ClientID: c.id, HasClientID: true}
	return c.api.Dispatch(context.Background(), c.session, h, req.AppendTo(nil))
}

// finish waits for a call and decodes its answer, which must be exactly one response of the request's kind.
func (c *client) finish(call conn.Call, req kmsg.Request) (kmsg.Response, error) {
	c.t.Helper()
	reply, err := call.Finish(context.Background())
	if err != nil {
		return nil, err
	}
	if reply.None {
		return nil, errNoAnswer
	}
	body, err := reply.Body.AppendTo(nil)
	reply.Body.Release()
	if err != nil {
		c.t.Fatal(err)
	}
	if len(body) != reply.Body.Size {
		c.t.Fatalf("%d bytes, %d promised", len(body), reply.Body.Size)
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if err := resp.ReadFrom(body); err != nil {
		c.t.Fatalf("%T version %d: %v", resp, req.GetVersion(), err)
	}
	if again := resp.AppendTo(nil); len(again) != len(body) {
		c.t.Fatalf("%T version %d: %d bytes, %d after a round trip", resp, req.GetVersion(), len(body), len(again))
	}
	return resp, nil
}

// ask sends a request and returns its answer.
func ask[R kmsg.Response](c *client, req kmsg.Request, version int16) R {
	c.t.Helper()
	resp, err := c.finish(c.start(req, version), req)
	if err != nil {
		c.t.Fatalf("%T version %d: %v", req, version, err)
	}
	return resp.(R)
}

// pipelined sends b.N copies of a request, a few of them at a time as clients do.
func pipelined(b *testing.B, c *client, q kmsg.Request) {
	const inFlight = 5
	q.SetVersion(12)
	body := q.AppendTo(nil)
	h := kafkaproto.RequestHeader{Key: kafkaproto.Key(q.Key()), Version: 12, ClientID: "bench", HasClientID: true}
	var calls []conn.Call
	finish := func() {
		reply, err := calls[0].Finish(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		reply.Body.Release()
		calls = append(calls[:0], calls[1:]...)
	}
	for b.Loop() {
		// Each request has a buffer of its own, as it would come from a connection.
		calls = append(calls, c.api.Dispatch(context.Background(), c.session, h, append([]byte(nil), body...)))
		if len(calls) == inFlight {
			finish()
		}
	}
	for len(calls) > 0 {
		finish()
	}
}

// latest is the high watermark of a partition, asked for as a client does.
func (n *node) latest(c *client, topic string, partition int32) int64 {
	c.t.Helper()
	q := minimal(c.t, kafkaproto.KeyListOffsets, 7, topic, [16]byte{}).(*kmsg.ListOffsetsRequest)
	q.Topics[0].Partitions[0].Partition = partition
	p := ask[*kmsg.ListOffsetsResponse](c, q, 7).Topics[0].Partitions[0]
	if p.ErrorCode != 0 {
		c.t.Fatal(kafkaproto.Code(p.ErrorCode))
	}
	return p.Offset
}

// fetch reads a partition from an offset on, without a session and without waiting.
func (n *node) fetch(c *client, topic string, partition int32, offset int64) *kmsg.FetchResponse {
	c.t.Helper()
	q := minimal(c.t, kafkaproto.KeyFetch, 12, topic, [16]byte{}).(*kmsg.FetchRequest)
	q.SessionEpoch = -1
	q.Topics[0].Partitions[0].Partition, q.Topics[0].Partitions[0].FetchOffset = partition, offset
	return ask[*kmsg.FetchResponse](c, q, 12)
}

// fetchAll reads all records of a partition.
func (n *node) fetchAll(c *client, topic string, partition int32) []batch.Record {
	c.t.Helper()
	var records []batch.Record
	for next, end := int64(0), n.latest(c, topic, partition); next < end; {
		p := n.fetch(c, topic, partition, next).Topics[0].Partitions[0]
		if p.ErrorCode != 0 || len(p.RecordBatches) == 0 {
			c.t.Fatalf("at %d of %d: %v, %d bytes", next, end, kafkaproto.Code(p.ErrorCode), len(p.RecordBatches))
		}
		frames, err := batch.Split(p.RecordBatches)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, f := range frames {
			err := batch.Iterate(f, func(r batch.Record) error {
				r.Key, r.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
				records = append(records, r)
				next = int64(r.Offset) + 1
				return nil
			})
			if err != nil {
				c.t.Fatal(err)
			}
		}
	}
	return records
}

func (noPeers) WriteMarkers(_ context.Context, _ replication.NodeID, markers []txn.Marker) ([]error, error) {
	each := make([]error, len(markers))
	for i := range each {
		each[i] = replication.ErrNotLeader
	}
	return each, nil
}
