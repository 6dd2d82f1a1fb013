package api

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"reflect"
	"sync"
	"testing"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/conn"
	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// groupRows are the keys of this file's tests.
var groupRows = []*Row{
	&offsetCommitRow, &offsetFetchRow, &findCoordinatorRow, &joinGroupRow, &heartbeatRow, &leaveGroupRow, &syncGroupRow,
	&describeGroupsRow, &listGroupsRow, &deleteGroupsRow, &offsetDeleteRow,
	&consumerGroupHeartbeatRow, &consumerGroupDescribeRow, &shareGroupHeartbeatRow, &shareGroupDescribeRow,
}

// memOffsets is __consumer_offsets in memory, of one partition, committed at once.
type memOffsets struct {
	mu     sync.Mutex
	frames []byte
	next   batch.Offset
}

type doneAppend struct{}

var doneChannel = func() chan struct{} { ch := make(chan struct{}); close(ch); return ch }()

func (doneAppend) Done() <-chan struct{} { return doneChannel }
func (doneAppend) Err() error            { return nil }

func (m *memOffsets) Open(int32, batch.Epoch) (coordinator.Log, error) { return m, nil }

type unasked struct{}

func (unasked) End() {}

func (m *memOffsets) Verify(batch.Producer) coordinator.Verified { return unasked{} }

func (m *memOffsets) Append(frame []byte, _ coordinator.Verified) coordinator.Pending {
	m.mu.Lock()
	defer m.mu.Unlock()
	batch.Stamp(frame, m.next, 1)
	m.frames = append(m.frames, frame...)
	if h, err := batch.ParseHeader(frame); err == nil {
		m.next = h.NextOffset()
	}
	return doneAppend{}
}

func (m *memOffsets) Bounds() (coordinator.Bounds, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return coordinator.Bounds{Committed: m.next, End: m.next}, nil
}

func (m *memOffsets) Read(batch.Offset, int) (coordinator.Chunk, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return coordinator.Chunk{Frames: m.frames, Next: m.next}, nil
}

// oneNode is a cluster with the topic "t" and __consumer_offsets.
type oneNode struct{}

var topicT = coordinator.Topic{Name: "t", ID: replication.TopicID{7}, Partitions: 4}

func (oneNode) Topic(name string) (coordinator.Topic, bool) {
	switch name {
	case topicT.Name:
		return topicT, true
	case broker.OffsetsTopic:
		return coordinator.Topic{Name: name, Partitions: 1}, true
	}
	return coordinator.Topic{}, false
}

func (oneNode) TopicByID(id replication.TopicID) (coordinator.Topic, bool) {
	return topicT, id == topicT.ID
}

func (oneNode) Coordinator(int32, string) (replication.Node, bool) {
	return replication.Node{ID: 3, Host: "here", Port: 9092}, true
}

func (oneNode) TopicNames() []string { return []string{topicT.Name} }

func (oneNode) Sync(context.Context) error        { return nil }
func (oneNode) EnsureTopic(context.Context) error { return nil }

