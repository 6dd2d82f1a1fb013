package group

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/quorlog/quorlog/replication"
)

// Records of groups whose partitions the coordinator assigns (KIP-848, KIP-932), in Kafka's schemas. Keys are as those of the
// classic kinds: int16 kind | group | member or regular expression, where there is one. Values are flexible, of version 0:
// strings, byte arrays and arrays have an unsigned varint of their length plus one in front, 0 for null.
//
//	3, 11   the group              int32 epoch | tag 0: int64 metadata hash
//	5       a consumer             instance? | rack? | client id | client host | topics | regex? | int32 rebalance ms | assignor?
//	                               | tag 0, of a classic member: int8 1 | int32 session ms | array of (name, metadata, tags) | tags
//	10      a share member         rack? | client id | client host | topics
//	6, 12   the target's epoch     int32 epoch
//	7, 13   a member's target      topic partitions
//	8, 14   a member's assignment  int32 epoch | int32 previous epoch | int8 state | assigned | revoking (8 only)
//	16      a regular expression   topics | int64 version | int64 resolved at, ms
//
//	topic partitions               array of: topic id | array of int32 | tags

type valueWriter struct{ b []byte }

func (w *valueWriter) count(n int) { w.b = binary.AppendUvarint(w.b, uint64(n+1)) }
func (w *valueWriter) tags()       { w.b = append(w.b, 0) }
func (w *valueWriter) int32(v int32) {
	w.b = binary.BigEndian.AppendUint32(w.b, uint32(v))
}

func (w *valueWriter) string(s string) {
	w.count(len(s))
	w.b = append(w.b, s...)
}

// optional writes null for an empty string.
func (w *valueWriter) optional(s string) {
	if s == "" {
		w.b = append(w.b, 0)
		return
	}
	w.string(s)
}

func (w *valueWriter) strings(list []string) {
	w.count(len(list))
	for _, s := range list {
		w.string(s)
	}
}

// partitions writes sorted partitions by topic.
func (w *valueWriter) partitions(list []TopicPartition) {
	topics := 0
	for i := range list {
		if i == 0 || list[i].Topic != list[i-1].Topic {
			topics++
		}
	}
	w.count(topics)
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[n].Topic == list[0].Topic {
			n++
		}
		w.b = append(w.b, list[0].Topic[:]...)
		w.count(n)
		for _, p := range list[:n] {
			w.int32(p.Partition)
		}
		w.tags()
		list = list[n:]
	}
}

func encodeEntry(group string, e *Entry) (key, value []byte) {
	key = binary.BigEndian.AppendUint16(nil, uint16(e.Kind))
	key = appendKeyString(key, group)
	switch e.Kind {
	case consumerKinds.group, consumerKinds.assignment, shareKinds.group, shareKinds.assignment:
	default:
		key = appendKeyString(key, e.Name)
	}
	if e.Value == nil {
		return key, nil
	}
	w := valueWriter{b: make([]byte, 2, 64)}
	switch v := e.Value.(type) {
	case groupValue:
		w.int32(int32(v.Epoch))
		w.b = append(w.b, 1, 0, 8) // one tag: 0, of 8 bytes
		w.b = binary.BigEndian.AppendUint64(w.b, uint64(v.Hash))
		return key, w.b
	case memberValue:
		w.member(e.Kind, &v)
		return key, w.b
	case assignmentValue:
		w.int32(int32(v.Epoch))
	case targetValue:
		w.partitions(v.Partitions)
	case currentValue:
		w.int32(int32(v.Epoch))
		w.int32(int32(v.Previous))
		w.b = append(w.b, byte(v.State))
		w.partitions(v.Assigned)
		if e.Kind == consumerKinds.current {
			w.partitions(v.Revoking)
		}
	case regexValue:
		w.strings(v.Topics)
		w.b = binary.BigEndian.AppendUint64(w.b, 0)
		w.b = binary.BigEndian.AppendUint64(w.b, uint64(v.At.UnixMilli()))
	}
	w.tags()
	return key, w.b
}

func (w *valueWriter) member(kind int16, v *memberValue) {
	consumer := kind == consumerKinds.member
	if consumer {
		w.optional(v.Instance)
	}
	w.optional(v.Rack)
	w.string(v.ClientID)
	w.string(v.ClientHost)
	w.strings(v.Topics)
	if consumer {
		w.optional(v.Regex)
		w.int32(int32(v.Rebalance.Milliseconds()))
		w.optional(v.Assignor)
	}
	if v.Classic == nil {
		w.tags()
		return
	}
	tag := valueWriter{b: []byte{1}} // it is there
	tag.int32(int32(v.Classic.Session.Milliseconds()))
	tag.count(len(v.Classic.Protocols))
	for _, p := range v.Classic.Protocols {
		tag.string(p.Name)
		tag.count(len(p.Metadata))
		tag.b = append(tag.b, p.Metadata...)
		tag.tags()
	}
	tag.tags()
	w.b = append(w.b, 1, 0) // one tag: 0
	w.b = binary.AppendUvarint(w.b, uint64(len(tag.b)))
	w.b = append(w.b, tag.b...)
}

func appendKeyString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// valueReader moves over a value; the first thing that does not fit makes it bad for good. It never allocates for more than
// the value has.
type valueReader struct{ walker }

func (r *valueReader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *valueReader) number() int32 { return int32(r.int32()) }

