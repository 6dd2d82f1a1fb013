package api

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/broker/produce"
	"github.com/quorlog/quorlog/broker/txn"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// seen is what an answer says: the code of the thing that a need is about, and the names of what was done or told.
type seen struct {
	code  kafkaproto.Code
	names []string
}

// probe is a use of a key that asks by itself, or leaves out what is denied.
type probe struct {
	name  string
	key   kafkaproto.Key
	needs []need
	names broker.ResourceType // of seen.names
	try   func(*client) seen
}

// The one that alice's rules are about, and another beside it, of each type of resource.
var beside = map[broker.ResourceType][2]string{
	broker.TopicResource: {"orders", "bills"}, broker.GroupResource: {"g", "hidden"}, broker.TransactionalIDResource: {"t", "s"},
}

// want is what a probe is to see in a scenario of one of its needs; root may do everything.
func (p *probe) want(about need, s *scenario, root bool) seen {
	if !root && !s.allowed(about) {
		return seen{code: about.code}
	}
	names := beside[p.names]
	if root || about.on == broker.Cluster || s.name == "wildcard" && about.on.Type == p.names {
		return seen{names: names[:]}
	}
	return seen{names: names[:1]}
}

// TestAskingKeysInEveryScenario tries the keys that no guard stands in front of, and those whose guards hide, for each right that
// they need, in each scenario, while all their other needs are met.
func TestAskingKeysInEveryScenario(t *testing.T) {
	w := newAskedWorld(t)
	tried := map[kafkaproto.Key]bool{}
	for _, p := range w.probes() {
		tried[p.key] = true
		for missing, about := range p.needs {
			for _, s := range scenarios {
				list := s.rules(about)
				for i, other := range p.needs {
					if i != missing {
						list = append(list, allow(other.op, other.on))
					}
				}
				w.api.Authorizer = rules(list...)
				w.check(fmt.Sprintf("%s, %d, %s", p.name, missing, s.name), &p, "alice", p.want(about, &s, false))
			}
			w.api.Authorizer = rules()
			w.check(p.name+", super user", &p, "root", p.want(about, nil, true))
		}
	}
	for key, elsewhere := range guardedElsewhere {
		if has := elsewhere == t.Name(); has != tried[key] {
			t.Errorf("%s: tried %v, said to be %v", key, tried[key], has)
		}
	}
	w.api.Authorizer = rules()
	for topic, want := range w.written {
		if got := w.latest(w.client("root"), topic, 0); got != want {
			t.Errorf("%s has %d records, the answers told of %d", topic, got, want)
		}
	}
}

// askedWorld has topics, groups and transactional ids of the names of beside.
type askedWorld struct {
	*node
	api     *API
	ids     map[string]replication.TopicID
	joined  []string         // topics that the coordinator of transactions was asked about
	written map[string]int64 // records, by topic, as answered
	next    int64            // producer id, and member of a share group
}

func newAskedWorld(t *testing.T) *askedWorld {
	a, n, id := newShareAPI(t)
	w := &askedWorld{node: n, api: a, ids: map[string]replication.TopicID{"orders": id, "bills": n.createTopic("bills", 1)}, written: map[string]int64{}}
	a.Produce = produce.New(produce.Options{Partitions: admin.NewPartitions(n.ctl, n.manager, nil), Transactions: w})
	a.Txn = newMemTxn(t)
	root := w.client("root")
	for i := range 2 {
		w.write(root, beside[broker.TopicResource][i])
		beat := joiningConsumer(beside[broker.GroupResource][i], "m")
		wantError(t, "group", ask[*kmsg.ConsumerGroupHeartbeatResponse](root, beat, 1).ErrorCode, 0)
		init := kmsg.NewPtrInitProducerIDRequest()
		init.TransactionalID, init.TransactionTimeoutMillis = kmsg.StringPtr(beside[broker.TransactionalIDResource][i]), 60_000
		wantError(t, "transactional id", ask[*kmsg.InitProducerIDResponse](root, init, 4).ErrorCode, 0)
	}
	return w
}

