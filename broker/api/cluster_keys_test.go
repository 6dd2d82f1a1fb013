package api

//quorlog:bubble inCluster runs every test of this file in one

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Every node tells the same of every partition, whoever leads it.
func TestMetadataOfACluster(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.createTopic("orders", 6)
		elect := kmsg.NewPtrElectLeadersRequest() // who leads at first is up to chance
		elect.TimeoutMillis = 10_000
		ask[*kmsg.ElectLeadersResponse](c.nodes[1].client, elect, 2)
		settle()
		want := c.nodes[1].metadata("orders")
		led := map[int32]bool{}
		for _, p := range want.Topics[0].Partitions {
			led[p.Leader] = true
			if p.ErrorCode != 0 || len(p.Replicas) != 3 || len(p.ISR) != 3 || len(p.OfflineReplicas) != 0 || p.LeaderEpoch < 1 {
				t.Errorf("%+v", p)
			}
		}
		if len(want.Brokers) != 3 || len(led) != 3 {
			t.Errorf("%d brokers; %v lead", len(want.Brokers), led)
		}
		for _, m := range c.nodes {
			if got := m.metadata("orders"); fmt.Sprintf("%+v", got.Topics[0].Partitions) != fmt.Sprintf("%+v", want.Topics[0].Partitions) {
				t.Errorf("node %d says %+v", m.id, got.Topics)
			}
		}
	})
}

func TestMetadataAfterANodeIsGone(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.createTopic("orders", 3)
		gone, _ := c.leader("orders", 0)
		c.cut(gone.id)
		rest := c.others(gone)
		time.Sleep(20 * time.Millisecond) // until the others do not vouch for it any more
		for _, m := range rest {
			// Before an election: nobody leads what it led, and its replicas are offline.
			p := m.metadata("orders").Topics[0].Partitions[0]
			if kafkaproto.Code(p.ErrorCode) != kafkaproto.LeaderNotAvailable || p.Leader != -1 || !slices.Equal(p.OfflineReplicas, []int32{int32(gone.id)}) {
				t.Errorf("node %d: %v, %+v", m.id, kafkaproto.Code(p.ErrorCode), p)
			}
		}
		settle()
		for _, m := range rest {
			resp := m.metadata("orders")
			for _, p := range resp.Topics[0].Partitions {
				if p.ErrorCode != 0 || p.Leader < 0 || p.Leader == int32(gone.id) {
					t.Errorf("node %d: %+v", m.id, p)
				}
			}
			if len(resp.Brokers) != 3 {
				t.Errorf("node %d forgets a node that may be restarting", m.id)
			}
		}
		time.Sleep(10 * time.Second)
		q := kmsg.NewPtrDescribeClusterRequest()
		q.EndpointType, q.IncludeFencedBrokers = endpointBrokers, true
		for _, m := range rest {
			if got := m.metadata("orders"); len(got.Brokers) != 2 {
				t.Errorf("node %d: %d brokers", m.id, len(got.Brokers))
			}
			fenced := 0
			resp := ask[*kmsg.DescribeClusterResponse](m.client, q, 2)
			for _, b := range resp.Brokers {
				if b.IsFenced && b.NodeID == int32(gone.id) {
					fenced++
				}
			}
			if fenced != 1 || len(resp.Brokers) != 3 {
				t.Errorf("node %d: %+v", m.id, resp.Brokers)
			}
		}
		// The one that is cut off must not send its clients away from all others.
		if got := gone.metadata("orders"); len(got.Brokers) != 3 {
			t.Errorf("the lonely node: %d brokers", len(got.Brokers))
		}
	})
}