// newGroupAPI is an API of which only the group keys may be called.
func newGroupAPI(t *testing.T) *API {
	t.Helper()
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	s, err := group.New(group.Options{Logs: &memOffsets{}, Cluster: oneNode{}, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.LeaderChanged(0, 1, true)
	for {
		if _, err := s.List(group.ListRequest{}); err == nil {
			break // loaded
		}
	}
	return New(Services{Group: s, Logger: quiet})
}

// send takes a request through its bytes at a version, to the handler, and the response back through its bytes.
func send[R kmsg.Response](t *testing.T, a *API, version int16, req kmsg.Request) R {
	t.Helper()
	req.SetVersion(version)
	h := kafkaproto.RequestHeader{Key: kafkaproto.Key(req.Key()), Version: version, ClientID: "client"}
	body := req.AppendTo(nil)
	decoded, err := kafkaproto.Decode(h, body)
	if err != nil {
		t.Fatalf("%s version %d: %v", h.Key, version, err)
	}
	session := conn.NewSession(conn.SessionInfo{Remote: netip.MustParseAddrPort("127.0.0.1:5000")})
	raw, err := answer(t, a, &Request{Header: h, Session: session, FrameSize: len(body)}, decoded)
	if err != nil {
		t.Fatalf("%s version %d: %v", h.Key, version, err)
	}
	back := req.ResponseKind()
	back.SetVersion(version)
	if err := back.ReadFrom(raw); err != nil {
		t.Fatalf("%s version %d: its response can't be read: %v", h.Key, version, err)
	}
	if again := back.AppendTo(nil); !reflect.DeepEqual(again, raw) {
		t.Fatalf("%s version %d: its response changes when it is written again", h.Key, version)
	}
	return back.(R)
}

// answer has a request handled in either way, and returns the response's bytes.
func answer(t *testing.T, a *API, r *Request, body kmsg.Request) ([]byte, error) {
	row := a.row(r.Header.Key)
	if row.Start == nil {
		resp, err := row.Handler(t.Context(), a, r, body)
		if err != nil {
			return nil, err
		}
		resp.SetVersion(r.Header.Version)
		return resp.AppendTo(nil), nil
	}
	call, err := row.Start(t.Context(), a, r, body)
	if err != nil {
		return nil, err
	}
	reply, err := call.Finish(t.Context())
	if err != nil {
		return nil, err
	}
	defer reply.Body.Release()
	return reply.Body.AppendTo(nil)
}

func wantCode(t *testing.T, what string, version, got int16, want kafkaproto.Code) {
	t.Helper()
	if kafkaproto.Code(got) != want {
		t.Fatalf("%s version %d: %v, want %v", what, version, kafkaproto.Code(got), want)
	}
}

// TestGroupLifeAtEveryVersion takes a member through its life with each version of each key.
func TestGroupLifeAtEveryVersion(t *testing.T) {
	most := int16(0)
	for _, r := range groupRows {
		most = max(most, r.Max)
	}
	for v := range most + 1 {
		at := func(r *Row) int16 { return min(max(v, r.Min), r.Max) }
		a := newGroupAPI(t)
		member, generation := joinAt(t, a, at(&joinGroupRow))
		syncAt(t, a, at(&syncGroupRow), member, generation)

		hb := kmsg.NewPtrHeartbeatRequest()
		hb.Group, hb.MemberID, hb.Generation = "g", member, generation
		wantCode(t, "Heartbeat", v, send[*kmsg.HeartbeatResponse](t, a, at(&heartbeatRow), hb).ErrorCode, kafkaproto.None)
		hb.MemberID = "nobody"
		wantCode(t, "Heartbeat", v, send[*kmsg.HeartbeatResponse](t, a, at(&heartbeatRow), hb).ErrorCode, kafkaproto.UnknownMemberID)

		commitAt(t, a, at(&offsetCommitRow), member, generation)
		fetchAt(t, a, at(&offsetFetchRow))
		adminAt(t, a, v, at)
		leaveAt(t, a, at(&leaveGroupRow), member)
		deleteAt(t, a, at(&deleteGroupsRow))
	}
}

func joinAt(t *testing.T, a *API, v int16) (string, int32) {
	t.Helper()
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis, req.ProtocolType = "g", 10_000, 20_000, "consumer"
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "range", []byte{0, 0, 0, 0, 0, 1, 0, 1, 'u', 0, 0, 0, 0}
	req.Protocols = append(req.Protocols, p)
	resp := send[*kmsg.JoinGroupResponse](t, a, v, req)
	if v >= versionJoinMemberIDRequired {
		wantCode(t, "JoinGroup", v, resp.ErrorCode, kafkaproto.MemberIDRequired)
		req.MemberID = resp.MemberID
		resp = send[*kmsg.JoinGroupResponse](t, a, v, req)
	}
	wantCode(t, "JoinGroup", v, resp.ErrorCode, kafkaproto.None)
	if resp.Generation != 1 || *resp.Protocol != "range" || resp.LeaderID != resp.MemberID || len(resp.Members) != 1 {
		t.Fatalf("JoinGroup version %d: %+v", v, resp)
	}
	if v >= 7 && *resp.ProtocolType != "consumer" {
		t.Fatalf("JoinGroup version %d: %+v", v, resp)
	}
	req.MemberID = "nobody"
	wantCode(t, "JoinGroup", v, send[*kmsg.JoinGroupResponse](t, a, v, req).ErrorCode, kafkaproto.UnknownMemberID)
	return resp.MemberID, resp.Generation
}

func syncAt(t *testing.T, a *API, v int16, member string, generation int32) {
	t.Helper()
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.MemberID, req.Generation = "g", member, generation
	req.ProtocolType, req.Protocol = kmsg.StringPtr("consumer"), kmsg.StringPtr("range")
	s := kmsg.NewSyncGroupRequestGroupAssignment()
	s.MemberID, s.MemberAssignment = member, []byte("share")
	req.GroupAssignment = append(req.GroupAssignment, s)
	resp := send[*kmsg.SyncGroupResponse](t, a, v, req)
	wantCode(t, "SyncGroup", v, resp.ErrorCode, kafkaproto.None)
	if string(resp.MemberAssignment) != "share" {
		t.Fatalf("SyncGroup version %d: %+v", v, resp)
	}
	req.Generation++
	wantCode(t, "SyncGroup", v, send[*kmsg.SyncGroupResponse](t, a, v, req).ErrorCode, kafkaproto.IllegalGeneration)
}

func commitAt(t *testing.T, a *API, v int16, member string, generation int32) {
	t.Helper()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.MemberID, req.Generation = "g", member, generation
	topic := kmsg.NewOffsetCommitRequestTopic()
	topic.Topic, topic.TopicID = topicT.Name, topicT.ID
	for _, part := range []int32{1, 99} {
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = part, 42, 6, kmsg.StringPtr("note")
		topic.Partitions = append(topic.Partitions, p)
	}
	req.Topics = append(req.Topics, topic)
	resp := send[*kmsg.OffsetCommitResponse](t, a, v, req)
	if v >= versionOffsetsByID && resp.Topics[0].TopicID != topicT.ID || v < versionOffsetsByID && resp.Topics[0].Topic != "t" {
		t.Fatalf("OffsetCommit version %d: %+v", v, resp)
	}
	wantCode(t, "OffsetCommit", v, resp.Topics[0].Partitions[0].ErrorCode, kafkaproto.None)
	wantCode(t, "OffsetCommit", v, resp.Topics[0].Partitions[1].ErrorCode, kafkaproto.UnknownTopicOrPartition)
}

func fetchAt(t *testing.T, a *API, v int16) {
	t.Helper()
	for _, all := range []bool{false, true} {
		if all && v < versionFetchGroupError {
			continue
		}
		req := kmsg.NewPtrOffsetFetchRequest()
		req.Group = "g"
		g, unknown := kmsg.NewOffsetFetchRequestGroup(), kmsg.NewOffsetFetchRequestGroup()
		g.Group, unknown.Group = "g", "nobody"
		if !all {
			req.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{1, 2}}}
			g.Topics = []kmsg.OffsetFetchRequestGroupTopic{{Topic: "t", TopicID: topicT.ID, Partitions: []int32{1, 2}}}
			unknown.Topics = g.Topics
		}
		req.Groups = append(req.Groups, g, unknown)
		resp := send[*kmsg.OffsetFetchResponse](t, a, v, req)
		if v < versionFetchManyGroups {
			p := resp.Topics[0].Partitions
			if p[0].Partition != 1 || p[0].Offset != 42 || *p[0].Metadata != "note" || (!all && (p[1].Offset != -1 || p[1].ErrorCode != 0)) {
				t.Fatalf("OffsetFetch version %d: %+v", v, resp)
			}
			continue
		}
		p := resp.Groups[0].Topics[0].Partitions
		if p[0].Offset != 42 || *p[0].Metadata != "note" || resp.Groups[1].ErrorCode != 0 {
			t.Fatalf("OffsetFetch version %d: %+v", v, resp)
		}
		if v >= versionOffsetsByID && resp.Groups[0].Topics[0].TopicID != topicT.ID {
			t.Fatalf("OffsetFetch version %d: %+v", v, resp)
		}
		if !all && resp.Groups[1].Topics[0].Partitions[0].Offset != -1 {
			t.Fatalf("OffsetFetch version %d: %+v", v, resp)
		}
	}
}

