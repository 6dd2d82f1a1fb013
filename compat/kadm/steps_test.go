package kadm

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/compat/rig"
)

// target is a cluster under test and what the steps remember of it.
type target struct {
	*kadm.Client
	cl    *kgo.Client
	topic kadm.TopicID // of "t"
	token []byte       // of a delegation token
}

// step is one call. Steps build on each other, in the order of the list.
type step struct {
	method string // the method's name, after a space what is special
	call   func(context.Context, *target) (any, error)
}

// readers are what the names of methods begin with that change nothing.
var readers = []string{
	"ApiVersions", "BrokerMetadata", "Describe", "Fetch", "Find", "Lag", "List", "Metadata", "OffetForLeaderEpoch", "OffsetForLeaderEpoch", "Validate",
}

// reads tells whether the step may be made again.
func (s *step) reads() bool {
	return slices.ContainsFunc(readers, func(name string) bool { return strings.HasPrefix(s.method, name) })
}

func ptr[T any](v T) *T { return &v }

func offsets(topic string, p int32, at int64) kadm.Offsets {
	os := kadm.Offsets{}
	os.Add(kadm.Offset{Topic: topic, Partition: p, At: at, LeaderEpoch: -1, Metadata: "note"})
	return os
}

func set(topic string, partitions ...int32) kadm.TopicsSet {
	s := kadm.TopicsSet{}
	s.Add(topic, partitions...)
	return s
}

// acls is a filter and, as it names everything, also a binding.
func acls() *kadm.ACLBuilder {
	return kadm.NewACLs().Topics("t").Allow("User:ann").AllowHosts("*").Operations(kadm.OpRead).ResourcePatternType(kadm.ACLPatternLiteral)
}

// known are a few settings that every Kafka has.
var known = []string{"cleanup.policy", "retention.ms", "max.message.bytes", "message.max.bytes", "log.retention.ms"}

// created keeps those of new topics.
func created(topics kadm.CreateTopicResponses) kadm.CreateTopicResponses {
	for _, t := range topics {
		maps.DeleteFunc(t.Configs, func(name string, _ kadm.Config) bool { return !slices.Contains(known, name) })
	}
	return topics
}

// led asks for topics until all partitions have a leader: new ones take a moment.
func led(ctx context.Context, ask func(context.Context, ...string) (kadm.TopicDetails, error)) (kadm.TopicDetails, error) {
	for {
		topics, err := ask(ctx)
		missing := false
		topics.EachPartition(func(p kadm.PartitionDetail) { missing = missing || p.Err != nil })
		if !missing || err != nil || rig.Idle(20*time.Millisecond, ctx.Done()) {
			return topics, err
		}
	}
}

// configsOf keeps them.
func configsOf(all kadm.ResourceConfigs, err error) (any, error) {
	var kept []kadm.Config
	for _, r := range all {
		if r.Err != nil {
			return r.Err, err
		}
		for _, c := range r.Configs {
			if slices.Contains(known, c.Key) {
				kept = append(kept, kadm.Config{Key: c.Key, Value: c.Value, Sensitive: c.Sensitive})
			}
		}
	}
	return kept, err
}

var (
	alterTopic = []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: ptr("3600000")}}
	alterNode  = []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "log.retention.ms", Value: ptr("7200000")}}
	quotaOf    = kadm.ClientQuotaEntity{{Type: "client-id", Name: ptr("c")}}
	quota      = []kadm.AlterClientQuotaEntry{{Entity: quotaOf, Ops: []kadm.AlterClientQuotaOp{{Key: "producer_byte_rate", Value: 1e6}}}}
)