// KIP-951: who asks the wrong node learns the right one, and where it is, with the refusal.
func TestHintsToTheLeader(t *testing.T) {
	inCluster(t, func(c *cluster) {
		id := c.createTopic("orders", 1)
		leader, _ := c.leader("orders", 0)
		epoch := leader.metadata("orders").Topics[0].Partitions[0].LeaderEpoch
		for _, m := range c.others(leader) {
			for _, version := range []int16{9, 10, 12, 13} {
				q := minimal(t, kafkaproto.KeyProduce, version, "orders", id).(*kmsg.ProduceRequest)
				resp := ask[*kmsg.ProduceResponse](m.client, q, version)
				p := resp.Topics[0].Partitions[0]
				if kafkaproto.Code(p.ErrorCode) != kafkaproto.NotLeaderOrFollower {
					t.Fatalf("%v", kafkaproto.Code(p.ErrorCode))
				}
				if version < produceLeaderHint {
					continue
				}
				if p.CurrentLeader.LeaderID != int32(leader.id) || p.CurrentLeader.LeaderEpoch != epoch ||
					len(resp.Brokers) != 1 || resp.Brokers[0].NodeID != int32(leader.id) || resp.Brokers[0].Port != 9090+int32(leader.id) {
					t.Errorf("produce %d: %+v, %+v", version, p.CurrentLeader, resp.Brokers)
				}
			}
			for _, version := range []int16{12, 16, 18} {
				q := minimal(t, kafkaproto.KeyFetch, version, "orders", id).(*kmsg.FetchRequest)
				resp := ask[*kmsg.FetchResponse](m.client, q, version)
				p := resp.Topics[0].Partitions[0]
				if kafkaproto.Code(p.ErrorCode) != kafkaproto.NotLeaderOrFollower || p.CurrentLeader.LeaderID != int32(leader.id) || p.CurrentLeader.LeaderEpoch != epoch {
					t.Errorf("fetch %d: %v, %+v", version, kafkaproto.Code(p.ErrorCode), p.CurrentLeader)
				}
				if version >= fetchLeaderHint && (len(resp.Brokers) != 1 || resp.Brokers[0].NodeID != int32(leader.id)) {
					t.Errorf("fetch %d: %+v", version, resp.Brokers)
				}
			}
		}
		q := minimal(t, kafkaproto.KeyFetch, 16, "orders", id).(*kmsg.FetchRequest)
		q.Topics[0].Partitions[0].CurrentLeaderEpoch = epoch - 1
		resp := ask[*kmsg.FetchResponse](leader.client, q, 16)
		if p := resp.Topics[0].Partitions[0]; kafkaproto.Code(p.ErrorCode) != kafkaproto.FencedLeaderEpoch || p.CurrentLeader.LeaderEpoch != epoch || len(resp.Brokers) != 1 {
			t.Errorf("%v, %+v, %+v", kafkaproto.Code(p.ErrorCode), p.CurrentLeader, resp.Brokers)
		}
	})
}

// The leader that was cut off must not be where the others send clients.
func TestHintsAfterAFailOver(t *testing.T) {
	inCluster(t, func(c *cluster) {
		id := c.createTopic("orders", 1)
		old, _ := c.leader("orders", 0)
		c.cut(old.id)
		settle()
		leader, _ := c.leader("orders", 0)
		for _, m := range c.others(leader) {
			q := minimal(t, kafkaproto.KeyProduce, 13, "orders", id).(*kmsg.ProduceRequest)
			p := ask[*kmsg.ProduceResponse](m.client, q, 13).Topics[0].Partitions[0]
			want := leader.id
			if m == old {
				want = replication.NoNode // it is no leader any more, and knows no other
			}
			if kafkaproto.Code(p.ErrorCode) != kafkaproto.NotLeaderOrFollower || p.CurrentLeader.LeaderID != int32(want) {
				t.Errorf("node %d: %v, %+v, want %d", m.id, kafkaproto.Code(p.ErrorCode), p.CurrentLeader, want)
			}
		}
	})
}

// Who produces while the leadership is handed over waits to hear who has it then, and needs not ask around.
func TestHintsInAHandOver(t *testing.T) {
	inCluster(t, func(c *cluster) {
		id := c.createTopic("orders", 1)
		leader, _ := c.leader("orders", 0)
		heir := c.others(leader)[0]
		part, _ := leader.manager.Get(replication.PartitionID{Topic: id})
		handed := make(chan error, 1)
		go func() { handed <- part.TransferLeadership(context.Background(), heir.id) }()
		for {
			q := minimal(t, kafkaproto.KeyProduce, 13, "orders", id).(*kmsg.ProduceRequest)
			p := ask[*kmsg.ProduceResponse](leader.client, q, 13).Topics[0].Partitions[0]
			if p.ErrorCode == 0 {
				select {
				case err := <-handed:
					if err != nil {
						c.t.Fatal(err)
					}
					handed <- err // the next answer tells of it
				default:
				}
				time.Sleep(100 * time.Microsecond)
				continue
			}
			if kafkaproto.Code(p.ErrorCode) != kafkaproto.NotLeaderOrFollower || p.CurrentLeader.LeaderID != int32(heir.id) {
				t.Errorf("%v, %+v, want node %d", kafkaproto.Code(p.ErrorCode), p.CurrentLeader, heir.id)
			}
			break
		}
		if err := <-handed; err != nil {
			t.Error(err)
		}
	})
}