func adminAt(t *testing.T, a *API, v int16, at func(*Row) int16) {
	t.Helper()
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKey, find.CoordinatorKeys = "g", []string{"g", "h"}
	found := send[*kmsg.FindCoordinatorResponse](t, a, at(&findCoordinatorRow), find)
	if at(&findCoordinatorRow) < versionFindMany && found.NodeID != 3 || at(&findCoordinatorRow) >= versionFindMany && (len(found.Coordinators) != 2 || found.Coordinators[1].Port != 9092) {
		t.Fatalf("FindCoordinator version %d: %+v", v, found)
	}

	describe := kmsg.NewPtrDescribeGroupsRequest()
	describe.Groups = []string{"g", "nobody"}
	d := send[*kmsg.DescribeGroupsResponse](t, a, at(&describeGroupsRow), describe)
	if g := d.Groups[0]; g.State != "Stable" || g.ProtocolType != "consumer" || g.Protocol != "range" || g.Members[0].ClientHost != "/127.0.0.1" || string(g.Members[0].MemberAssignment) != "share" {
		t.Fatalf("DescribeGroups version %d: %+v", v, d)
	}
	want := kafkaproto.None
	if at(&describeGroupsRow) >= versionDescribeNotFound {
		want = kafkaproto.GroupIDNotFound
	}
	wantCode(t, "DescribeGroups", v, d.Groups[1].ErrorCode, want)
	if d.Groups[1].State != "Dead" {
		t.Fatalf("DescribeGroups version %d: %+v", v, d)
	}

	list := kmsg.NewPtrListGroupsRequest()
	list.StatesFilter, list.TypesFilter = []string{"Stable"}, []string{"classic"}
	l := send[*kmsg.ListGroupsResponse](t, a, at(&listGroupsRow), list)
	if len(l.Groups) != 1 || l.Groups[0].Group != "g" {
		t.Fatalf("ListGroups version %d: %+v", v, l)
	}

	drop := kmsg.NewPtrOffsetDeleteRequest()
	drop.Group = "g"
	drop.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 1}}}}
	dropped := send[*kmsg.OffsetDeleteResponse](t, a, at(&offsetDeleteRow), drop)
	wantCode(t, "OffsetDelete", v, dropped.Topics[0].Partitions[0].ErrorCode, kafkaproto.None)
	drop.Group = "nobody"
	wantCode(t, "OffsetDelete", v, send[*kmsg.OffsetDeleteResponse](t, a, 0, drop).ErrorCode, kafkaproto.GroupIDNotFound)
}

