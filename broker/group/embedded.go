package group

import (
	"encoding/binary"
	"slices"
)

// What the classic protocol's consumers tell each other through the coordinator, which a group that changes its protocol must
// understand: Kafka's ConsumerProtocolSubscription and ConsumerProtocolAssignment, versions 0 to 3. A later version is read as
// the last one known: fields are only ever added at the end. Strings have an int16 length, the rest an int32 one:
//
//	subscription  int16 version | topics | user data? | v1: owned partitions | v2: int32 generation | v3: rack?
//	assignment    int16 version | partitions | user data?
//	partitions    array of: topic | array of int32
const maxEmbeddedVersion = 3

// embeddedSubscription is what a classic consumer says of itself.
type embeddedSubscription struct {
	version int16
	topics  []string
	owned   []OffsetKey // partitions that it still uses; none if it gives up all before it joins
	rack    string
}

// embeddedReader moves over such bytes; the first thing that does not fit makes it bad for good.
type embeddedReader struct{ valueReader }

func newEmbeddedReader(b []byte) (r embeddedReader, version int16) {
	r.b = b
	version = r.short()
	r.bad = r.bad || version < 0
	return r, min(version, maxEmbeddedVersion)
}

func (r *embeddedReader) short() int16 {
	if b := r.take(2); len(b) == 2 {
		return int16(binary.BigEndian.Uint16(b))
	}
	r.bad = true
	return 0
}

func (r *embeddedReader) word() string { return string(r.take(max(int(r.short()), 0))) }

func (r *embeddedReader) owned() (out []OffsetKey) {
	const leastTopic = 2 + 4 // two lengths
	for n := r.count(leastTopic); n > 0 && !r.bad; n-- {
		topic := r.word()
		for k := r.count(leastPartition); k > 0 && !r.bad; k-- {
			out = append(out, OffsetKey{Topic: topic, Partition: r.number()})
		}
	}
	return out
}

// readSubscription reports whether the bytes are a subscription.
func readSubscription(b []byte) (s embeddedSubscription, ok bool) {
	r, version := newEmbeddedReader(b)
	s.version = version
	for n := r.count(2); n > 0 && !r.bad; n-- {
		s.topics = append(s.topics, r.word())
	}
	r.bytes()
	if version >= 1 {
		s.owned = r.owned()
	}
	if version >= 2 {
		r.skip(4)
	}
	if version >= 3 {
		s.rack = r.word()
	}
	return s, !r.bad
}

// readAssignment reports whether the bytes are an assignment without user data. None at all are an empty one.
func readAssignment(b []byte) (out []OffsetKey, ok bool) {
	if len(b) == 0 {
		return nil, true
	}
	r, _ := newEmbeddedReader(b)
	out = r.owned()
	return out, !r.bad && r.int32() <= 0 && !r.bad
}

// appendAssignment writes an assignment. Topics that are no more are left out: nothing names them.
func appendAssignment(version int16, topics Topics, set partitionSet) []byte {
	type share struct {
		name       string
		partitions []int32
	}
	var shares []share
	for list := set.sorted(); len(list) > 0; {
		n := slices.IndexFunc(list, func(p TopicPartition) bool { return p.Topic != list[0].Topic })
		if n < 0 {
			n = len(list)
		}
		if t, ok := topics.TopicByID(list[0].Topic); ok {
			s := share{name: t.Name}
			for _, p := range list[:n] {
				s.partitions = append(s.partitions, p.Partition)
			}
			shares = append(shares, s)
		}
		list = list[n:]
	}
	b := binary.BigEndian.AppendUint16(nil, uint16(version))
	b = binary.BigEndian.AppendUint32(b, uint32(len(shares)))
	for _, s := range shares {
		b = appendKeyString(b, s.name)
		b = binary.BigEndian.AppendUint32(b, uint32(len(s.partitions)))
		for _, p := range s.partitions {
			b = binary.BigEndian.AppendUint32(b, uint32(p))
		}
	}
	return binary.BigEndian.AppendUint32(b, 1<<32-1) // no user data
}

// byID finds the ids of partitions of topics that exist. Whether there are that many partitions does not matter: what a member uses
// stays its own until it gives it up.
func byID(topics Topics, named []OffsetKey) []TopicPartition {
	out := []TopicPartition{}
	for _, k := range named {
		if t, ok := topics.Topic(k.Topic); ok {
			out = append(out, TopicPartition{t.ID, k.Partition})
		}
	}
	return out
}
