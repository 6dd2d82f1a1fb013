package txn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Records of __transaction_state, in Kafka's schemas. All numbers are big endian:
//
//	key    int16 version = 0 | transactional id
//	value  int16 version = 1 | int64 producer id | int16 epoch | int32 timeout ms | int8 state | topics? | int64 updated
//	       int64 started, -1 for none | tags: 0 previous producer id, 1 next producer id, 2 transaction version of the client
//	       topic: name | int32 partitions | tags
//
// Version 1 is flexible: lengths are varints, one more than they say, 0 for null. Version 0, which Kafka wrote before 3.5,
// has int16 lengths of strings and int32 lengths of arrays, and no tags; it is read. A record without a value is a tombstone.
const (
	keyVersion      = 0
	valueVersion    = 1
	maxValueVersion = 1
)

// Errors of records that can't be used.
var (
	ErrUnknownKind = errors.New("a record of an unknown kind")
	errBadRecord   = errors.New("a damaged record")
)

// Record is a transactional id as it is to be; nil Metadata is a tombstone.
type Record struct {
	ID       string
	Metadata *Metadata
}

// Size estimates the bytes that the record takes, to bound batches and queues.
func (r Record) Size() int {
	const overhead = 96 // lengths, attributes, versions, numbers
	n := overhead + len(r.ID)
	if r.Metadata != nil {
		for _, p := range r.Metadata.Partitions {
			n += len(p.Topic) + 8
		}
	}
	return n
}

// Encode returns the key and value of the record; a nil value is a tombstone.
func (r Record) Encode() (key, value []byte) {
	k := kmsg.NewTxnMetadataKey()
	k.Version, k.TransactionalID = keyVersion, r.ID
	if r.Metadata != nil {
		value = encodeMetadata(r.Metadata)
	}
	return k.AppendTo(nil), value
}

func encodeMetadata(m *Metadata) []byte {
	v := kmsg.NewTxnMetadataValue()
	v.Version = valueVersion
	v.ProducerID, v.ProducerEpoch, v.State = int64(m.ProducerID), int16(m.Epoch), kmsg.TransactionState(m.State)
	v.TimeoutMillis = int32(m.Timeout.Milliseconds())
	v.LastUpdateTimestamp, v.StartTimestamp = m.Updated.UnixMilli(), -1
	if !m.Started.IsZero() {
		v.StartTimestamp = m.Started.UnixMilli()
	}
	v.PreviousProducerID, v.NextProducerID = int64(m.PreviousID), int64(m.NextID)
	v.ClientTransactionVersion = int16(m.Version)
	for i, p := range m.Partitions {
		if i == 0 || m.Partitions[i-1].Topic != p.Topic {
			t := kmsg.NewTxnMetadataValueTopic()
			t.Topic = p.Topic
			v.Topics = append(v.Topics, t)
		}
		t := &v.Topics[len(v.Topics)-1]
		t.Partitions = append(t.Partitions, p.Index)
	}
	return v.AppendTo(nil)
}

// Decode is the inverse of Encode. Nothing of the result aliases its input.
func Decode(key, value []byte) (Record, error) {
	if len(key) < 2 {
		return Record{}, fmt.Errorf("%w: its key has %d bytes", errBadRecord, len(key))
	}
	if kind := binary.BigEndian.Uint16(key); kind != keyVersion {
		return Record{}, fmt.Errorf("%w: %d", ErrUnknownKind, kind)
	}
	k := kmsg.NewTxnMetadataKey()
	if err := k.ReadFrom(key); err != nil {
		return Record{}, fmt.Errorf("%w: key of a transactional id: %w", errBadRecord, err)
	}
	if value == nil {
		return Record{ID: k.TransactionalID}, nil
	}
	if err := guard(value); err != nil {
		return Record{}, err
	}
	v := kmsg.NewTxnMetadataValue()
	if err := v.ReadFrom(value); err != nil {
		return Record{}, fmt.Errorf("%w: value of a transactional id: %w", errBadRecord, err)
	}
	m, err := decodeMetadata(&v)
	return Record{ID: k.TransactionalID, Metadata: m}, err
}

func decodeMetadata(v *kmsg.TxnMetadataValue) (*Metadata, error) {
	m := Metadata{
		ProducerID: ProducerID(v.ProducerID), Epoch: Epoch(v.ProducerEpoch), LastEpoch: NoEpoch,
		PreviousID: ProducerID(v.PreviousProducerID), NextID: ProducerID(v.NextProducerID),
		Timeout: time.Duration(v.TimeoutMillis) * time.Millisecond, State: State(v.State),
		Updated: time.UnixMilli(v.LastUpdateTimestamp), Version: Version(v.ClientTransactionVersion),
	}
	if m.State < Empty || m.State > CompleteAbort || m.ProducerID < 0 || m.Epoch < 0 {
		return nil, fmt.Errorf("%w: state %d of producer %d, epoch %d", errBadRecord, v.State, v.ProducerID, v.ProducerEpoch)
	}
	if v.StartTimestamp >= 0 {
		m.Started = time.UnixMilli(v.StartTimestamp)
	}
	var all []Partition
	for i := range v.Topics {
		for _, p := range v.Topics[i].Partitions {
			all = append(all, Partition{Topic: v.Topics[i].Topic, Index: p})
		}
	}
	m.Partitions = Partitions(nil).with(all)
	return &m, nil
}
