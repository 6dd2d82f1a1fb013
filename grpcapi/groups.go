package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/group"
	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"

	"google.golang.org/protobuf/proto"
)

// The types of groups, as Kafka names them.
const (
	classicGroup  = "classic"
	consumerGroup = "consumer"
	shareGroup    = "share"
)

// The methods that other nodes are asked.
const (
	listGroups    = "ListGroups"
	describeGroup = "DescribeGroup"
	deleteGroup   = "DeleteGroup"
	commitOffsets = "CommitOffsets"
	fetchOffsets  = "FetchOffsets"
)

// mostSilence is how long a node may take to tell its groups.
const mostSilence = 5 * time.Second

// coordinated is the answer to a call about a group that this node does not coordinate: the coordinator's. err is why this node
// can't answer. Offsets are stored where they are already if the same are stored twice, and so is everything else that these do.
func coordinated[R proto.Message](ctx context.Context, s *management, group string, err error, method string, request proto.Message, response R) (R, error) {
	var none R
	if !errors.Is(err, broker.ErrNotCoordinator) {
		return none, s.failure(err)
	}
	where := &quorlogv1.NotCoordinator{Node: int32(replication.NoNode)}
	for _, f := range s.o.Groups.FindCoordinators(ctx, []string{group}, "") {
		if f.Err == nil {
			where.Node, where.Address = int32(f.Node.ID), s.address(ctx, f.Node.ID)
		}
	}
	if to := replication.NodeID(where.GetNode()); to != replication.NoNode && to != s.o.Node && !handedOn(ctx) {
		away := handOn(ctx, s.core, to, groupCall+method, request, response, maxSmall)
		switch {
		case away == nil:
			return response, nil
		case errors.Is(away, replication.ErrUnknownOutcome), errors.Is(away, replication.ErrOverloaded):
			return none, s.failure(away)
		case !errors.Is(away, replication.ErrNotLeader):
			return none, s.relisten(ctx, away)
		}
	}
	return none, s.failure(err, where)
}

// ListGroups lists the cluster's groups: each node those that it coordinates. With the right to describe the cluster one sees all. If
// a node that is there does not answer, there is an error rather than half a list.
func (s *management) ListGroups(ctx context.Context, req *quorlogv1.ListGroupsRequest) (*quorlogv1.ListGroupsResponse, error) {
	list, err := s.o.Groups.List(group.ListRequest{})
	if err != nil {
		return nil, s.failure(err)
	}
	all := s.may(ctx, broker.Describe, broker.Cluster)
	found := map[string]*quorlogv1.GroupListing{} // one may change its coordinator meanwhile
	for _, g := range list {
		if all || s.may(ctx, broker.Describe, broker.Group(g.Group)) {
			name := text(g.Group) // so other nodes tell it, too
			found[name] = &quorlogv1.GroupListing{Group: name, Type: g.Type, State: g.State, ProtocolType: text(g.ProtocolType)}
		}
	}
	if !handedOn(ctx) {
		for _, n := range s.o.Admin.Cluster().Nodes {
			if n.ID == s.o.Node {
				continue
			}
			there := new(quorlogv1.ListGroupsResponse)
			asked, cancel := context.WithTimeout(ctx, mostSilence)
			err := handOn(asked, s.core, n.ID, groupCall+listGroups, req, there, awayBytes)
			silent := err != nil && asked.Err() != nil && ctx.Err() == nil
			cancel()
			if silent || errors.Is(err, replication.ErrNotLeader) || errors.Is(err, replication.ErrUnknownOutcome) { // to ask twice does no harm
				err = s.failure(fmt.Errorf("%w: node %d does not tell its groups", broker.ErrNotCoordinator, n.ID),
					&quorlogv1.NotCoordinator{Node: int32(n.ID), Address: s.address(ctx, n.ID)})
			}
			if err != nil {
				return nil, s.failure(err)
			}
			for _, g := range there.GetGroups() {
				found[g.GetGroup()] = g
			}
		}
	}
	out := &quorlogv1.ListGroupsResponse{}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		out.Groups = append(out.Groups, found[name])
	}
	return out, nil
}

// DescribeGroup tells of a group of whatever type.
func (s *management) DescribeGroup(ctx context.Context, req *quorlogv1.DescribeGroupRequest) (*quorlogv1.Group, error) {
	name := req.GetGroup()
	if err := s.need(ctx, broker.Describe, broker.Group(name)); err != nil {
		return nil, s.failure(err)
	}
	for _, g := range s.o.Groups.Describe([]string{name}) {
		if g.Err == nil {
			return classic(&g), nil
		}
		if !errors.Is(g.Err, broker.ErrGroupNotFound) {
			return coordinated(ctx, s, name, g.Err, describeGroup, req, new(quorlogv1.Group))
		}
	}
	for kind, describe := range map[string]func([]string) []group.MemberGroup{
		consumerGroup: s.o.Groups.DescribeConsumers, shareGroup: s.o.Groups.DescribeShares,
	} {
		for _, g := range describe([]string{name}) {
			if g.Err == nil {
				return modern(&g, kind), nil
			}
			if !errors.Is(g.Err, broker.ErrGroupNotFound) {
				return coordinated(ctx, s, name, g.Err, describeGroup, req, new(quorlogv1.Group))
			}
		}
	}
	return nil, s.failure(broker.ErrGroupNotFound)
}

func classic(g *group.Description) *quorlogv1.Group {
	out := &quorlogv1.Group{Group: text(g.Group), Type: classicGroup, State: g.State.String()}
	for _, m := range g.Members {
		out.Members = append(out.Members, member(m.Member, m.Instance, m.ClientID, m.ClientHost))
	}
	return out
}