func (r *valueReader) long() int64 {
	if b := r.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

func (r *valueReader) text() string { return string(r.take(max(r.uvarint()-1, 0))) }

func (r *valueReader) texts() []string {
	out := []string{}
	for n := r.count(1); n > 0 && !r.bad; n-- {
		out = append(out, r.text())
	}
	return out
}

// Sizes of a topic with its partitions, and of a partition, at the least.
const (
	leastTopic     = 16 + 1 + 1
	leastPartition = 4
)

func (r *valueReader) partitions() []TopicPartition {
	var out []TopicPartition
	for n := r.count(leastTopic); n > 0 && !r.bad; n-- {
		var id replication.TopicID
		copy(id[:], r.take(len(id)))
		for k := r.count(leastPartition); k > 0 && !r.bad; k-- {
			out = append(out, TopicPartition{id, r.number()})
		}
		r.tags()
	}
	return out
}

// hash reads the tags of a group's value; tag 0 is the hash.
func (r *valueReader) hash() (hash int64) {
	for n := min(r.uvarint(), maxTags); n > 0 && !r.bad; n-- {
		tag := r.uvarint()
		v := r.take(r.uvarint())
		if tag == 0 && len(v) == 8 {
			hash = int64(binary.BigEndian.Uint64(v))
		}
	}
	return hash
}

// decodeEntry reads a record of one of the kinds from 3 on that this package writes.
func decodeEntry(kind int16, key, value []byte) (Record, error) {
	k := keyReader{b: key[2:]}
	e := &Entry{Kind: kind}
	r := Record{Group: k.string(), Entry: e}
	c, s := &consumerKinds, &shareKinds
	switch kind {
	case c.group, s.group, c.assignment, s.assignment:
	default:
		e.Name = k.string()
	}
	if k.bad {
		return Record{}, fmt.Errorf("%w: the key of kind %d ends before it should", errBadRecord, kind)
	}
	if value == nil {
		return r, nil
	}
	w, _, err := newWalker(value, 0)
	if err != nil {
		return Record{}, err
	}
	v := valueReader{w}
	v.flexible = true
	v.entry(e)
	return r, v.err(fmt.Sprint("the value of kind ", kind))
}

func (r *valueReader) entry(e *Entry) {
	c, s := &consumerKinds, &shareKinds
	switch e.Kind {
	case c.group, s.group:
		e.Value = groupValue{Epoch: MemberEpoch(r.number()), Hash: r.hash()}
	case c.member, s.member:
		e.Value = r.member(e.Kind == c.member)
	case c.assignment, s.assignment:
		e.Value = assignmentValue{MemberEpoch(r.number())}
	case c.target, s.target:
		e.Value = targetValue{r.partitions()}
	case c.current, s.current:
		v := currentValue{Epoch: MemberEpoch(r.number()), Previous: MemberEpoch(r.number())}
		if b := r.take(1); b != nil {
			v.State = memberState(b[0])
		}
		v.Assigned = r.partitions()
		if e.Kind == c.current {
			v.Revoking = r.partitions()
		}
		e.Value = v
	case c.regex:
		v := regexValue{Topics: r.texts()}
		r.long()
		v.At = time.UnixMilli(r.long())
		e.Value = v
	}
}

func (r *valueReader) member(consumer bool) (v memberValue) {
	if consumer {
		v.Instance = r.text()
	}
	v.Rack, v.ClientID, v.ClientHost = r.text(), r.text(), r.text()
	v.Topics = r.texts()
	if consumer {
		v.Regex = r.text()
		v.Rebalance = time.Duration(r.number()) * time.Millisecond
		v.Assignor = r.text()
	}
	for n := min(r.uvarint(), maxTags); n > 0 && !r.bad; n-- {
		tag := r.uvarint()
		if b := r.take(r.uvarint()); consumer && tag == 0 {
			v.Classic = r.classic(b)
		}
	}
	return v
}

// leastProtocol is the shortest protocol of a classic member: two lengths and no tags.
const leastProtocol = 3

// classic reads what a member of the classic protocol is known by.
func (r *valueReader) classic(b []byte) *classicValue {
	c := valueReader{walker{b: b, flexible: true}}
	if there := c.take(1); len(there) == 0 || int8(there[0]) < 0 {
		r.bad = r.bad || c.bad
		return nil
	}
	v := &classicValue{Session: time.Duration(c.number()) * time.Millisecond}
	for n := c.count(leastProtocol); n > 0 && !c.bad; n-- {
		v.Protocols = append(v.Protocols, Protocol{Name: c.text(), Metadata: bytes.Clone(c.take(max(c.uvarint()-1, 0)))})
		c.tags()
	}
	c.tags()
	r.bad = r.bad || c.bad
	return v
}

// keyReader moves over a key.
type keyReader struct {
	b   []byte
	bad bool
}

func (r *keyReader) string() string {
	if len(r.b) < 2 {
		r.bad = true
		return ""
	}
	n := int(binary.BigEndian.Uint16(r.b))
	if n > len(r.b)-2 {
		r.bad = true
		return ""
	}
	s := string(r.b[2 : 2+n])
	r.b = r.b[2+n:]
	return s
}

// isEntryKind tells whether a kind of record is one of these.
func isEntryKind(kind int16) bool {
	for _, k := range []*recordKinds{&consumerKinds, &shareKinds} {
		switch kind {
		case k.group, k.member, k.assignment, k.target, k.current:
			return true
		}
	}
	return kind == consumerKinds.regex
}
