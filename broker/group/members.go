package group

import (
	"context"
	"fmt"
	"slices"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/replication"
)

// Cluster is what the groups need to know of the cluster.
type Cluster interface {
	coordinator.Cluster
	// TopicNames are the names of all topics, which a regular expression may match. With KIP-848 that is so for internal topics
	// too: whoever writes an expression that matches one gets it.
	TopicNames() []string
}

// TopicByID finds a topic.
func (s *Service) TopicByID(id replication.TopicID) (coordinator.Topic, bool) {
	return s.cluster.TopicByID(id)
}

// TopicsChanged tells that topics were made or deleted, or grew. The groups that read them are told with their members' next
// heartbeats.
func (s *Service) TopicsChanged() { s.topics.Add(1) }

// ConsumerHeartbeat answers a ConsumerGroupHeartbeat request (KIP-848), once what it changes is committed.
func (s *Service) ConsumerHeartbeat(ctx context.Context, r MemberRequest) MemberResponse {
	if err := s.limits.checkConsumer(&r); err != nil {
		return MemberResponse{Err: err}
	}
	return s.memberHeartbeat(ctx, r, false)
}

// ShareHeartbeat answers a ShareGroupHeartbeat request (KIP-932), once what it changes is committed.
func (s *Service) ShareHeartbeat(ctx context.Context, r MemberRequest) MemberResponse {
	err := s.limits.checkMember(&r)
	switch {
	case err != nil:
		return MemberResponse{Err: err}
	case r.Epoch < EpochLeave:
		return MemberResponse{Err: invalid("MemberEpoch is invalid.")}
	case r.Epoch == EpochJoin && r.Topics == nil:
		return MemberResponse{Err: invalid("SubscribedTopicNames must be set in first request.")}
	}
	return s.memberHeartbeat(ctx, r, true)
}

func (s *Service) memberHeartbeat(ctx context.Context, r MemberRequest, share bool) MemberResponse {
	now := s.topics.view(s.cluster)
	resolved, err := s.resolve(&r, now.Version)
	if err != nil {
		return MemberResponse{Err: err}
	}
	times := s.times(r.Group, share)
	e, err := s.do(ctx, r.Group, func(c CallID) Event {
		return MemberHeartbeat{Call: c, Request: r, Share: share, Times: times, View: now, Resolved: resolved}
	})
	if err != nil {
		return MemberResponse{Err: err}
	}
	return e.(ReplyMember).Response
}

func invalid(text string) error { return fmt.Errorf("%w: %s", replication.ErrInvalidRequest, text) }

// checkMember holds what all heartbeats must obey.
func (l *Limits) checkMember(r *MemberRequest) error {
	most := l.MaxGroupIDBytes
	switch {
	case r.Group == "":
		return invalid("GroupId can't be empty.")
	case len(r.Group) > most || len(r.Member) > most || len(r.Instance) > most:
		return broker.ErrInvalidGroupID
	case r.Rack != nil && *r.Rack == "":
		return invalid("RackId can't be empty.")
	case r.Member == "":
		return invalid("MemberId can't be empty.")
	}
	return nil
}

func (l *Limits) checkConsumer(r *MemberRequest) error {
	if r.Member == "" && r.Epoch == EpochJoin && r.Version == 0 {
		r.Member = newMemberID("", "")[1:] // version 0 leaves it to the broker
	}
	if err := l.checkMember(r); err != nil {
		return err
	}
	switch {
	case r.Epoch < EpochStaticLeave:
		return invalid("MemberEpoch is invalid.")
	case r.Epoch == EpochStaticLeave && r.Instance == "":
		return invalid("InstanceId can't be null.")
	case r.Epoch == EpochJoin && r.Rebalance < 0:
		return invalid("RebalanceTimeoutMs must be provided in first request.")
	case r.Epoch == EpochJoin && (r.Owned == nil || len(r.Owned) > 0):
		return invalid("TopicPartitions must be empty when (re-)joining.")
	case r.Epoch == EpochJoin && r.Topics == nil && r.Regex == nil:
		return invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.")
	case r.Assignor != nil && !l.hasAssignor(*r.Assignor):
		return broker.ErrUnsupportedAssignor
	}
	return nil
}