// KIP-392: a consumer with a rack is sent to the replica there, which answers it; without one it reads from the leader.
func TestConsumersReadInTheirRack(t *testing.T) {
	inCluster(t, func(c *cluster) {
		id := c.createTopic("orders", 1)
		leader, _ := c.leader("orders", 0)
		produce := minimal(t, kafkaproto.KeyProduce, 13, "orders", id)
		if p := ask[*kmsg.ProduceResponse](leader.client, produce, 13).Topics[0].Partitions[0]; p.ErrorCode != 0 {
			t.Fatal(kafkaproto.Code(p.ErrorCode))
		}
		settle() // followers hear of the watermark
		fetch := func(m *member, rack string, offset int64) kmsg.FetchResponseTopicPartition {
			q := minimal(t, kafkaproto.KeyFetch, 16, "orders", id).(*kmsg.FetchRequest)
			q.Rack, q.SessionEpoch, q.Topics[0].Partitions[0].FetchOffset = rack, -1, offset
			return ask[*kmsg.FetchResponse](m.client, q, 16).Topics[0].Partitions[0]
		}
		for _, m := range c.others(leader) {
			rack := fmt.Sprintf("r%d", m.id)
			if p := fetch(leader, rack, 0); p.ErrorCode != 0 || p.PreferredReadReplica != int32(m.id) || len(p.RecordBatches) != 0 || p.HighWatermark != 1 {
				t.Errorf("the leader: %+v", p)
			}
			if p := fetch(m, rack, 0); p.ErrorCode != 0 || p.PreferredReadReplica != -1 || len(p.RecordBatches) == 0 || p.HighWatermark != 1 {
				t.Errorf("the follower: %+v", p)
			}
			if p := fetch(m, rack, 5); kafkaproto.Code(p.ErrorCode) != kafkaproto.OffsetNotAvailable {
				t.Errorf("above the watermark: %v", kafkaproto.Code(p.ErrorCode))
			}
			if p := fetch(leader, rack, 5); kafkaproto.Code(p.ErrorCode) != kafkaproto.OffsetOutOfRange {
				t.Errorf("above the log end: %v", kafkaproto.Code(p.ErrorCode))
			}
		}
		for _, rack := range []string{"", "elsewhere", fmt.Sprintf("r%d", leader.id)} {
			if p := fetch(leader, rack, 0); p.PreferredReadReplica != -1 || len(p.RecordBatches) == 0 {
				t.Errorf("rack %q: %+v", rack, p)
			}
		}
		gone := c.others(leader)[0]
		c.cut(gone.id)
		time.Sleep(20 * time.Millisecond)
		if p := fetch(leader, fmt.Sprintf("r%d", gone.id), 0); p.PreferredReadReplica != -1 || len(p.RecordBatches) == 0 {
			t.Errorf("sent to a node that is gone: %+v", p)
		}
	})
}

