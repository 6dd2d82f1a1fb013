package group

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func joinRequest(group, member, client string) JoinRequest {
	return JoinRequest{
		Group: group, Member: member, ClientID: client, ClientHost: "/10.0.0.1", ProtocolType: ConsumerProtocol,
		Protocols:      []Protocol{{Name: "range", Metadata: subscribe("t")}},
		SessionTimeout: 10 * time.Second, RebalanceTimeout: 30 * time.Second,
	}
}

// stable makes a group with one member and returns its id and generation.
func (n *node) stable(t *testing.T, group string) (string, Generation) {
	t.Helper()
	j := n.Join(t.Context(), joinRequest(group, "", "client"))
	if j.Err != nil {
		t.Fatal(j.Err)
	}
	s := n.Sync(t.Context(), SyncRequest{Group: group, Member: j.Member, Generation: j.Generation, Assignments: []Assignment{{Member: j.Member, Data: []byte("all")}}})
	if s.Err != nil || string(s.Assignment) != "all" {
		t.Fatalf("got %q, %v", s.Assignment, s.Err)
	}
	return j.Member, j.Generation
}

func commitOf(group, member string, g Generation, topic string, offsets ...batch.Offset) CommitRequest {
	r := CommitRequest{Group: group, Member: member, Generation: g, Retention: -1, Topics: []CommitTopic{{Name: topic}}}
	for p, o := range offsets {
		r.Topics[0].Partitions = append(r.Topics[0].Partitions, CommitPartition{Partition: int32(p), Offset: o, LeaderEpoch: 2, Metadata: "m"})
	}
	return r
}

// firstError is the first error of a commit.
func firstError(results [][]error) error {
	for _, each := range results {
		for _, err := range each {
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) || (want == nil && got != nil) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func TestReloadedGroupsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs := newFakeLogs()
		n := newNode(t, logs, DefaultLimits())
		ids := map[string]string{}
		for i := range 20 {
			g := fmt.Sprint("group-", i)
			ids[g], _ = n.stable(t, g)
			wantErr(t, "commit", firstError(n.Commit(t.Context(), commitOf(g, ids[g], 1, "t", 1, 2, batch.Offset(i)))), nil)
		}
		wantErr(t, "commit", firstError(n.Commit(t.Context(), commitOf("simple", "", NoGeneration, "u", 7))), nil)
		before := snapshot(n)
		n.Close()

		again := newNode(t, logs, DefaultLimits())
		if after := snapshot(again); !reflect.DeepEqual(before, after) {
			t.Fatalf("before %+v\nafter %+v", before, after)
		}
		for g, id := range ids {
			wantErr(t, "heartbeat", again.Heartbeat(t.Context(), HeartbeatRequest{Group: g, Member: id, Generation: 1}), nil)
			wantErr(t, "commit", firstError(again.Commit(t.Context(), commitOf(g, id, 1, "t", 9))), nil)
		}
		// Without heartbeats the sessions end, which is stored as an empty generation.
		time.Sleep(11 * time.Second)
		synctest.Wait()
		for _, l := range mustList(t, again) {
			if l.State != Empty.String() {
				t.Fatalf("%s is %v", l.Group, l.State)
			}
		}
	})
}

func mustList(t *testing.T, n *node) []Listing {
	t.Helper()
	got, err := n.List(ListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// snapshot is all that can be seen of a node's groups.
func snapshot(n *node) map[string]any {
	out := map[string]any{}
	list, _ := n.List(ListRequest{})
	for _, l := range list {
		out[l.Group] = []any{l, n.Describe([]string{l.Group}), n.Fetch(context.Background(), FetchRequest{Group: l.Group, All: true})}
	}
	return out
}

func TestWritesThatWaitGoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, newFakeLogs(), DefaultLimits())
		log := n.logOf("g")
		log.hold = true
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				err := firstError(n.Commit(context.Background(), commitOf("g", "", NoGeneration, "t", batch.Offset(i))))
				wantErr(t, "commit", err, nil)
			})
		}
		synctest.Wait()
		if got := n.Fetch(t.Context(), FetchRequest{Group: "g", Topics: []FetchTopic{{Name: "t", Partitions: []int32{0}}}}); got.Topics[0].Partitions[0].Offset != NoOffset {
			t.Fatalf("an offset is visible before it is committed: %+v", got)
		}
		log.release(nil)
		synctest.Wait()
		log.release(nil)
		wg.Wait()
		if log.appends > 3 {
			t.Errorf("100 commits took %d appends", log.appends)
		}
	})
}

func TestLostLeadershipEndsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, newFakeLogs(), DefaultLimits())
		member, generation := n.stable(t, "g")
		joined := make(chan error)
		go func() { joined <- n.Join(context.Background(), joinRequest("g", "", "other")).Err }() // waits for the member
		n.logOf("g").hold = true
		committed := make(chan error)
		go func() {
			committed <- firstError(n.Commit(context.Background(), commitOf("g", member, generation, "t", 5)))
		}()
		synctest.Wait()
		p := coordinator.PartitionOf("g", fakePartitions)
		n.LeaderChanged(p, 2, false)
		wantErr(t, "join", <-joined, broker.ErrNotCoordinator)
		wantErr(t, "commit", <-committed, broker.ErrNotCoordinator)
		wantErr(t, "heartbeat", n.Heartbeat(t.Context(), HeartbeatRequest{Group: "g", Member: member, Generation: generation}), broker.ErrNotCoordinator)

		// The commit survived after all. It is there when this node leads again.
		n.logOf("g").hold = false
		n.logOf("g").release(nil)
		n.LeaderChanged(p, 3, true)
		synctest.Wait()
		got := n.Fetch(t.Context(), FetchRequest{Group: "g", All: true})
		if len(got.Topics) != 1 || got.Topics[0].Partitions[0].Offset != 5 {
			t.Fatalf("got %+v", got)
		}
	})
}

func TestUnknownOutcomeReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, newFakeLogs(), DefaultLimits())
		member, generation := n.stable(t, "g")
		log := n.logOf("g")
		log.fail = replication.ErrUnknownOutcome
		err := firstError(n.Commit(t.Context(), commitOf("g", member, generation, "t", 5)))
		wantErr(t, "commit", err, broker.ErrNotCoordinator)
		log.fail = nil
		synctest.Wait()
		wantErr(t, "heartbeat", n.Heartbeat(t.Context(), HeartbeatRequest{Group: "g", Member: member, Generation: generation}), nil)
	})
}

func TestRefusedAppends(t *testing.T) {
	for _, c := range []struct{ log, want error }{
		{replication.ErrNotLeader, broker.ErrNotCoordinator},
		{replication.ErrStorage, broker.ErrNotCoordinator},
		{replication.ErrNotEnoughReplicas, broker.ErrCoordinatorNotAvailable},
		{replication.ErrOverloaded, broker.ErrCoordinatorNotAvailable},
		{batch.ErrTooLarge, broker.ErrMessageTooLarge},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := newNode(t, newFakeLogs(), DefaultLimits())
			n.logOf("g").fail = c.log
			err := firstError(n.Commit(t.Context(), commitOf("g", "", NoGeneration, "t", 5)))
			wantErr(t, c.log.Error(), err, c.want)
			if errors.Is(err, c.log) {
				t.Errorf("%v has the code of its cause", err)
			}
			n.logOf("g").fail = nil
			wantErr(t, "commit", firstError(n.Commit(t.Context(), commitOf("g", "", NoGeneration, "t", 5))), nil)
		})
	}
}

func TestLoadingWaitsForWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs := newFakeLogs()
		n := newNode(t, logs, DefaultLimits())
		wantErr(t, "commit", firstError(n.Commit(t.Context(), commitOf("g", "", NoGeneration, "t", 5))), nil)
		n.Close()

		log := logs.logs[coordinator.PartitionOf("g", fakePartitions)]
		log.held = 1 // the last entry is not known to be committed yet
		again := newNode(t, logs, DefaultLimits())
		wantErr(t, "fetch", again.Fetch(t.Context(), FetchRequest{Group: "g", All: true}).Err, broker.ErrCoordinatorLoading)
		_, err := again.List(ListRequest{})
		wantErr(t, "list", err, broker.ErrCoordinatorLoading)
		log.mu.Lock()
		log.held = 0
		log.mu.Unlock()
		time.Sleep(time.Second)
		if got := again.Fetch(t.Context(), FetchRequest{Group: "g", All: true}); got.Err != nil || got.Topics[0].Partitions[0].Offset != 5 {
			t.Fatalf("got %+v", got)
		}
	})
}

func TestLoadingIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs := newFakeLogs()
		log := logs.logs[coordinator.PartitionOf("g", fakePartitions)]
		log.readErr = replication.ErrOffsetNotAvailable
		n := newNode(t, logs, DefaultLimits())
		wantErr(t, "heartbeat", n.Heartbeat(t.Context(), HeartbeatRequest{Group: "g", Member: "m"}), broker.ErrCoordinatorLoading)
		log.mu.Lock()
		log.readErr = nil
		log.mu.Unlock()
		time.Sleep(time.Second)
		wantErr(t, "heartbeat", n.Heartbeat(t.Context(), HeartbeatRequest{Group: "g", Member: "m"}), broker.ErrUnknownMember)
	})
}

func TestBadRecordsAreSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs := newFakeLogs()
		good := Record{Group: "g", Key: &OffsetKey{Topic: "t", Partition: 1}, Offset: &Committed{Offset: 3, At: time.UnixMilli(1)}}
		key, value := encodeRecord(&good)
		logs.logs[coordinator.PartitionOf("g", fakePartitions)].appendRecords(t,
			batch.Record{Key: []byte("hello"), Value: []byte("world")},
			batch.Record{Key: nil, Value: nil},
			batch.Record{Key: key[:len(key)-1], Value: value},
			batch.Record{Key: []byte{0, 3, 0, 1, 'g'}, Value: []byte{0, 0}}, // a consumer group of KIP-848
			batch.Record{Key: key, Value: value},
			batch.Record{Key: []byte{0, 2, 0, 1, 'g'}, Value: []byte{0, 3, 0xff}},
		)
		n := newNode(t, logs, DefaultLimits())
		if got := n.Fetch(t.Context(), FetchRequest{Group: "g", All: true}); got.Err != nil || got.Topics[0].Partitions[0].Offset != 3 {
			t.Fatalf("got %+v", got)
		}
	})
}

func TestCommitChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := DefaultLimits()
		limits.OffsetMetadataBytes = 4
		n := newNode(t, newFakeLogs(), limits)
		topic, _ := n.cluster.Topic("u")
		other, _ := n.cluster.Topic("t")
		got := n.Commit(t.Context(), CommitRequest{Group: "g", Generation: NoGeneration, Retention: -1, Topics: []CommitTopic{
			{Name: "t", Partitions: []CommitPartition{{Partition: 0, Offset: 1}, {Partition: 8, Offset: 1}, {Partition: 1, Metadata: "12345"}}},
			{Name: "nobody", Partitions: []CommitPartition{{}}},
			{ID: topic.ID, Partitions: []CommitPartition{{Offset: 4}}},
			{ID: replication.TopicID{9}, Partitions: []CommitPartition{{}}},
		}})
		want := [][]error{
			{nil, replication.ErrUnknownPartition, broker.ErrOffsetMetadataTooLarge},
			{replication.ErrUnknownPartition}, {nil}, {replication.ErrUnknownTopicID},
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %v", got)
		}
		// A topic that is made again is another one: what was committed by id is not for it.
		fetch := func() FetchResponse {
			return n.Fetch(t.Context(), FetchRequest{Group: "g", Topics: []FetchTopic{{Name: "u", Partitions: []int32{0}}, {ID: topic.ID, Partitions: []int32{0}}}})
		}
		if got := fetch(); got.Topics[0].Partitions[0].Offset != 4 || got.Topics[1].Partitions[0].Offset != 4 || got.Topics[1].Name != "u" {
			t.Fatalf("got %+v", got)
		}
		n.cluster.mu.Lock()
		n.cluster.topics["u"] = coordinator.Topic{Name: "u", ID: replication.TopicID{5}, Partitions: 1}
		n.cluster.mu.Unlock()
		if got := fetch(); got.Topics[0].Partitions[0].Offset != NoOffset || !errors.Is(got.Topics[1].Partitions[0].Err, replication.ErrUnknownTopicID) {
			t.Fatalf("got %+v", got)
		}
		n.TopicsDeleted(other, topic)
		synctest.Wait()
		if got := n.Fetch(t.Context(), FetchRequest{Group: "g", All: true}); len(got.Topics) != 0 {
			t.Fatalf("got %+v", got)
		}
	})
}

func TestOffsetsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := DefaultLimits()
		limits.OffsetsRetention = time.Hour
		n := newNode(t, newFakeLogs(), limits)
		wantErr(t, "commit", firstError(n.Commit(t.Context(), commitOf("g", "", NoGeneration, "t", 1))), nil)
		own := commitOf("own", "", NoGeneration, "t", 1)
		own.Retention = 3 * time.Hour
		wantErr(t, "commit", firstError(n.Commit(t.Context(), own)), nil)
		time.Sleep(90 * time.Minute)
		if l := mustList(t, n); len(l) != 1 || l[0].Group != "own" {
			t.Fatalf("got %+v", l)
		}
		n.lead(2) // what was dropped does not come back
		if l := mustList(t, n); len(l) != 1 || l[0].Group != "own" {
			t.Fatalf("got %+v", l)
		}
		time.Sleep(2 * time.Hour)
		if l := mustList(t, n); len(l) != 0 {
			t.Fatalf("got %+v", l)
		}
	})
}

func TestAdministration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, newFakeLogs(), DefaultLimits())
		n.stable(t, "busy")
		wantErr(t, "commit", firstError(n.Commit(t.Context(), commitOf("idle", "", NoGeneration, "t", 1, 2))), nil)
		if got, _ := n.List(ListRequest{States: []string{"stable"}}); len(got) != 1 || got[0].Group != "busy" || got[0].ProtocolType != "consumer" {
			t.Fatalf("got %+v", got)
		}
		if got, _ := n.List(ListRequest{Types: []string{"consumer"}}); len(got) != 0 {
			t.Fatalf("got %+v", got)
		}
		d := n.Describe([]string{"busy", "nobody"})
		if d[0].State != Stable || d[0].Protocol != "range" || string(d[0].Members[0].Assignment) != "all" || d[1].State != Dead {
			t.Fatalf("got %+v", d)
		}
		wantErr(t, "describe", d[1].Err, broker.ErrGroupNotFound)
		_, err := n.DeleteOffsets(t.Context(), DeleteOffsetsRequest{Group: "nobody", Topics: []DeleteOffsetsTopic{{Name: "t", Partitions: []int32{0}}}})
		wantErr(t, "delete offsets", err, broker.ErrGroupNotFound)
		got, err := n.DeleteOffsets(t.Context(), DeleteOffsetsRequest{Group: "idle", Topics: []DeleteOffsetsTopic{{Name: "t", Partitions: []int32{0, 99}}}})
		if want := [][]error{{nil, replication.ErrUnknownPartition}}; err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %v, %v", got, err)
		}
		errs := n.Delete(t.Context(), []string{"busy", "idle", "idle"})
		wantErr(t, "busy", errs[0], broker.ErrNonEmptyGroup)
		wantErr(t, "idle", errs[1], nil)
		wantErr(t, "idle again", errs[2], broker.ErrGroupNotFound)
		n.lead(2)
		if l := mustList(t, n); len(l) != 1 {
			t.Fatalf("got %+v", l)
		}
	})
}

func TestFindingCoordinators(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := newFakeCluster()
		s, err := New(Options{Logs: newFakeLogs(), Cluster: cluster, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		wantErr(t, "heartbeat", s.Heartbeat(t.Context(), HeartbeatRequest{Group: "g", Member: "m"}), broker.ErrNotCoordinator)
		got := s.FindCoordinators(t.Context(), []string{"g", "h"}, "")
		if len(got) != 2 || got[0].Node.ID != 7 || got[1].Err != nil || cluster.ensured != 1 {
			t.Fatalf("got %+v", got)
		}
		cluster.leader = false
		wantErr(t, "find", s.FindCoordinators(t.Context(), []string{"g"}, "")[0].Err, broker.ErrCoordinatorNotAvailable)
		if cluster.ensured != 1 {
			t.Errorf("the topic was created %d times", cluster.ensured)
		}
	})
}

