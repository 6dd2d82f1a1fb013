package share

import (
	"errors"
	"time"

	"github.com/quorlog/quorlog/log/batch"
)

// State is what becomes of a record in a share group; the numbers are those of Kafka's __share_group_state (KIP-932).
type State int8

// The states. Finished ones are the last two.
const (
	Available    State = 0 // may be acquired
	Acquired     State = 1 // locked by a member until its time is over
	Acknowledged State = 2 // processed
	Archived     State = 4 // given up: rejected, delivered too often, or no record at all
)

func (s State) finished() bool { return s == Acknowledged || s == Archived }

// String is the state's name.
func (s State) String() string {
	switch s {
	case Available:
		return "available"
	case Acquired:
		return "acquired"
	case Acknowledged:
		return "acknowledged"
	case Archived:
		return "archived"
	}
	return "unknown"
}

// AckType is what a member says of a record that it has acquired; the numbers are the protocol's.
type AckType int8

// The types of acknowledgement.
const (
	Gap     AckType = 0 // there is no record at this offset
	Accept  AckType = 1 // it was processed
	Release AckType = 2 // somebody may try again
	Reject  AckType = 3 // nobody should try again
	Renew   AckType = 4 // it takes longer: the lock starts anew (KIP-1222)
)

// Ack acknowledges the offsets First to Last, with one type for all of them or one for each.
type Ack struct {
	First, Last batch.Offset
	Types       []AckType
}

// Run is a run of offsets that share one fate. First <= Last.
type Run struct {
	First, Last batch.Offset
	State       State
	// Count is how often the records were delivered, the delivery under way included.
	Count  int16
	Member string    // Acquired: by whom
	Until  time.Time // Acquired: when the lock ends
}

func (r *Run) sameFate(o *Run) bool {
	return r.State == o.State && r.Count == o.Count && r.Member == o.Member && r.Until.Equal(o.Until)
}

// Len is the number of offsets.
func (r *Run) Len() int64 { return int64(r.Last-r.First) + 1 }

// Offered is a batch of the log that can be delivered.
type Offered struct {
	First, Last batch.Offset
	// Skip tells that no consumer is to see it: a control batch, or one of an aborted transaction for a group that reads
	// what is committed.
	Skip bool

	at, end int // its bytes in what was read
}

// Want is what a member asks for when it acquires.
type Want struct {
	Member string
	// Records is how many it wants. Batches are acquired whole, and thus a few more, unless Exact is set (KIP-1206).
	Records int
	Exact   bool
}

// Settings of a group, by the names of its configuration.
type Settings struct {
	DeliveryLimit int16         // group.share.delivery.count.limit: how often a record is delivered before it is archived
	LockDuration  time.Duration // share.record.lock.duration.ms: how long a member has for a record
	MaxInFlight   int64         // group.share.partition.max.record.locks: offsets between the start and the end
}

// DefaultSettings are Kafka's.
func DefaultSettings() Settings {
	return Settings{DeliveryLimit: 5, LockDuration: 30 * time.Second, MaxInFlight: 2000}
}

// ErrInvalidRecordState: a member acknowledges what it has not acquired, or not any more (INVALID_RECORD_STATE).
var ErrInvalidRecordState = errors.New("the record is not acquired by the member")