// A follower that lacks what a consumer asks for is not where the leader sends it, though the follower is in sync for half a minute
// yet: the consumer would come back at once, or wait for what the leader could give it.
func TestConsumersAreSentToWhatTheyWant(t *testing.T) {
	inCluster(t, func(c *cluster) {
		id := c.createTopic("orders", 1)
		leader, _ := c.leader("orders", 0)
		late, other := c.others(leader)[0], c.others(leader)[1]
		produce := func() {
			t.Helper()
			if p := ask[*kmsg.ProduceResponse](leader.client, minimal(t, kafkaproto.KeyProduce, 13, "orders", id), 13).Topics[0].Partitions[0]; p.ErrorCode != 0 {
				t.Fatal(kafkaproto.Code(p.ErrorCode))
			}
		}
		produce()
		settle()
		c.part(leader.id, late.id)
		produce()
		produce()
		check := func(in *member, offset int64, to replication.NodeID, records bool) {
			t.Helper()
			q := minimal(t, kafkaproto.KeyFetch, 16, "orders", id).(*kmsg.FetchRequest)
			q.Rack, q.SessionEpoch, q.Topics[0].Partitions[0].FetchOffset = fmt.Sprintf("r%d", in.id), -1, offset
			p := ask[*kmsg.FetchResponse](leader.client, q, 16).Topics[0].Partitions[0]
			if p.ErrorCode != 0 || p.PreferredReadReplica != int32(to) || len(p.RecordBatches) > 0 != records {
				t.Errorf("offset %d in the rack of node %d: %v, sent to %d, %d bytes", offset, in.id, kafkaproto.Code(p.ErrorCode), p.PreferredReadReplica, len(p.RecordBatches))
			}
		}
		check(late, 0, late.id, false)
		check(late, 1, replication.NoNode, true)
		check(late, 2, replication.NoNode, true)
		check(late, 3, replication.NoNode, false)
		for offset := range int64(4) {
			check(other, offset, other.id, false)
		}
		c.net.Heal()
		settle()
		if now, _ := c.leader("orders", 0); now != leader {
			t.Fatalf("node %d leads by now", now.id)
		}
		for offset := range int64(4) {
			check(late, offset, late.id, false)
		}
	})
}

// A consumer that waits at a follower is woken by what comes there.
func TestAFollowerWakesItsConsumers(t *testing.T) {
	inCluster(t, func(c *cluster) {
		id := c.createTopic("orders", 1)
		leader, _ := c.leader("orders", 0)
		m := c.others(leader)[0]
		q := minimal(t, kafkaproto.KeyFetch, 16, "orders", id).(*kmsg.FetchRequest)
		q.Rack, q.SessionEpoch, q.MinBytes, q.MaxWaitMillis = fmt.Sprintf("r%d", m.id), -1, 1, 60_000
		done := make(chan *kmsg.FetchResponse)
		began := time.Now()
		go func() { done <- ask[*kmsg.FetchResponse](m.client, q, 16) }()
		time.Sleep(100 * time.Millisecond)
		ask[*kmsg.ProduceResponse](leader.client, minimal(t, kafkaproto.KeyProduce, 13, "orders", id), 13)
		if p := (<-done).Topics[0].Partitions[0]; p.ErrorCode != 0 || len(p.RecordBatches) == 0 {
			t.Errorf("%v, %d bytes", kafkaproto.Code(p.ErrorCode), len(p.RecordBatches))
		}
		t.Logf("after %v", time.Since(began)-100*time.Millisecond)
	})
}

// Whoever looks for transactions that nobody ends asks a node about every partition of which it has a replica.
func TestProducersAtEveryReplica(t *testing.T) {
	inCluster(t, func(c *cluster) {
		id := c.createTopic("orders", 1)
		leader, _ := c.leader("orders", 0)
		frame := producerBatch(t, batch.BuildOptions{Producer: &batch.Producer{ID: 77, Epoch: 3}}, "k", "v")
		ask[*kmsg.ProduceResponse](leader.client, produceRequest("orders", id, frame), 12)
		settle()
		for _, m := range c.nodes {
			q := minimal(t, kafkaproto.KeyDescribeProducers, 0, "orders", id)
			p := ask[*kmsg.DescribeProducersResponse](m.client, q, 0).Topics[0].Partitions[0]
			if p.ErrorCode != 0 || len(p.ActiveProducers) != 1 || p.ActiveProducers[0].ProducerID != 77 || p.ActiveProducers[0].ProducerEpoch != 3 {
				t.Errorf("node %d, where %d leads: %v, %+v", m.id, leader.id, kafkaproto.Code(p.ErrorCode), p.ActiveProducers)
			}
		}
	})
}