func TestBoundsOfTheService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := DefaultLimits()
		limits.MaxGroups = 2
		n := newNode(t, newFakeLogs(), limits)
		for i := range 100 { // asking about groups does not make them
			wantErr(t, "heartbeat", n.Heartbeat(t.Context(), HeartbeatRequest{Group: fmt.Sprint(i), Member: "m"}), broker.ErrUnknownMember)
		}
		n.stable(t, "a")
		n.stable(t, "b")
		wantErr(t, "join", n.Join(t.Context(), joinRequest("c", "", "c")).Err, broker.ErrCoordinatorNotAvailable)
		wantErr(t, "join", n.Join(t.Context(), joinRequest("", "", "c")).Err, broker.ErrInvalidGroupID)
		wantErr(t, "join", n.Join(t.Context(), joinRequest(string(make([]byte, 5000)), "", "c")).Err, broker.ErrInvalidGroupID)
		wantErr(t, "delete", n.Delete(t.Context(), []string{"a"})[0], broker.ErrNonEmptyGroup)
		time.Sleep(time.Hour) // both lapse, and empty groups without offsets are dropped
		n.stable(t, "c")

		ctx, cancel := context.WithCancel(t.Context())
		waiting := make(chan error)
		go func() { waiting <- n.Join(ctx, joinRequest("c", "", "d")).Err }()
		synctest.Wait()
		cancel()
		wantErr(t, "join", <-waiting, context.Canceled)
	})
}

func TestLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, newFakeLogs(), DefaultLimits())
		member, _ := n.stable(t, "g")
		each, err := n.Leave(t.Context(), LeaveRequest{Group: "g", Members: []LeaveMember{{Member: "nobody"}, {Member: member}}})
		wantErr(t, "leave", err, nil)
		wantErr(t, "nobody", each[0], broker.ErrUnknownMember)
		wantErr(t, "member", each[1], nil)
		_, err = n.Leave(t.Context(), LeaveRequest{Group: ""})
		wantErr(t, "leave", err, broker.ErrInvalidGroupID)
		n.Close()
		wantErr(t, "delete", n.Delete(t.Context(), []string{"g"})[0], broker.ErrNotCoordinator)
		n.LeaderChanged(0, 9, true) // after Close it leads nothing
		wantErr(t, "heartbeat", n.Heartbeat(t.Context(), HeartbeatRequest{Group: "g"}), broker.ErrNotCoordinator)
	})
}

func TestLimitsOf(t *testing.T) {
	got, err := LimitsOf(map[string]string{
		"group.initial.rebalance.delay.ms": "3000", "offsets.retention.minutes": "60", "group.max.size": "2147483647",
		"offset.metadata.max.bytes": "10", "log.retention.ms": "-1",
	})
	want := DefaultLimits()
	want.InitialRebalanceDelay, want.OffsetsRetention, want.OffsetMetadataBytes = 3*time.Second, time.Hour, 10
	if err != nil || got != want {
		t.Fatalf("got %+v, %v", got, err)
	}
	if _, err := LimitsOf(map[string]string{"group.max.size": "many"}); err == nil {
		t.Error("a word is taken for a number")
	}
	for name, value := range map[string]string{
		"group.consumer.session.timeout.ms": "44999", "group.consumer.heartbeat.interval.ms": "15001", "group.share.max.session.timeout.ms": "44000",
	} {
		if _, err := LimitsOf(map[string]string{name: value}); err == nil {
			t.Errorf("%s=%s is taken", name, value)
		}
	}
	equal := map[string]string{"group.share.min.session.timeout.ms": "1", "group.share.session.timeout.ms": "5000"}
	if _, err := LimitsOf(equal); err == nil {
		t.Error("a session that is no longer than an interval is taken")
	}
}

func TestOptionsAreNeeded(t *testing.T) {
	_, err := New(Options{})
	wantErr(t, "New", err, ErrOptions)
}
