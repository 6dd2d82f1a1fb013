package group

import (
	"slices"
	"time"
)

// MemberRequest is a heartbeat of a member whose partitions the coordinator assigns. By the first one, with EpochJoin, the
// member joins; nil and negative values say "as before".
type MemberRequest struct {
	Version    int16 // of the request: 0 has the broker make the member's id
	Group      string
	Member     string
	Epoch      MemberEpoch
	Instance   string // consumer groups only
	Rack       *string
	ClientID   string
	ClientHost string
	Rebalance  time.Duration // how long it may take to give up partitions; negative: as before
	Topics     []string
	Regex      *string
	Assignor   *string
	Owned      []TopicPartition // what it has; nil: it does not say
	classic    *classicSide     // of a JoinGroup; nil: of a member that speaks the consumer protocol
	// MaySee tells whether the member may know of a topic, if a regular expression matches it; nil: of all.
	MaySee func(topic string) bool
}

func (r *MemberRequest) bytes() int {
	n := 0
	if r.Epoch == EpochJoin {
		n += len(r.Member) + len(r.Instance) + len(r.ClientID) + len(r.ClientHost)
	}
	if r.Rack != nil {
		n += len(*r.Rack)
	}
	if r.Regex != nil {
		n += len(*r.Regex)
	}
	for _, t := range r.Topics {
		n += len(t)
	}
	return n + r.classic.bytes()
}

// fill takes over what the request says.
func (r *MemberRequest) fill(s *modernMember) {
	s.classic = r.classic
	if r.Epoch == EpochJoin || r.ClientID != "" {
		s.clientID, s.clientHost = r.ClientID, r.ClientHost
	}
	if r.Instance != "" {
		s.instance = r.Instance
	}
	if r.Rack != nil {
		s.rack = *r.Rack
	}
	if r.Rebalance >= 0 {
		s.rebalance = r.Rebalance
	}
	if r.Topics != nil {
		s.topics = slices.Clone(r.Topics)
		slices.Sort(s.topics)
		s.topics = slices.Compact(s.topics)
	}
	if r.Regex != nil {
		s.regex = *r.Regex
	}
	if r.Assignor != nil {
		s.assignor = *r.Assignor
	}
}

// MemberResponse tells a member of its epoch, and of its partitions if these changed or it asked for all.
type MemberResponse struct {
	Err           error
	Member        string
	Epoch         MemberEpoch
	Interval      time.Duration // how often it must be heard of
	HasAssignment bool
	Assigned      []TopicPartition // sorted
}

// MemberGroup is a group as ConsumerGroupDescribe and ShareGroupDescribe show it.
type MemberGroup struct {
	Err             error
	Group           string
	State           string // Kafka's name
	Epoch           MemberEpoch
	AssignmentEpoch MemberEpoch
	Assignor        string
	Members         []MemberShown
}

// MemberShown is a member in MemberGroup.
type MemberShown struct {
	Member     string
	Instance   string
	Rack       string
	Epoch      MemberEpoch
	ClientID   string
	ClientHost string
	Topics     []string
	Regex      string
	Assigned   []TopicPartition
	Target     []TopicPartition
	Classic    bool // it speaks the classic protocol
}