func leaveAt(t *testing.T, a *API, v int16, member string) {
	t.Helper()
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group, req.MemberID = "g", member
	req.Members = []kmsg.LeaveGroupRequestMember{{MemberID: member}, {MemberID: "nobody"}}
	resp := send[*kmsg.LeaveGroupResponse](t, a, v, req)
	wantCode(t, "LeaveGroup", v, resp.ErrorCode, kafkaproto.None)
	if v >= versionLeaveMany {
		wantCode(t, "LeaveGroup", v, resp.Members[0].ErrorCode, kafkaproto.None)
		wantCode(t, "LeaveGroup", v, resp.Members[1].ErrorCode, kafkaproto.UnknownMemberID)
	}
}

func deleteAt(t *testing.T, a *API, v int16) {
	t.Helper()
	req := kmsg.NewPtrDeleteGroupsRequest()
	req.Groups = []string{"g", "nobody"}
	resp := send[*kmsg.DeleteGroupsResponse](t, a, v, req)
	wantCode(t, "DeleteGroups", v, resp.Groups[0].ErrorCode, kafkaproto.None)
	wantCode(t, "DeleteGroups", v, resp.Groups[1].ErrorCode, kafkaproto.GroupIDNotFound)
}

// loadingOffsets is __consumer_offsets that can't be read before it is closed.
type loadingOffsets struct {
	memOffsets
	held chan struct{}
}

