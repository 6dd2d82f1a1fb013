package groupload

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	sessionTimeout = 30 * time.Second
	heartbeatEvery = 3 * time.Second
	perGroup       = 2
)

// group is a consumer group with two members that share a client once they have joined.
type group struct {
	name  string
	topic string
	id    [16]byte // of the topic, which OffsetCommit names by it as of version 10
	cl    *kgo.Client

	mu          sync.Mutex
	ids         [perGroup]string
	generations [perGroup]int32
	next        int64 // the offset to commit
}

// join brings both members into one generation. Each needs a client of its own for that: a node answers what comes over one
// connection in order, and a JoinGroup is answered when the other member has joined.
func (g *group) join(ctx context.Context, own [perGroup]*kgo.Client) error {
	var both sync.WaitGroup
	var errs [perGroup]error
	for i, cl := range own {
		both.Go(func() { errs[i] = g.settle(ctx, cl, i) })
	}
	both.Wait()
	return errors.Join(errs[:]...)
}

// settle joins one member, again and again until it is in one generation with the other.
func (g *group) settle(ctx context.Context, cl *kgo.Client, i int) error {
	first, err := g.joinOnce(ctx, cl, "") // gives it an id, as of JoinGroup 4
	if err != nil && !errors.Is(err, kerr.MemberIDRequired) {
		return err
	}
	id := first.MemberID
	for ctx.Err() == nil {
		joined, err := g.joinOnce(ctx, cl, id)
		if err == nil {
			err = g.sync(ctx, cl, joined)
		}
		if err == nil {
			g.joined(i, id, joined.Generation)
			err = g.awaitOther(ctx, cl, i)
		}
		if !errors.Is(err, kerr.RebalanceInProgress) {
			return err
		}
	}
	return ctx.Err()
}

func (g *group) joined(i int, id string, generation int32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ids[i], g.generations[i] = id, generation
}

// awaitOther sends heartbeats until both members are in one generation, which takes a rebalance if this one was first.
func (g *group) awaitOther(ctx context.Context, cl *kgo.Client, i int) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := g.heartbeat(ctx, cl, i); err != nil {
			return err
		}
		g.mu.Lock()
		together := g.generations[0] == g.generations[1]
		g.mu.Unlock()
		if together {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (g *group) joinOnce(ctx context.Context, cl *kgo.Client, id string) (*kmsg.JoinGroupResponse, error) {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.MemberID, req.ProtocolType = g.name, id, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = int32(sessionTimeout.Milliseconds()), 10_000
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Topics = []string{g.topic}
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name, protocol.Metadata = "range", meta.AppendTo(nil)
	req.Protocols = append(req.Protocols, protocol)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, err
	}
	return resp, kerr.ErrorForCode(resp.ErrorCode)
}

// sync takes part in a generation; its leader gives each member one partition.
func (g *group) sync(ctx context.Context, cl *kgo.Client, joined *kmsg.JoinGroupResponse) error {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.MemberID, req.Generation = g.name, joined.MemberID, joined.Generation
	req.ProtocolType, req.Protocol = kmsg.StringPtr("consumer"), kmsg.StringPtr("range")
	for p, member := range joined.Members { // only the leader is told of members
		a := kmsg.NewConsumerMemberAssignment()
		t := kmsg.NewConsumerMemberAssignmentTopic()
		t.Topic, t.Partitions = g.topic, []int32{int32(p)}
		a.Topics = append(a.Topics, t)
		share := kmsg.NewSyncGroupRequestGroupAssignment()
		share.MemberID, share.MemberAssignment = member.MemberID, a.AppendTo(nil)
		req.GroupAssignment = append(req.GroupAssignment, share)
	}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}

// heartbeat is one of a member.
func (g *group) heartbeat(ctx context.Context, cl *kgo.Client, member int) error {
	g.mu.Lock()
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.MemberID, req.Generation = g.name, g.ids[member], g.generations[member]
	g.mu.Unlock()
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}

// commit commits one partition's next offset.
func (g *group) commit(ctx context.Context) error {
	g.mu.Lock()
	g.next++
	member := int(g.next) % perGroup
	part := kmsg.NewOffsetCommitRequestTopicPartition()
	part.Partition, part.Offset = int32(member), g.next
	topic := kmsg.NewOffsetCommitRequestTopic()
	topic.Topic, topic.TopicID, topic.Partitions = g.topic, g.id, []kmsg.OffsetCommitRequestTopicPartition{part}
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.MemberID, req.Generation = g.name, g.ids[member], g.generations[member]
	req.Topics = []kmsg.OffsetCommitRequestTopic{topic}
	g.mu.Unlock()
	resp, err := req.RequestWith(ctx, g.cl)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}