var topicSteps = []step{
	{"SetTimeoutMillis", func(_ context.Context, a *target) (any, error) { a.SetTimeoutMillis(20_000); return nil, nil }},
	{"CreateTopic", func(ctx context.Context, a *target) (any, error) {
		made, err := a.CreateTopic(ctx, 2, 3, nil, "t")
		return created(kadm.CreateTopicResponses{"t": made}), err
	}},
	{"CreateTopic again", func(ctx context.Context, a *target) (any, error) { return a.CreateTopic(ctx, 2, 3, nil, "t") }},
	{"CreateTopics", func(ctx context.Context, a *target) (any, error) {
		made, err := a.CreateTopics(ctx, 1, 3, map[string]*string{"cleanup.policy": ptr("compact")}, "u", "v", "bad name")
		return created(made), err
	}},
	{"ValidateCreateTopics", func(ctx context.Context, a *target) (any, error) {
		made, err := a.ValidateCreateTopics(ctx, 1, 3, nil, "not there", "w")
		return created(made), err
	}},
	{"ValidateCreatePartitions", func(ctx context.Context, a *target) (any, error) { return a.ValidateCreatePartitions(ctx, 2, "u") }},
	{"CreatePartitions", func(ctx context.Context, a *target) (any, error) { return a.CreatePartitions(ctx, 1, "u") }},
	{"ValidateUpdatePartitions", func(ctx context.Context, a *target) (any, error) { return a.ValidateUpdatePartitions(ctx, 1, "u") }},
	{"UpdatePartitions", func(ctx context.Context, a *target) (any, error) { return a.UpdatePartitions(ctx, 3, "u") }},
	{"ListTopics", func(ctx context.Context, a *target) (any, error) {
		topics, err := led(ctx, a.ListTopics)
		a.topic = topics["t"].ID
		return topics, err
	}},
	{"ListTopicsWithInternal", func(ctx context.Context, a *target) (any, error) {
		topics, err := led(ctx, a.ListTopicsWithInternal)
		topics.FilterInternal() // each cluster has its own
		return topics, err
	}},
	{"Metadata", func(ctx context.Context, a *target) (any, error) { return a.Metadata(ctx, "t", "none") }},
	{"BrokerMetadata", func(ctx context.Context, a *target) (any, error) {
		m, err := a.BrokerMetadata(ctx)
		return []any{len(m.Brokers), m.Topics}, err
	}},
	{"ListBrokers", func(ctx context.Context, a *target) (any, error) { b, err := a.ListBrokers(ctx); return len(b), err }},
	{"ApiVersions", func(ctx context.Context, a *target) (any, error) {
		versions, err := a.ApiVersions(ctx)
		return len(versions), err
	}},
	{"produce", func(ctx context.Context, a *target) (any, error) {
		for i := range 10 {
			r := &kgo.Record{Topic: "t", Partition: 0, Value: []byte("x"), Timestamp: time.UnixMilli(1_700_000_000_000 + int64(i)*1000)}
			if err := a.cl.ProduceSync(ctx, r).FirstErr(); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}},
	{"ListEndOffsets", func(ctx context.Context, a *target) (any, error) { return a.ListEndOffsets(ctx, "t", "none") }},
	{"ListCommittedOffsets", func(ctx context.Context, a *target) (any, error) { return a.ListCommittedOffsets(ctx, "t") }},
	{"ListMaxTimestampOffsets", func(ctx context.Context, a *target) (any, error) { return a.ListMaxTimestampOffsets(ctx, "t") }},
	{"ListOffsetsAfterMilli", func(ctx context.Context, a *target) (any, error) {
		return a.ListOffsetsAfterMilli(ctx, 1_700_000_003_500, "t")
	}},
	{"ListLocalLogStartOffsets", func(ctx context.Context, a *target) (any, error) { return a.ListLocalLogStartOffsets(ctx, "t") }},
	{"ListLatestRemoteOffsets", func(ctx context.Context, a *target) (any, error) { return a.ListLatestRemoteOffsets(ctx, "t") }},
	{"DeleteRecords", func(ctx context.Context, a *target) (any, error) {
		return a.DeleteRecords(ctx, offsets("t", 0, 3))
	}},
	{"DeleteRecords past the end", func(ctx context.Context, a *target) (any, error) {
		return a.DeleteRecords(ctx, offsets("t", 0, 99))
	}},
	{"ListStartOffsets", func(ctx context.Context, a *target) (any, error) { return a.ListStartOffsets(ctx, "t") }},
	{"OffsetForLeaderEpoch", func(ctx context.Context, a *target) (any, error) { return epochs(ctx, a.OffsetForLeaderEpoch) }},
	{"OffetForLeaderEpoch", func(ctx context.Context, a *target) (any, error) {
		//lint:ignore SA1019 it is exported, so somebody calls it
		return epochs(ctx, a.OffetForLeaderEpoch)
	}},
	{"ElectLeaders", func(ctx context.Context, a *target) (any, error) {
		return a.ElectLeaders(ctx, kadm.ElectPreferredReplica, set("t", 0, 1))
	}},
	{"AlterPartitionAssignments", func(ctx context.Context, a *target) (any, error) {
		var req kadm.AlterPartitionAssignmentsReq
		req.Assign("t", 0, nil) // there is none to cancel
		return a.AlterPartitionAssignments(ctx, req)
	}},
	{"ListPartitionReassignments", func(ctx context.Context, a *target) (any, error) {
		return a.ListPartitionReassignments(ctx, set("t", 0, 1))
	}},
	{"DescribeAllLogDirs", func(ctx context.Context, a *target) (any, error) {
		return contents(ctx, func() (kadm.DescribedAllLogDirs, error) { return a.DescribeAllLogDirs(ctx, set("t", 0)) })
	}},
	{"DescribeBrokerLogDirs", func(ctx context.Context, a *target) (any, error) {
		id := a.aBroker(ctx)
		return contents(ctx, func() (kadm.DescribedAllLogDirs, error) {
			dirs, err := a.DescribeBrokerLogDirs(ctx, id, set("t", 0))
			return kadm.DescribedAllLogDirs{id: dirs}, err
		})
	}},
	{"AlterAllReplicaLogDirs", func(ctx context.Context, a *target) (any, error) {
		return a.AlterAllReplicaLogDirs(ctx, kadm.AlterReplicaLogDirsReq{"/nowhere": set("t", 0)})
	}},
	{"AlterBrokerReplicaLogDirs", func(ctx context.Context, a *target) (any, error) {
		return a.AlterBrokerReplicaLogDirs(ctx, a.aBroker(ctx), kadm.AlterReplicaLogDirsReq{"/nowhere": set("t", 0)})
	}},
}

// contents are the brokers' directories without their names, and whether they have bytes and room. It asks until each broker has bytes
// of t's first partition: the last replica may be there a moment later than the leader.
func contents(ctx context.Context, ask func() (kadm.DescribedAllLogDirs, error)) (any, error) {
	for {
		brokers, err := ask()
		var all []any
		missing := false
		for _, dirs := range brokers {
			p, found := dirs.LookupPartition("t", 0)
			missing = missing || !found || p.Size == 0
			broker := []any{}
			for _, d := range dirs.Sorted() {
				broker = append(broker, []any{d, fmt.Sprint("bytes: ", d.Size() > 0, ", room: ", d.UsableBytes > 0)})
			}
			all = append(all, broker)
		}
		if !missing || err != nil || rig.Idle(20*time.Millisecond, ctx.Done()) {
			return all, err
		}
	}
}

func epochs(ctx context.Context, ask func(context.Context, kadm.OffsetForLeaderEpochRequest) (kadm.OffsetsForLeaderEpochs, error)) (any, error) {
	var req kadm.OffsetForLeaderEpochRequest
	req.Add("t", 0, 1<<20)
	return ask(ctx, req)
}

// aBroker is the id of one broker.
func (a *target) aBroker(ctx context.Context) int32 {
	brokers, err := a.Client.ListBrokers(ctx)
	if err != nil || len(brokers) == 0 {
		return 0
	}
	return brokers.NodeIDs()[0]
}

var configSteps = []step{
	{"ValidateAlterTopicConfigs", func(ctx context.Context, a *target) (any, error) {
		return a.ValidateAlterTopicConfigs(ctx, alterTopic, "t")
	}},
	{"AlterTopicConfigs", func(ctx context.Context, a *target) (any, error) { return a.AlterTopicConfigs(ctx, alterTopic, "t") }},
	{"AlterTopicConfigs of nonsense", func(ctx context.Context, a *target) (any, error) {
		return a.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: ptr("soon")}}, "t")
	}},
	{"ValidateAlterTopicConfigsState", func(ctx context.Context, a *target) (any, error) {
		return a.ValidateAlterTopicConfigsState(ctx, alterTopic, "t")
	}},
	{"AlterTopicConfigsState", func(ctx context.Context, a *target) (any, error) {
		return a.AlterTopicConfigsState(ctx, alterTopic, "t")
	}},
	{"DescribeTopicConfigs", func(ctx context.Context, a *target) (any, error) { return configsOf(a.DescribeTopicConfigs(ctx, "t")) }},
	{"ValidateAlterBrokerConfigs", func(ctx context.Context, a *target) (any, error) {
		return a.ValidateAlterBrokerConfigs(ctx, alterNode)
	}},
	{"AlterBrokerConfigs", func(ctx context.Context, a *target) (any, error) { return a.AlterBrokerConfigs(ctx, alterNode) }},
	{"ValidateAlterBrokerConfigsState", func(ctx context.Context, a *target) (any, error) {
		return a.ValidateAlterBrokerConfigsState(ctx, alterNode)
	}},
	{"AlterBrokerConfigsState", func(ctx context.Context, a *target) (any, error) { return a.AlterBrokerConfigsState(ctx, alterNode) }},
	{"DescribeBrokerConfigs", func(ctx context.Context, a *target) (any, error) {
		return configsOf(a.DescribeBrokerConfigs(ctx, a.aBroker(ctx)))
	}},
	{"ListConfigResources", func(ctx context.Context, a *target) (any, error) {
		return a.ListConfigResources(ctx, kadm.ConfigResourceTopic)
	}},
	{"UpdateFeatures", func(ctx context.Context, a *target) (any, error) {
		return a.UpdateFeatures(ctx, true, kadm.FeatureUpdate{Feature: "no.such.feature", MaxVersionLevel: 1, UpgradeType: 1})
	}},
}