func TestElectPreferredLeaders(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.createTopic("orders", 3)
		elect := func(m *member, kind int8, partitions ...int32) map[int32]kafkaproto.Code {
			q := kmsg.NewPtrElectLeadersRequest()
			q.ElectionType, q.TimeoutMillis = kind, 10_000
			if partitions != nil {
				q.Topics = []kmsg.ElectLeadersRequestTopic{{Topic: "orders", Partitions: partitions}}
			}
			resp := ask[*kmsg.ElectLeadersResponse](m.client, q, 2)
			if resp.ErrorCode != 0 {
				return map[int32]kafkaproto.Code{-1: kafkaproto.Code(resp.ErrorCode)}
			}
			got := map[int32]kafkaproto.Code{}
			for _, topic := range resp.Topics {
				for _, p := range topic.Partitions {
					got[p.Partition] = kafkaproto.Code(p.ErrorCode)
				}
			}
			return got
		}
		same := func(what string, got, want map[int32]kafkaproto.Code) {
			t.Helper()
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
		}
		elect(c.nodes[2], 0) // who led at first is up to chance
		settle()
		same("of all, with nothing to do", elect(c.nodes[1], 0), map[int32]kafkaproto.Code{})
		same("with nothing to do", elect(c.nodes[1], 0, 0), map[int32]kafkaproto.Code{0: kafkaproto.ElectionNotNeeded})
		same("unclean", elect(c.nodes[1], 1, 0, 7), map[int32]kafkaproto.Code{0: kafkaproto.ElectionNotNeeded, 7: kafkaproto.UnknownTopicOrPartition})
		same("of another kind", elect(c.nodes[1], 5, 0), map[int32]kafkaproto.Code{-1: kafkaproto.InvalidRequest})

		preferred, _ := c.leader("orders", 0)
		other := c.others(preferred)[0]
		topic := c.ctl.Image().Topics["orders"]
		pid := replication.PartitionID{Topic: topic.ID}
		if err := preferred.Transfer(t.Context(), pid, other.id); err != nil {
			t.Fatal(err)
		}
		settle()
		if now, _ := c.leader("orders", 0); now != other {
			t.Fatalf("node %d leads after the transfer, not %d", now.id, other.id)
		}
		// From the node that neither leads nor is preferred.
		third := c.others(preferred)[1]
		same("by another node", elect(third, 0), map[int32]kafkaproto.Code{0: kafkaproto.None})
		for _, m := range c.nodes {
			if p := m.metadata("orders").Topics[0].Partitions[0]; p.Leader != int32(preferred.id) && m == third {
				t.Errorf("node %d: %+v", m.id, p)
			}
		}
		c.cut(preferred.id)
		settle()
		same("of a node that is gone", elect(third, 0, 0), map[int32]kafkaproto.Code{0: kafkaproto.PreferredLeaderNotAvailable})
		c.cut(c.others(preferred)[0].id)
		settle()
		settle()
		same("without a majority", elect(third, 1, 0), map[int32]kafkaproto.Code{0: kafkaproto.EligibleLeadersNotAvailable})
	})
}

func TestDescribeQuorumOfACluster(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.createTopic("orders", 1)
		leader, _ := c.leader("orders", 0)
		q := kmsg.NewPtrDescribeQuorumRequest()
		for _, name := range []string{broker.MetadataTopic, "orders", "nothing"} {
			q.Topics = append(q.Topics, kmsg.DescribeQuorumRequestTopic{Topic: name, Partitions: []kmsg.DescribeQuorumRequestTopicPartition{{}, {Partition: 1}}})
		}
		for _, m := range c.nodes {
			resp := ask[*kmsg.DescribeQuorumResponse](m.client, q, 2)
			meta, orders, nothing := resp.Topics[0].Partitions, resp.Topics[1].Partitions, resp.Topics[2].Partitions
			if p := meta[0]; p.ErrorCode != 0 || p.LeaderID != 1 || p.LeaderEpoch != 5 || p.HighWatermark != 10 || len(p.CurrentVoters) != 1 || len(p.Observers) != 1 {
				t.Errorf("node %d: %+v", m.id, p)
			}
			if p := orders[0]; p.ErrorCode != 0 || p.LeaderID != int32(leader.id) || p.HighWatermark != 7 || len(p.CurrentVoters) != 3 ||
				p.CurrentVoters[0].LogEndOffset != 8 || p.CurrentVoters[0].LastFetchTimestamp != -1 || p.CurrentVoters[0].LastCaughtUpTimestamp != 9 {
				t.Errorf("node %d: %+v", m.id, p)
			}
			for _, p := range []kmsg.DescribeQuorumResponseTopicPartition{meta[1], orders[1], nothing[0]} {
				if kafkaproto.Code(p.ErrorCode) != kafkaproto.UnknownTopicOrPartition {
					t.Errorf("node %d: %+v", m.id, p)
				}
			}
			if len(resp.Nodes) != 3 || len(resp.Nodes[0].Listeners) != 1 || resp.Nodes[0].Listeners[0].Port != 9090+uint16(resp.Nodes[0].NodeID) {
				t.Errorf("node %d: %+v", m.id, resp.Nodes)
			}
		}
		c.cut(leader.id)
		if p := ask[*kmsg.DescribeQuorumResponse](c.others(leader)[0].client, q, 2).Topics[1].Partitions[0]; kafkaproto.Code(p.ErrorCode) != kafkaproto.LeaderNotAvailable {
			t.Errorf("%+v", p)
		}
	})
}

