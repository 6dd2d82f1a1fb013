package group

import (
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// OffsetKey names a committed offset within its group.
type OffsetKey struct {
	Topic     string
	Partition int32
}

// Committed is a committed offset.
type Committed struct {
	Offset      batch.Offset
	LeaderEpoch batch.Epoch
	Metadata    string
	At          time.Time           // when it was committed, in milliseconds
	Expires     time.Time           // zero: by the broker's retention
	TopicID     replication.TopicID // zero if it is not known: such records were written once, and those with Expires have no place for it
	// place orders the offsets of one group as the log does: a transaction may commit what is older than what is there.
	place uint64
}

// Metadata is the durable part of a group's membership: what a new coordinator needs to go on with it.
type Metadata struct {
	ProtocolType string
	Protocol     string
	Leader       string
	Generation   Generation
	StateSince   time.Time // zero if not known
	Members      []StoredMember
}

// StoredMember is a member in Metadata.
type StoredMember struct {
	Member           string
	Instance         string
	ClientID         string
	ClientHost       string
	SessionTimeout   time.Duration
	RebalanceTimeout time.Duration
	Subscription     []byte
	Assignment       []byte
}

// Record is one change of a group's durable state. Exactly one of three: an offset (Key set), an Entry, or else the membership
// of the classic protocol; a nil value is a tombstone.
type Record struct {
	Group    string
	Key      *OffsetKey
	Offset   *Committed
	Metadata *Metadata
	Entry    *Entry
}

// size estimates the bytes that a record takes, to bound batches and queues.
func (r *Record) size() int {
	const overhead = 64 // lengths, attributes, versions, numbers
	n := overhead + len(r.Group)
	if r.Entry != nil {
		n += r.Entry.size()
	}
	if r.Key != nil {
		n += len(r.Key.Topic)
	}
	if r.Offset != nil {
		n += len(r.Offset.Metadata)
	}
	if r.Metadata != nil {
		for i := range r.Metadata.Members {
			s := &r.Metadata.Members[i]
			n += overhead + len(s.Member) + len(s.Instance) + len(s.ClientID) + len(s.ClientHost) + len(s.Subscription) + len(s.Assignment)
		}
	}
	return n
}