var groupSteps = []step{
	{"CommitOffsets", func(ctx context.Context, a *target) (any, error) {
		return a.CommitOffsets(ctx, "g", offsets("t", 0, 5))
	}},
	{"CommitAllOffsets", func(ctx context.Context, a *target) (any, error) {
		return nil, a.CommitAllOffsets(ctx, "g", offsets("t", 1, 0))
	}},
	{"CommitAllOffsets of no topic", func(ctx context.Context, a *target) (any, error) {
		return nil, a.CommitAllOffsets(ctx, "g", offsets("none", 1, 0))
	}},
	{"CommitOffsetsByID", func(ctx context.Context, a *target) (any, error) { return a.CommitOffsetsByID(ctx, "h", a.byID()) }},
	{"CommitAllOffsetsByID", func(ctx context.Context, a *target) (any, error) {
		return nil, a.CommitAllOffsetsByID(ctx, "h", a.byID())
	}},
	{"FetchOffsets", func(ctx context.Context, a *target) (any, error) { return a.FetchOffsets(ctx, "g") }},
	{"FetchOffsetsByID", func(ctx context.Context, a *target) (any, error) { return a.FetchOffsetsByID(ctx, "h") }},
	{"FetchOffsetsForTopics", func(ctx context.Context, a *target) (any, error) { return a.FetchOffsetsForTopics(ctx, "g", "t", "u") }},
	{"FetchManyOffsets", func(ctx context.Context, a *target) (any, error) {
		return a.FetchManyOffsets(ctx, "g", "h", "none"), nil
	}},
	{"FindGroupCoordinators", func(ctx context.Context, a *target) (any, error) { return a.FindGroupCoordinators(ctx, "g", "h"), nil }},
	{"ListGroups", func(ctx context.Context, a *target) (any, error) { return a.ListGroups(ctx) }},
	{"ListGroups by state", func(ctx context.Context, a *target) (any, error) { return a.ListGroups(ctx, "Stable") }},
	{"ListGroupsByType", func(ctx context.Context, a *target) (any, error) {
		return a.ListGroupsByType(ctx, []string{"classic"}, "Empty")
	}},
	{"DescribeGroups", func(ctx context.Context, a *target) (any, error) { return a.DescribeGroups(ctx, "g", "none") }},
	{"DescribeConsumerGroups", func(ctx context.Context, a *target) (any, error) { return a.DescribeConsumerGroups(ctx, "none") }},
	{"Lag", func(ctx context.Context, a *target) (any, error) { return a.Lag(ctx, "g") }},
	{"LeaveGroup", func(ctx context.Context, a *target) (any, error) {
		return a.LeaveGroup(ctx, kadm.LeaveGroup("g").Reason("test").InstanceIDs("nobody"))
	}},
	{"DeleteOffsets", func(ctx context.Context, a *target) (any, error) { return a.DeleteOffsets(ctx, "g", set("t", 1)) }},
	{"DeleteGroup", func(ctx context.Context, a *target) (any, error) { return a.DeleteGroup(ctx, "g") }},
	{"DeleteGroups", func(ctx context.Context, a *target) (any, error) { return a.DeleteGroups(ctx, "h", "none") }},
}