// newMemTxn is a coordinator of all transactional ids, whose log is in memory.
func newMemTxn(t *testing.T) *txn.Service {
	t.Helper()
	last := txn.ProducerID(100)
	s, err := txn.New(txn.Options{
		Logs: &memOffsets{}, Cluster: txnNode{}, Node: 3, Peers: noPeers{}, Logger: slog.New(slog.DiscardHandler),
		NewID: func(context.Context) (txn.ProducerID, error) { last++; return last, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.LeaderChanged(0, 1, true)
	for {
		if _, err := s.List(txn.ListRequest{Running: -1}); err == nil {
			return s // loaded
		}
	}
}

// txnNode is oneNode with __transaction_state.
type txnNode struct{ oneNode }

func (n txnNode) Topic(name string) (coordinator.Topic, bool) {
	if name == broker.TransactionTopic {
		return coordinator.Topic{Name: name, Partitions: 1}, true
	}
	return n.oneNode.Topic(name)
}

// Join agrees to everything. It is the coordinator that batches are verified with.
func (w *askedWorld) Join(_ context.Context, q produce.Transaction) ([]error, error) {
	for _, p := range q.Partitions {
		w.joined = append(w.joined, p.Topic)
	}
	return make([]error, len(q.Partitions)), nil
}

func (w *askedWorld) client(name string) *client {
	c := newClient(w.t, w.api)
	c.session.SetPrincipal(broker.Principal("User:" + name))
	return c
}

func (w *askedWorld) check(what string, p *probe, who string, want seen) {
	w.t.Helper()
	w.joined = nil
	got := p.try(w.client(who))
	if got.code != want.code || !slices.Equal(got.names, want.names) {
		w.t.Errorf("%s: %v of %q, want %v of %q", what, got.code, got.names, want.code, want.names)
	}
	for _, topic := range w.joined {
		if !slices.Contains(want.names, topic) {
			w.t.Errorf("%s: the coordinator was asked about %s", what, topic)
		}
	}
}

// write appends a record to a topic.
func (w *askedWorld) write(c *client, topic string) {
	w.t.Helper()
	resp := ask[*kmsg.ProduceResponse](c, produceRequest(topic, w.ids[topic], testBatch(w.t, "k", "v")), 12)
	wantError(w.t.(*testing.T), "write to "+topic, errorCodeOf(resp), 0)
	w.written[topic]++
}

func (w *askedWorld) probes() []probe {
	topic, group, id := broker.TopicResource, broker.GroupResource, broker.TransactionalIDResource
	hides := func(n need) []need { n.code = 0; return []need{n} }
	var all []probe
	for _, version := range []int16{12, 13} { // by name, by id
		all = append(all,
			probe{fmt.Sprint("Produce ", version), kafkaproto.KeyProduce, []need{needTopic(broker.Write)}, topic, w.produce(version, nil)},
			probe{fmt.Sprint("Produce in a transaction ", version), kafkaproto.KeyProduce, []need{needTxn(broker.Write), needTopic(broker.Write)}, topic,
				w.produce(version, kmsg.StringPtr(beside[id][0]))},
			probe{fmt.Sprint("Fetch ", version), kafkaproto.KeyFetch, []need{needTopic(broker.Read)}, topic, w.read(version)})
	}
	return append(all,
		probe{"ShareFetch", kafkaproto.KeyShareFetch, []need{needGroup(broker.Read), needTopic(broker.Read)}, topic, w.share},
		probe{"ListGroups", kafkaproto.KeyListGroups, hides(needGroup(broker.Describe)), group, listedGroups},
		probe{"ListGroups of the cluster", kafkaproto.KeyListGroups, hides(needCluster(broker.Describe)), group, listedGroups},
		probe{"ListTransactions", kafkaproto.KeyListTransactions, hides(needTxn(broker.Describe)), id, listedTransactions})
}

// produce writes a record to each topic.
func (w *askedWorld) produce(version int16, transaction *string) func(*client) seen {
	return func(c *client) (out seen) {
		w.next++
		opt := batch.BuildOptions{}
		if transaction != nil {
			opt = batch.BuildOptions{Transactional: true, Producer: &batch.Producer{ID: w.next}}
		}
		q := kmsg.NewPtrProduceRequest()
		for _, name := range beside[broker.TopicResource] {
			one := produceRequest(name, w.ids[name], producerBatch(w.t, opt, "k", "v"))
			one.Topics, q = append(q.Topics, one.Topics...), one
		}
		q.TransactionID = transaction
		for i, rt := range ask[*kmsg.ProduceResponse](c, q, version).Topics {
			name := beside[broker.TopicResource][i]
			if p := &rt.Partitions[0]; p.ErrorCode == 0 && p.BaseOffset >= 0 {
				out.names = append(out.names, name)
				w.written[name]++
			} else if i == 0 {
				out.code = kafkaproto.Code(p.ErrorCode)
			}
		}
		return out
	}
}

// read reads each topic from its beginning.
func (w *askedWorld) read(version int16) func(*client) seen {
	return func(c *client) (out seen) {
		q := fetchOf("orders", w.ids["orders"], 0, 0)
		q.Topics = append(q.Topics, fetchOf("bills", w.ids["bills"], 0, 0).Topics...)
		for i, rt := range ask[*kmsg.FetchResponse](c, q, version).Topics {
			if p := &rt.Partitions[0]; len(p.RecordBatches) > 0 {
				out.names = append(out.names, beside[broker.TopicResource][i])
			} else if i == 0 {
				out.code = kafkaproto.Code(p.ErrorCode)
			}
		}
		return out
	}
}

// share reads each topic as a new member of a share group, in one session each: a request waits for the first records only.
func (w *askedWorld) share(c *client) (out seen) {
	for i, name := range beside[broker.TopicResource] {
		w.write(w.client("root"), name) // so that there is something to acquire
		w.next++
		q := shareFetch(w.ids[name], 0)
		q.MemberID = kmsg.StringPtr(fmt.Sprint("m", w.next))
		q.MaxWaitMillis = int32(time.Minute.Milliseconds())
		resp := ask[*kmsg.ShareFetchResponse](c, q, 2)
		code := kafkaproto.Code(resp.ErrorCode)
		if code == 0 {
			if p := &resp.Topics[0].Partitions[0]; len(p.AcquiredRecords) > 0 && len(p.Records) > 0 {
				out.names = append(out.names, name)
			} else {
				code = kafkaproto.Code(p.ErrorCode)
			}
		}
		if i == 0 {
			out.code = code
		}
	}
	return out
}

func listedGroups(c *client) seen {
	resp := ask[*kmsg.ListGroupsResponse](c, kmsg.NewPtrListGroupsRequest(), 5)
	out := seen{code: kafkaproto.Code(resp.ErrorCode)}
	for _, g := range resp.Groups {
		out.names = append(out.names, g.Group)
	}
	slices.Sort(out.names)
	return out
}

func listedTransactions(c *client) seen {
	resp := ask[*kmsg.ListTransactionsResponse](c, kmsg.NewPtrListTransactionsRequest(), 2)
	out := seen{code: kafkaproto.Code(resp.ErrorCode)}
	for _, s := range resp.TransactionStates {
		out.names = append(out.names, s.TransactionalID)
	}
	slices.Sort(out.names)
	slices.Reverse(out.names) // as in beside
	return out
}