func (l *loadingOffsets) Open(int32, batch.Epoch) (coordinator.Log, error) {
	<-l.held
	return &l.memOffsets, nil
}

// TestWhileTheCoordinatorLoads: there are clients that end when Heartbeat or SyncGroup says that it loads; as Kafka, we have the
// member go on, or join again.
func TestWhileTheCoordinatorLoads(t *testing.T) {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	logs := &loadingOffsets{held: make(chan struct{})}
	s, err := group.New(group.Options{Logs: logs, Cluster: oneNode{}, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	defer close(logs.held)
	s.LeaderChanged(0, 1, true)
	a := New(Services{Group: s, Logger: quiet})
	heartbeat, sync, join := kmsg.NewPtrHeartbeatRequest(), kmsg.NewPtrSyncGroupRequest(), kmsg.NewPtrJoinGroupRequest()
	heartbeat.Group, sync.Group, join.Group = "g", "g", "g"
	heartbeat.MemberID, sync.MemberID, join.MemberID = "m", "m", "m"
	join.SessionTimeoutMillis, join.RebalanceTimeoutMillis, join.ProtocolType = 10_000, 20_000, "consumer"
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
	wantCode(t, "JoinGroup", 4, send[*kmsg.JoinGroupResponse](t, a, 4, join).ErrorCode, kafkaproto.CoordinatorLoadInProgress)
	wantCode(t, "Heartbeat", 4, send[*kmsg.HeartbeatResponse](t, a, 4, heartbeat).ErrorCode, kafkaproto.None)
	wantCode(t, "SyncGroup", 4, send[*kmsg.SyncGroupResponse](t, a, 4, sync).ErrorCode, kafkaproto.RebalanceInProgress)
}

// TestGroupsOfAnotherNode has every key answer NOT_COORDINATOR where it can.
func TestGroupsOfAnotherNode(t *testing.T) {
	a := newGroupAPI(t)
	a.Group.LeaderChanged(0, 2, false)
	fetch := kmsg.NewPtrOffsetFetchRequest()
	fetch.Group = "g"
	fetch.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{1}}}
	wantCode(t, "OffsetFetch", 1, send[*kmsg.OffsetFetchResponse](t, a, 1, fetch).Topics[0].Partitions[0].ErrorCode, kafkaproto.NotCoordinator)
	wantCode(t, "OffsetFetch", 7, send[*kmsg.OffsetFetchResponse](t, a, 7, fetch).ErrorCode, kafkaproto.NotCoordinator)
	describe := kmsg.NewPtrDescribeGroupsRequest()
	describe.Groups = []string{"g"}
	wantCode(t, "DescribeGroups", 0, send[*kmsg.DescribeGroupsResponse](t, a, 0, describe).Groups[0].ErrorCode, kafkaproto.NotCoordinator)
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group = "g"
	wantCode(t, "LeaveGroup", 3, send[*kmsg.LeaveGroupResponse](t, a, 3, leave).ErrorCode, kafkaproto.NotCoordinator)
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKey, find.CoordinatorType = "g", 2
	wantCode(t, "FindCoordinator", 2, send[*kmsg.FindCoordinatorResponse](t, a, 2, find).ErrorCode, kafkaproto.InvalidRequest)
}