// resolve matches topics with the regular expressions of the request and, if the topics changed since, of its group. It is
// done here, in the request's own goroutine, and not under the lock. As in Kafka an expression has the same topics for all members
// that use it: those that the member may see whose heartbeat asks first.
func (s *Service) resolve(r *MemberRequest, version uint64) (map[string][]string, error) {
	var all []string
	if r.Regex != nil && *r.Regex != "" {
		all = append(all, *r.Regex)
	}
	// Without a coordinator there is nothing to be asked; the heartbeat will say so.
	_ = s.view(r.Group, func(m *Machine) {
		if m != nil && m.modern != nil {
			all = m.modern.unresolved(all, version)
		}
	})
	if len(all) == 0 {
		return nil, nil
	}
	names := s.cluster.TopicNames()
	out := make(map[string][]string, len(all))
	for _, text := range all {
		re, err := coordinator.CompilePattern(text, s.limits.MaxRegexBytes)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", broker.ErrInvalidRegularExpression, err)
		}
		matched := []string{}
		for _, name := range names {
			if re.MatchString(name) && (r.MaySee == nil || r.MaySee(name)) {
				matched = append(matched, name)
			}
		}
		slices.Sort(matched)
		out[text] = matched
	}
	return out, nil
}

// DescribeConsumers shows groups of the consumer protocol; any other is broker.ErrGroupNotFound.
func (s *Service) DescribeConsumers(groups []string) []MemberGroup {
	return s.describeMembers(groups, false)
}

// DescribeShares shows share groups; any other group is broker.ErrGroupNotFound.
func (s *Service) DescribeShares(groups []string) []MemberGroup {
	return s.describeMembers(groups, true)
}

func (s *Service) describeMembers(groups []string, share bool) []MemberGroup {
	out := make([]MemberGroup, len(groups))
	for i, id := range groups {
		g := MemberGroup{Err: fmt.Errorf("%w: group %s is not a %s group", broker.ErrGroupNotFound, id, protocolName(share))}
		err := s.view(id, func(m *Machine) {
			switch {
			case m == nil || m.state == Dead:
				g.Err = fmt.Errorf("%w: group %s not found", broker.ErrGroupNotFound, id)
			case m.modern != nil && m.modern.share == share:
				g = m.DescribeMembers(s.limits.preferredAssignor())
			}
		})
		if err != nil {
			g.Err = err
		}
		g.Group = id
		out[i] = g
	}
	return out
}

func protocolName(share bool) string {
	if share {
		return "share"
	}
	return ConsumerProtocol
}

// ShareEmpty tells whether a share group has no members: broker.ErrNonEmptyGroup, broker.ErrGroupNotFound, or that this node
// does not coordinate the group.
func (s *Service) ShareEmpty(group string) error {
	refused := broker.ErrGroupNotFound
	err := s.view(group, func(m *Machine) {
		switch {
		case m == nil || m.modern == nil || !m.modern.share:
		case m.isIdle():
			refused = nil
		default:
			refused = broker.ErrNonEmptyGroup
		}
	})
	if err != nil {
		return err
	}
	return refused
}

// MakeShare makes an empty share group unless there is one: broker.ErrNonEmptyGroup if it has members, broker.ErrGroupNotFound if the id is that
// of another kind of group, or that this node does not coordinate it.
func MakeShare(ctx context.Context, s *Service, group string) error {
	e, err := s.do(ctx, group, func(c CallID) Event { return EnsureShare{Call: c} })
	if err != nil {
		return err
	}
	return e.(Reply).Err
}
