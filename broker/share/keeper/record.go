package keeper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/broker/share"
	"github.com/quorlog/quorlog/log/batch"
)

// Records of __share_group_state, in the schemas of KIP-932. Numbers are big endian; the key's string has an int16 length:
//
//	key    int16 kind = 0 | group | topic id (16 bytes) | int32 partition
//	value  int16 version = 0 | int32 snapshot epoch | int32 state epoch | int32 leader epoch | int64 start offset
//	       | int64 created ms | int64 written ms | batches | tags
//	       batches: uvarint number + 1, each int64 first | int64 last | int8 state | int16 deliveries | tags
//	       tags: uvarint number, each uvarint tag | uvarint length | bytes; all are passed over
//
// The value's tag 0 is an int32, the number of finished offsets from the start on (KIP-1226, Kafka 4.2): it follows from the batches,
// and is for those who read the topic. Times are in milliseconds since 1970. A record without a value is a tombstone. Kafka has a second kind, ShareUpdate (1), which is not written here.
const (
	snapshotKind    = 0
	snapshotVersion = 0

	batchSize = 8 + 8 + 1 + 2 + 1
)

// Stored is the state of a key.
type Stored struct {
	Version     int32 // Kafka's snapshot epoch: counts the writes
	StateEpoch  int32
	LeaderEpoch batch.Epoch
	Start       batch.Offset
	Created     time.Time // in milliseconds, as Written
	Written     time.Time
	Runs        []share.Run
}

func (s *Stored) durable() *share.Durable {
	return &share.Durable{Version: s.Version, StateEpoch: s.StateEpoch, LeaderEpoch: s.LeaderEpoch, Start: s.Start, Runs: s.Runs}
}

// Record is a state with its key; a nil State is a tombstone.
type Record struct {
	Key   share.Key
	State *Stored
}

func (r *Record) size() int {
	const fixed = 128
	n := fixed + len(r.Key.Group)
	if r.State != nil {
		n += batchSize * len(r.State.Runs)
	}
	return n
}

// encode returns the key and value of a record; a nil value is a tombstone.
func (r *Record) encode() (key, value []byte) {
	be := binary.BigEndian
	key = be.AppendUint16(nil, snapshotKind)
	key = be.AppendUint16(key, uint16(len(r.Key.Group)))
	key = append(key, r.Key.Group...)
	key = append(key, r.Key.Topic[:]...)
	key = be.AppendUint32(key, uint32(r.Key.Partition))
	s := r.State
	if s == nil {
		return key, nil
	}
	value = be.AppendUint16(make([]byte, 0, r.size()), snapshotVersion)
	value = be.AppendUint32(value, uint32(s.Version))
	value = be.AppendUint32(value, uint32(s.StateEpoch))
	value = be.AppendUint32(value, uint32(s.LeaderEpoch))
	value = be.AppendUint64(value, uint64(s.Start))
	value = be.AppendUint64(value, uint64(s.Created.UnixMilli()))
	value = be.AppendUint64(value, uint64(s.Written.UnixMilli()))
	value = binary.AppendUvarint(value, uint64(len(s.Runs))+1)
	for i := range s.Runs {
		run := &s.Runs[i]
		value = be.AppendUint64(value, uint64(run.First))
		value = be.AppendUint64(value, uint64(run.Last))
		value = append(value, byte(run.State))
		value = be.AppendUint16(value, uint16(run.Count))
		value = append(value, 0)
	}
	return key, appendCount(value, s)
}

// appendCount appends the tags: how many offsets are finished, if the group has begun.
func appendCount(value []byte, s *Stored) []byte {
	if s.Start == Unset {
		return append(value, 0)
	}
	const tags, tag, size = 1, 0, 4
	return binary.BigEndian.AppendUint32(append(value, tags, tag, size), uint32(min(s.durable().Finished(), math.MaxInt32)))
}

var errBadRecord = errors.New("a damaged record")

// decode is the inverse of encode. Key and value are only lent.
func decode(key, value []byte) (Record, error) {
	k := reader{b: key}
	if kind := k.uint16(); k.bad || kind != snapshotKind {
		return Record{}, fmt.Errorf("%w: %d", coordinator.ErrUnknownKind, kind)
	}
	var r Record
	r.Key.Group = string(k.bytes(int(k.uint16())))
	copy(r.Key.Topic[:], k.bytes(len(r.Key.Topic)))
	r.Key.Partition = int32(k.uint32())
	if !k.done() || r.Key.Partition < 0 {
		return Record{}, fmt.Errorf("%w: its key", errBadRecord)
	}
	if value == nil {
		return r, nil
	}
	s, err := decodeState(value)
	r.State = s
	return r, err
}

func decodeState(value []byte) (*Stored, error) {
	v := reader{b: value}
	if version := v.uint16(); version != snapshotVersion {
		return nil, fmt.Errorf("%w: version %d", coordinator.ErrUnknownKind, version)
	}
	s := &Stored{
		Version: int32(v.uint32()), StateEpoch: int32(v.uint32()), LeaderEpoch: batch.Epoch(v.uint32()),
		Start: batch.Offset(v.uint64()), Created: v.time(), Written: v.time(),
	}
	n := v.uvarint()
	if n == 0 || (n-1)*batchSize > uint64(len(v.b)) {
		return nil, fmt.Errorf("%w: %d batches in %d bytes", errBadRecord, n, len(v.b))
	}
	for range n - 1 {
		run := share.Run{First: batch.Offset(v.uint64()), Last: batch.Offset(v.uint64())}
		if b := v.bytes(1); len(b) == 1 {
			run.State = share.State(b[0])
		}
		run.Count = int16(v.uint16())
		v.tags()
		if !sound(&run) {
			return nil, fmt.Errorf("%w: %+v", errBadRecord, run)
		}
		s.Runs = append(s.Runs, run)
	}
	v.tags()
	if !v.done() || s.Start < Unset {
		return nil, errBadRecord
	}
	return s, nil
}

// sound tells whether a run can be what a share-partition has stored.
func sound(r *share.Run) bool {
	state := r.State == share.Available || r.State == share.Acknowledged || r.State == share.Archived
	return state && r.First >= 0 && r.Last >= r.First && r.Last < math.MaxInt64 && r.Count >= 0
}

// reader takes a record apart. Once bad, it only gives zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) done() bool { return !r.bad && len(r.b) == 0 }

func (r *reader) bytes(n int) []byte {
	if r.bad || n < 0 || n > len(r.b) {
		r.bad = true
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) uint16() uint16 {
	if b := r.bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) time() time.Time { return time.UnixMilli(int64(r.uint64())) }

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) tags() {
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		r.uvarint()
		r.bytes(int(min(r.uvarint(), math.MaxInt32)))
	}
}