func TestReassignments(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.createTopic("orders", 2)
		q := kmsg.NewPtrAlterPartitionAssignmentsRequest()
		q.TimeoutMillis = 1000
		q.Topics = []kmsg.AlterPartitionAssignmentsRequestTopic{
			{Topic: "orders", Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{
				{Partition: 0, Replicas: []int32{3, 2, 1}}, {Partition: 1}, {Partition: 2, Replicas: []int32{1}},
			}},
			{Topic: "nothing", Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{{Replicas: []int32{1}}}},
		}
		c.moves.errs = []error{nil, replication.ErrInvalidReplicaAssignment}
		resp := ask[*kmsg.AlterPartitionAssignmentsResponse](c.nodes[2].client, q, 1)
		var codes []kafkaproto.Code
		for _, topic := range resp.Topics {
			for _, p := range topic.Partitions {
				codes = append(codes, kafkaproto.Code(p.ErrorCode))
			}
		}
		want := []kafkaproto.Code{kafkaproto.None, kafkaproto.InvalidReplicaAssignment, kafkaproto.UnknownTopicOrPartition, kafkaproto.UnknownTopicOrPartition}
		if !slices.Equal(codes, want) {
			t.Errorf("%v, want %v", codes, want)
		}
		asked := []controller.Reassignment{{Topic: "orders", Replicas: []replication.NodeID{3, 2, 1}}, {Topic: "orders", Partition: 1}}
		if fmt.Sprintf("%#v", c.moves.asked) != fmt.Sprintf("%#v", asked) {
			t.Errorf("%#v", c.moves.asked)
		}
		c.moves.errs = nil
		q.AllowReplicationFactorChange, q.Topics = false, q.Topics[:1]
		q.Topics[0].Partitions = []kmsg.AlterPartitionAssignmentsRequestTopicPartition{{Replicas: []int32{1}}, {Partition: 1, Replicas: []int32{1, 3, 2}}}
		got := ask[*kmsg.AlterPartitionAssignmentsResponse](c.nodes[2].client, q, 1).Topics[0].Partitions
		if kafkaproto.Code(got[0].ErrorCode) != kafkaproto.InvalidReplicationFactor || got[1].ErrorCode != 0 {
			t.Errorf("%+v", got)
		}
		got = ask[*kmsg.AlterPartitionAssignmentsResponse](c.nodes[2].client, q, 0).Topics[0].Partitions
		if got[0].ErrorCode != 0 { // version 0 knows nothing of the rule
			t.Errorf("%+v", got)
		}
		list := kmsg.NewPtrListPartitionReassignmentsRequest()
		if got := ask[*kmsg.ListPartitionReassignmentsResponse](c.nodes[2].client, list, 0); len(got.Topics) != 0 || got.ErrorCode != 0 {
			t.Errorf("%+v", got)
		}
	})
}

func TestUnregisterBroker(t *testing.T) {
	inCluster(t, func(c *cluster) {
		q := kmsg.NewPtrUnregisterBrokerRequest()
		q.BrokerID = 3
		if got := ask[*kmsg.UnregisterBrokerResponse](c.nodes[1].client, q, 0); got.ErrorCode != 0 || !slices.Equal(c.moves.gone, []replication.NodeID{3}) {
			t.Errorf("%+v, %v", got, c.moves.gone)
		}
		q.BrokerID = 9
		if got := ask[*kmsg.UnregisterBrokerResponse](c.nodes[1].client, q, 0); kafkaproto.Code(got.ErrorCode) != kafkaproto.BrokerIDNotRegistered {
			t.Errorf("%+v", got)
		}
	})
}
