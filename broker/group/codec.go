package group

import (
	"errors"
	"fmt"
	"time"

	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Records of __consumer_offsets, in Kafka's schemas. A key starts with its kind, a value with its version; all numbers are
// big endian, strings have an int16 length, byte arrays and arrays an int32 length, a null string has length -1:
//
//	key    int16 kind = 0 or 1 | group | topic | int32 partition                      an offset
//	value  int16 version = 4   | int64 offset | int32 leader epoch | metadata | int64 committed at | tags; topic id in tag 0
//	       version 3: not flexible, no tags; version 1: no leader epoch either, and int64 expires at behind the rest
//	key    int16 kind = 2      | group                                                the membership
//	value  int16 version = 3   | protocol type | int32 generation | protocol? | leader? | int64 state since | members
//	       member: id | instance? | client id | client host | int32 rebalance ms | int32 session ms | subscription | assignment
//
// A record without a value is a tombstone. Older versions are read. Offsets are written in version 4, as by Kafka from 4.1 on; Kafka reads
// it from 3.5 on. 1 is for those that carry their own expiry, 3 for those of which it is not known for which topic of the name they are.
const (
	offsetKind   = 1
	metadataKind = 2

	offsetVersion        = 3
	offsetVersionExpires = 1
	offsetVersionTopicID = 4
	metadataVersion      = 3
)

// Errors of records that can't be used.
var (
	errUnknownKind = coordinator.ErrUnknownKind
	errBadRecord   = errors.New("a damaged record")
)

// encodeRecord returns the key and value of a record; a nil value is a tombstone.
func encodeRecord(r *Record) (key, value []byte) {
	if r.Entry != nil {
		return encodeEntry(r.Group, r.Entry)
	}
	if r.Key != nil {
		k := kmsg.NewOffsetCommitKey()
		k.Version, k.Group, k.Topic, k.Partition = offsetKind, r.Group, r.Key.Topic, r.Key.Partition
		if r.Offset != nil {
			value = encodeOffset(r.Offset)
		}
		return k.AppendTo(nil), value
	}
	k := kmsg.NewGroupMetadataKey()
	k.Version, k.Group = metadataKind, r.Group
	if r.Metadata != nil {
		value = encodeMetadata(r.Metadata)
	}
	return k.AppendTo(nil), value
}

func encodeOffset(c *Committed) []byte {
	v := kmsg.NewOffsetCommitValue()
	v.Version = offsetVersion
	v.Offset, v.LeaderEpoch, v.Metadata = int64(c.Offset), int32(c.LeaderEpoch), c.Metadata
	v.CommitTimestamp = c.At.UnixMilli()
	switch {
	case !c.Expires.IsZero():
		v.Version = offsetVersionExpires
		v.ExpireTimestamp = c.Expires.UnixMilli()
	case c.TopicID != (replication.TopicID{}):
		v.Version = offsetVersionTopicID
		v.TopicID = c.TopicID
	}
	return v.AppendTo(nil)
}

func encodeMetadata(m *Metadata) []byte {
	v := kmsg.NewGroupMetadataValue()
	v.Version = metadataVersion
	v.ProtocolType, v.Generation = m.ProtocolType, int32(m.Generation)
	v.Protocol, v.Leader = nullable(m.Protocol), nullable(m.Leader)
	if !m.StateSince.IsZero() {
		v.CurrentStateTimestamp = m.StateSince.UnixMilli()
	}
	for i := range m.Members {
		s := &m.Members[i]
		w := kmsg.NewGroupMetadataValueMember()
		w.MemberID, w.InstanceID, w.ClientID, w.ClientHost = s.Member, nullable(s.Instance), s.ClientID, s.ClientHost
		w.SessionTimeoutMillis = int32(s.SessionTimeout.Milliseconds())
		w.RebalanceTimeoutMillis = int32(s.RebalanceTimeout.Milliseconds())
		w.Subscription, w.Assignment = s.Subscription, s.Assignment
		v.Members = append(v.Members, w)
	}
	return v.AppendTo(nil)
}

func nullable(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// decodeRecord is the inverse of encodeRecord. Nothing of the result aliases its input.
func decodeRecord(key, value []byte) (Record, error) {
	if len(key) < 2 {
		return Record{}, fmt.Errorf("%w: its key has %d bytes", errBadRecord, len(key))
	}
	switch kind := int16(key[0])<<8 | int16(key[1]); kind {
	case 0, offsetKind:
		return decodeOffset(key, value)
	case metadataKind:
		return decodeMetadata(key, value)
	default:
		if isEntryKind(kind) {
			return decodeEntry(kind, key, value)
		}
		return Record{}, fmt.Errorf("%w: %d", errUnknownKind, kind)
	}
}

func decodeOffset(key, value []byte) (Record, error) {
	k := kmsg.NewOffsetCommitKey()
	if err := k.ReadFrom(key); err != nil {
		return Record{}, fmt.Errorf("%w: key of an offset: %w", errBadRecord, err)
	}
	r := Record{Group: k.Group, Key: &OffsetKey{Topic: k.Topic, Partition: k.Partition}}
	if value == nil {
		return r, nil
	}
	if err := guardOffset(value); err != nil {
		return Record{}, err
	}
	v := kmsg.NewOffsetCommitValue()
	if err := v.ReadFrom(value); err != nil {
		return Record{}, fmt.Errorf("%w: value of an offset: %w", errBadRecord, err)
	}
	r.Offset = &Committed{
		Offset: batch.Offset(v.Offset), LeaderEpoch: batch.Epoch(v.LeaderEpoch), Metadata: v.Metadata,
		At: time.UnixMilli(v.CommitTimestamp), TopicID: v.TopicID,
	}
	if v.Version < offsetVersion {
		r.Offset.LeaderEpoch = batch.NoEpoch
	}
	if v.Version == offsetVersionExpires && v.ExpireTimestamp > 0 {
		r.Offset.Expires = time.UnixMilli(v.ExpireTimestamp)
	}
	return r, nil
}

func decodeMetadata(key, value []byte) (Record, error) {
	k := kmsg.NewGroupMetadataKey()
	if err := k.ReadFrom(key); err != nil {
		return Record{}, fmt.Errorf("%w: key of a group: %w", errBadRecord, err)
	}
	r := Record{Group: k.Group}
	if value == nil {
		return r, nil
	}
	if err := guardMetadata(value); err != nil {
		return Record{}, err
	}
	v := kmsg.NewGroupMetadataValue()
	if err := v.ReadFrom(value); err != nil {
		return Record{}, fmt.Errorf("%w: value of a group: %w", errBadRecord, err)
	}
	r.Metadata = &Metadata{
		ProtocolType: v.ProtocolType, Protocol: text(v.Protocol), Leader: text(v.Leader), Generation: Generation(v.Generation),
	}
	if v.CurrentStateTimestamp > 0 {
		r.Metadata.StateSince = time.UnixMilli(v.CurrentStateTimestamp)
	}
	for i := range v.Members {
		r.Metadata.Members = append(r.Metadata.Members, decodeMember(&v.Members[i]))
	}
	return r, nil
}

func decodeMember(w *kmsg.GroupMetadataValueMember) StoredMember {
	s := StoredMember{
		Member: w.MemberID, Instance: text(w.InstanceID), ClientID: w.ClientID, ClientHost: w.ClientHost,
		SessionTimeout:   time.Duration(w.SessionTimeoutMillis) * time.Millisecond,
		RebalanceTimeout: time.Duration(w.RebalanceTimeoutMillis) * time.Millisecond,
		Subscription:     append([]byte(nil), w.Subscription...), Assignment: append([]byte(nil), w.Assignment...),
	}
	if w.RebalanceTimeoutMillis < 0 {
		s.RebalanceTimeout = s.SessionTimeout // version 0 has none
	}
	return s
}
