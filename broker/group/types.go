package group

import (
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// Generation counts the rebalances of a group. It only grows. NoGeneration is what a client sends that commits offsets
// without being a member.
type Generation int32

// NoGeneration is the absent generation.
const NoGeneration Generation = -1

// ConsumerProtocol is the protocol type of groups whose members' metadata says which topics they subscribe to.
const ConsumerProtocol = "consumer"

// Protocol is a way to share the work that a member offers, with what it says of itself under it.
type Protocol struct {
	Name     string
	Metadata []byte
}

// JoinRequest asks to be part of the group's next generation.
type JoinRequest struct {
	Group            string
	Member           string // empty for a new member
	Instance         string // group.instance.id (KIP-345); empty for a dynamic member
	ClientID         string
	ClientHost       string
	ProtocolType     string
	Protocols        []Protocol // in order of preference
	SessionTimeout   time.Duration
	RebalanceTimeout time.Duration
	// RequireMemberID has a new dynamic member come back with the id that it is told (KIP-394, JoinGroup 4).
	RequireMemberID bool
	// SkipAssignment tells that the client understands JoinResponse.SkipAssignment (KIP-814, JoinGroup 9).
	SkipAssignment bool
}

// JoinResponse tells a member of its generation. With Err set only Member has a meaning.
type JoinResponse struct {
	Err            error
	Member         string
	Leader         string
	Generation     Generation
	ProtocolType   string
	Protocol       string
	SkipAssignment bool         // the leader need not compute assignments, but must watch the group's metadata
	Members        []JoinMember // for the leader only
}

// JoinMember is a member as the leader of the group is told of it.
type JoinMember struct {
	Member   string
	Instance string
	Metadata []byte
}

// SyncRequest brings, from the leader, everybody's assignment, and waits for one's own.
type SyncRequest struct {
	Group        string
	Member       string
	Instance     string
	Generation   Generation
	ProtocolType *string // checked if present (SyncGroup 5)
	Protocol     *string // checked if present (SyncGroup 5)
	Assignments  []Assignment
}

// Assignment is the share of the work of one member.
type Assignment struct {
	Member string
	Data   []byte
}

// SyncResponse is a member's assignment.
type SyncResponse struct {
	Err          error
	ProtocolType string
	Protocol     string
	Assignment   []byte
}

// HeartbeatRequest keeps a member alive.
type HeartbeatRequest struct {
	Group      string
	Member     string
	Instance   string
	Generation Generation
}

// LeaveRequest takes members out of a group. A member may be named by its instance alone.
type LeaveRequest struct {
	Group   string
	Members []LeaveMember
}

// LeaveMember names one that leaves.
type LeaveMember struct {
	Member   string
	Instance string
}

// CommitRequest stores offsets. With NoGeneration and no member the group need not exist and must have no members.
type CommitRequest struct {
	Group      string
	Member     string
	Instance   string
	Generation Generation
	Retention  time.Duration // negative: the broker's (OffsetCommit 2-4 may send their own)
	Old        bool          // by a client that does not know the errors of the consumer protocol: OffsetCommit before version 9
	Topics     []CommitTopic
}

// TxnCommitRequest stores offsets as part of a producer's transaction.
type TxnCommitRequest struct {
	CommitRequest
	Producer Producer
	// Ask has the transaction's coordinator say whether the group's offsets are part of the transaction. If that ends between the
	// answer and the write, nothing is stored.
	Ask func() error
}

// CommitTopic is a topic by name, or, if Name is empty, by id.
type CommitTopic struct {
	Name       string
	ID         replication.TopicID
	Partitions []CommitPartition
}

// CommitPartition is an offset to store.
type CommitPartition struct {
	Partition   int32
	Offset      batch.Offset
	LeaderEpoch batch.Epoch
	Metadata    string
}

// FetchRequest asks for committed offsets: of the topics named, or of all if All is set.
type FetchRequest struct {
	Group         string
	Member        string      // checked if it, or the epoch, is there (OffsetFetch 9)
	Epoch         MemberEpoch // -1: none
	All           bool
	Topics        []FetchTopic
	RequireStable bool // broker.ErrUnstableOffsetCommit for a partition that an open transaction would change (KIP-447)
}

// FetchTopic is a topic by name, or, if Name is empty, by id.
type FetchTopic struct {
	Name       string
	ID         replication.TopicID
	Partitions []int32
}

// FetchResponse holds committed offsets in the request's order, or sorted if all were asked for.
type FetchResponse struct {
	Err    error
	Topics []FetchedTopic
}

// FetchedTopic is a topic with its committed offsets.
type FetchedTopic struct {
	Name       string
	ID         replication.TopicID
	Partitions []FetchedPartition
}

// FetchedPartition is a committed offset; Offset is -1 if there is none.
type FetchedPartition struct {
	Partition   int32
	Offset      batch.Offset
	LeaderEpoch batch.Epoch
	Metadata    string
	Err         error
}

// NoOffset stands for "nothing was committed".
const NoOffset batch.Offset = -1

// Description is a group as DescribeGroups shows it.
type Description struct {
	Err          error
	Group        string
	State        State
	ProtocolType string
	Protocol     string
	Members      []DescribedMember
}

// DescribedMember is a member as DescribeGroups shows it. Metadata and Assignment are there in a stable group only.
type DescribedMember struct {
	Member     string
	Instance   string
	ClientID   string
	ClientHost string
	Metadata   []byte
	Assignment []byte
}

// Listing is a group as ListGroups shows it.
type Listing struct {
	Group        string
	ProtocolType string
	State        string // Kafka's name
	Type         string
}

// ListRequest filters by state and type names; empty filters pass everything.
type ListRequest struct {
	States []string
	Types  []string
}

// DeleteOffsetsRequest drops committed offsets of a group (KIP-496).
type DeleteOffsetsRequest struct {
	Group  string
	Topics []DeleteOffsetsTopic
}

// DeleteOffsetsTopic names the partitions whose offsets go.
type DeleteOffsetsTopic struct {
	Name       string
	Partitions []int32
}