func (a *target) byID() kadm.OffsetsByID {
	return kadm.OffsetsByID{a.topic: {0: {Topic: "t", TopicID: a.topic, Partition: 0, At: 7, LeaderEpoch: -1}}}
}

var shareSteps = []step{
	{"FindShareCoordinators", func(ctx context.Context, a *target) (any, error) { return a.FindShareCoordinators(ctx, "s"), nil }},
	{"DescribeShareGroups", func(ctx context.Context, a *target) (any, error) { return a.DescribeShareGroups(ctx, "s") }},
	{"AlterShareGroupOffsets", func(ctx context.Context, a *target) (any, error) {
		return a.AlterShareGroupOffsets(ctx, "s", offsets("t", 0, 5))
	}},
	{"DescribeShareGroupOffsets", func(ctx context.Context, a *target) (any, error) { return a.DescribeShareGroupOffsets(ctx, "s") }},
	{"DeleteShareGroupOffsets", func(ctx context.Context, a *target) (any, error) { return a.DeleteShareGroupOffsets(ctx, "s", "t") }},
}

var txnSteps = []step{
	{"FindTxnCoordinators", func(ctx context.Context, a *target) (any, error) { return a.FindTxnCoordinators(ctx, "x"), nil }},
	{"DescribeProducers", func(ctx context.Context, a *target) (any, error) {
		topics, err := a.DescribeProducers(ctx, set("t", 0))
		return topics.SortedProducers(), err // by themselves: a map has the ids of producers, which are drawn
	}},
	{"DescribeTransactions", func(ctx context.Context, a *target) (any, error) { return a.DescribeTransactions(ctx, "none") }},
	{"ListTransactions", func(ctx context.Context, a *target) (any, error) { return a.ListTransactions(ctx, nil, nil) }},
	{"ListTransactionsByTxPattern", func(ctx context.Context, a *target) (any, error) {
		return a.ListTransactionsByTxPattern(ctx, nil, nil, "x.*")
	}},
	{"WriteTxnMarkers", func(ctx context.Context, a *target) (any, error) {
		return a.WriteTxnMarkers(ctx, kadm.TxnMarkers{ProducerID: 1 << 40, Topics: set("none", 0)})
	}},
}