func modern(g *group.MemberGroup, kind string) *quorlogv1.Group {
	out := &quorlogv1.Group{Group: text(g.Group), Type: kind, State: g.State}
	for _, m := range g.Members {
		out.Members = append(out.Members, member(m.Member, m.Instance, m.ClientID, m.ClientHost))
	}
	return out
}

// member is a member of a group, who chose most of this.
func member(id, instance, clientID, clientHost string) *quorlogv1.GroupMember {
	return &quorlogv1.GroupMember{Member: text(id), Instance: text(instance), ClientId: text(clientID), ClientHost: text(clientHost)}
}

// DeleteGroup deletes a group without members.
func (s *management) DeleteGroup(ctx context.Context, req *quorlogv1.DeleteGroupRequest) (*quorlogv1.DeleteGroupResponse, error) {
	if err := s.need(ctx, broker.Delete, broker.Group(req.GetGroup())); err != nil {
		return nil, s.failure(err)
	}
	if err := s.o.Groups.Delete(ctx, []string{req.GetGroup()})[0]; err != nil {
		return coordinated(ctx, s, req.GetGroup(), err, deleteGroup, req, new(quorlogv1.DeleteGroupResponse))
	}
	return &quorlogv1.DeleteGroupResponse{}, nil
}

// CommitOffsets stores offsets. Topics that the caller may not read fail by themselves.
func (s *management) CommitOffsets(ctx context.Context, req *quorlogv1.CommitOffsetsRequest) (*quorlogv1.CommitOffsetsResponse, error) {
	if err := s.need(ctx, broker.Read, broker.Group(req.GetGroup())); err != nil {
		return nil, s.failure(err)
	}
	if len(req.GetOffsets()) == 0 {
		return nil, s.failure(invalid("no offsets"))
	}
	commit := group.CommitRequest{Group: req.GetGroup(), Generation: group.NoGeneration, Retention: -1}
	errs := make([]error, len(req.GetOffsets()))
	var position []int // in the request, of each topic of the commit
	for i, o := range req.GetOffsets() {
		switch {
		case !s.may(ctx, broker.Read, broker.Topic(o.GetTopic())):
			errs[i] = broker.ErrTopicDenied
		case o.GetOffset() < 0:
			errs[i] = invalid("offset %d", o.GetOffset())
		default:
			p := group.CommitPartition{Partition: o.GetPartition(), Offset: batch.Offset(o.GetOffset()), LeaderEpoch: batch.NoEpoch, Metadata: o.GetMetadata()}
			commit.Topics = append(commit.Topics, group.CommitTopic{Name: o.GetTopic(), Partitions: []group.CommitPartition{p}})
			position = append(position, i)
		}
	}
	if len(commit.Topics) > 0 {
		for j, each := range s.o.Groups.Commit(ctx, commit) {
			errs[position[j]] = each[0]
		}
	}
	return s.committed(ctx, req, errs)
}

func (s *management) committed(ctx context.Context, req *quorlogv1.CommitOffsetsRequest, errs []error) (*quorlogv1.CommitOffsetsResponse, error) {
	out := &quorlogv1.CommitOffsetsResponse{}
	stored := false
	for _, err := range errs {
		r := &quorlogv1.OffsetResult{}
		if err != nil {
			r.Reason, r.Message = s.o.Reason(err), text(err.Error())
		}
		stored = stored || err == nil
		out.Results = append(out.Results, r)
	}
	// Offsets may be refused for themselves before the others are for want of a coordinator.
	if i := slices.IndexFunc(errs, func(err error) bool { return errors.Is(err, broker.ErrNotCoordinator) }); i >= 0 {
		return coordinated(ctx, s, req.GetGroup(), errs[i], commitOffsets, req, new(quorlogv1.CommitOffsetsResponse))
	}
	if !stored {
		return nil, s.failure(errs[0])
	}
	return out, nil
}

// FetchOffsets tells what a group has committed, of the topics that the caller may know of.
func (s *management) FetchOffsets(ctx context.Context, req *quorlogv1.FetchOffsetsRequest) (*quorlogv1.FetchOffsetsResponse, error) {
	if err := s.need(ctx, broker.Describe, broker.Group(req.GetGroup())); err != nil {
		return nil, s.failure(err)
	}
	if req.GetTopic() != "" {
		if err := s.need(ctx, broker.Describe, broker.Topic(req.GetTopic())); err != nil {
			return nil, s.failure(err)
		}
	}
	got := s.o.Groups.Fetch(ctx, group.FetchRequest{Group: req.GetGroup(), Epoch: -1, All: true})
	if got.Err != nil {
		return coordinated(ctx, s, req.GetGroup(), got.Err, fetchOffsets, req, new(quorlogv1.FetchOffsetsResponse))
	}
	out := &quorlogv1.FetchOffsetsResponse{}
	for _, t := range got.Topics {
		if req.GetTopic() != "" && t.Name != req.GetTopic() || !s.may(ctx, broker.Describe, broker.Topic(t.Name)) {
			continue
		}
		for _, p := range t.Partitions {
			if p.Err == nil && p.Offset >= 0 {
				out.Offsets = append(out.Offsets, &quorlogv1.GroupOffset{
					Topic: text(t.Name), Partition: p.Partition, Offset: int64(p.Offset), Metadata: text(p.Metadata),
				})
			}
		}
	}
	return out, nil
}
