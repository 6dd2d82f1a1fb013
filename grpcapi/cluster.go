package grpcapi

import (
	"context"
	"slices"
	"strconv"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/admin"
	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
)

// GetServers tells where to produce and where to read. Like Kafka's Metadata it needs no right but those to the topics.
func (s *management) GetServers(ctx context.Context, req *quorlogv1.GetServersRequest) (*quorlogv1.GetServersResponse, error) {
	if req.GetCreate() && byWeb(ctx) {
		return nil, s.failure(invalid("topics are not made by reading; POST /v1/topics makes one"))
	}
	c := s.o.Admin.Cluster()
	out := &quorlogv1.GetServersResponse{ClusterId: c.ID, Controller: int32(c.Controller), Partitions: map[string]int32{}}
	servers := map[replication.NodeID]*quorlogv1.Server{}
	for i, n := range slices.Concat(c.Nodes, c.Fenced) {
		server := &quorlogv1.Server{Id: int32(n.ID), Address: addressAt(n, callerOf(ctx).Listener), Rack: text(n.Rack), Alive: i < len(c.Nodes)}
		servers[n.ID], out.Servers = server, append(out.Servers, server)
	}
	if req.GetServersOnly() {
		return out, nil
	}
	for _, t := range s.topicsFor(ctx, req) {
		out.Partitions[t.Name] = int32(len(t.Partitions))
		for _, p := range t.Partitions {
			ref := &quorlogv1.PartitionRef{Topic: t.Name, Partition: p.Index, LeaderEpoch: int32(p.Leader.Epoch)}
			if leader := servers[p.Leader.Node]; leader != nil {
				leader.Leads = append(leader.Leads, ref)
			}
			for _, id := range p.ISR {
				if follower := servers[id]; follower != nil && id != p.Leader.Node {
					follower.Follows = append(follower.Follows, ref)
				}
			}
		}
	}
	return out, nil
}

// topicsFor describes the named topics, or all, as far as the caller may know of them. Those that the caller may make, and wants to,
// are made.
func (s *management) topicsFor(ctx context.Context, req *quorlogv1.GetServersRequest) []admin.TopicInfo {
	hidden := func(topic string) bool { return !s.may(ctx, broker.Describe, broker.Topic(topic)) }
	if len(req.GetTopics()) == 0 {
		return slices.DeleteFunc(s.o.Admin.AllTopics(), func(t admin.TopicInfo) bool { return t.Err != nil || hidden(t.Name) })
	}
	var known, made []admin.TopicRef
	for _, name := range slices.Compact(slices.Sorted(slices.Values(req.GetTopics()))) {
		switch {
		case hidden(name):
		case req.GetCreate() && s.mayCreate(ctx, name):
			made = append(made, admin.TopicRef{Name: name})
		default:
			known = append(known, admin.TopicRef{Name: name})
		}
	}
	infos := slices.Concat(s.o.Admin.Topics(ctx, known, false), s.o.Admin.Topics(ctx, made, true))
	return slices.DeleteFunc(infos, func(t admin.TopicInfo) bool { return t.Err != nil })
}

// GetStatus says how the cluster does, as this node sees it.
func (s *management) GetStatus(ctx context.Context, _ *quorlogv1.GetStatusRequest) (*quorlogv1.GetStatusResponse, error) {
	if err := s.need(ctx, broker.Describe, broker.Cluster); err != nil {
		return nil, s.failure(err)
	}
	c := s.o.Admin.Cluster()
	out := &quorlogv1.GetStatusResponse{
		ClusterId: c.ID, Controller: int32(c.Controller), Nodes: int32(len(c.Nodes) + len(c.Fenced)), NodesGone: int32(len(c.Fenced)),
	}
	for _, t := range s.o.Admin.AllTopics() {
		out.Topics++
		for _, p := range t.Partitions {
			out.Partitions++
			if p.Leader.Node == replication.NoNode {
				out.PartitionsWithoutLeader++
			}
			if len(p.ISR) < len(p.Replicas) {
				out.PartitionsUnderReplicated++
			}
		}
	}
	switch {
	case out.GetPartitionsWithoutLeader() > 0 || c.Controller == replication.NoNode:
		out.Health = quorlogv1.Health_HEALTH_DOWN
	case out.GetPartitionsUnderReplicated() > 0 || out.GetNodesGone() > 0:
		out.Health = quorlogv1.Health_HEALTH_DEGRADED
	default:
		out.Health = quorlogv1.Health_HEALTH_HEALTHY
	}
	return out, nil
}

// Drain changes controller.DrainSetting.
func (s *management) Drain(ctx context.Context, req *quorlogv1.DrainRequest) (*quorlogv1.DrainResponse, error) {
	if err := s.need(ctx, broker.AlterConfigs, broker.Cluster); err != nil {
		return nil, s.failure(err)
	}
	op := admin.ConfigOp{Name: controller.DrainSetting, Kind: admin.OpDelete}
	if req.GetDrain() {
		yes := strconv.FormatBool(true)
		op = admin.ConfigOp{Name: controller.DrainSetting, Kind: admin.OpSet, Value: &yes}
	}
	node := admin.Resource{Kind: admin.BrokerResource, Name: strconv.Itoa(int(req.GetNode()))}
	if err := s.o.Admin.AlterConfigs(ctx, []admin.ConfigChange{{Resource: node, Ops: []admin.ConfigOp{op}}}, false)[0]; err != nil {
		return nil, s.failure(err)
	}
	return &quorlogv1.DrainResponse{}, nil
}