var securitySteps = []step{
	{"CreateACLs", func(ctx context.Context, a *target) (any, error) { return a.CreateACLs(ctx, acls()) }},
	{"DescribeACLs", func(ctx context.Context, a *target) (any, error) { return a.DescribeACLs(ctx, acls()) }},
	{"DeleteACLs", func(ctx context.Context, a *target) (any, error) { return a.DeleteACLs(ctx, acls()) }},
	{"ValidateAlterClientQuotas", func(ctx context.Context, a *target) (any, error) { return a.ValidateAlterClientQuotas(ctx, quota) }},
	{"AlterClientQuotas", func(ctx context.Context, a *target) (any, error) { return a.AlterClientQuotas(ctx, quota) }},
	{"DescribeClientQuotas", func(ctx context.Context, a *target) (any, error) {
		return a.DescribeClientQuotas(ctx, true, []kadm.DescribeClientQuotaComponent{{Type: "client-id", MatchName: ptr("c")}})
	}},
	{"AlterUserSCRAMs", func(ctx context.Context, a *target) (any, error) {
		return a.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: "ann", Mechanism: kadm.ScramSha256, Iterations: 4096, Password: "p"}})
	}},
	{"DescribeUserSCRAMs", func(ctx context.Context, a *target) (any, error) { return a.DescribeUserSCRAMs(ctx, "ann") }},
	{"CreateDelegationToken", func(ctx context.Context, a *target) (any, error) {
		token, err := a.CreateDelegationToken(ctx, kadm.CreateDelegationToken{MaxLifetime: time.Hour})
		a.token = token.HMAC
		return len(token.HMAC) > 0, err
	}},
	{"RenewDelegationToken", func(ctx context.Context, a *target) (any, error) {
		return a.RenewDelegationToken(ctx, a.token, time.Hour)
	}},
	{"DescribeDelegationTokens", func(ctx context.Context, a *target) (any, error) { return a.DescribeDelegationTokens(ctx) }},
	{"ExpireDelegationToken", func(ctx context.Context, a *target) (any, error) {
		return a.ExpireDelegationToken(ctx, a.token, time.Millisecond)
	}},
}

var lastSteps = []step{
	{"DeleteTopic", func(ctx context.Context, a *target) (any, error) { return a.DeleteTopic(ctx, "t") }},
	{"DeleteTopics", func(ctx context.Context, a *target) (any, error) { return a.DeleteTopics(ctx, "u", "v", "none") }},
	{"Close", func(_ context.Context, a *target) (any, error) { a.Close(); return nil, nil }},
}
