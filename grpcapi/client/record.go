package client

import (
	"time"

	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
)

// Record is one record of a topic: the same as Kafka's.
type Record struct {
	// Topic is 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-'; with other names [Reason] is INVALID_TOPIC_EXCEPTION.
	Topic string
	// Partition is where the record is. Send sets it, by the key or by [Options.Partitioner].
	Partition int32
	// Key and Value may be nil, which is null and not the same as empty. Until a record that is sent is acknowledged, they must
	// not be changed.
	Key, Value []byte
	Headers    []Header
	// Timestamp has milliseconds. Zero means now for a record that is sent.
	Timestamp time.Time
	// Offset is set by Send: -1 if the record is stored, but too long ago for the server to know where.
	Offset int64
}

// Header is an entry of a record's headers; names may repeat, and a nil value is null.
type Header struct {
	Key   string // UTF-8, else Send returns [ErrHeaderKey]
	Value []byte
}

// What a record takes in a message beside its content, in bytes, at most.
const (
	recordOverhead = 32
	headerOverhead = 16
)

// size is what a record takes in a message, in bytes, or a little less.
func (r *Record) size() int {
	n := recordOverhead + len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += headerOverhead + len(h.Key) + len(h.Value)
	}
	return n
}

func (r *Record) wire() *quorlogv1.Record {
	ms := r.Timestamp.UnixMilli()
	out := &quorlogv1.Record{Key: r.Key, Value: r.Value, TimestampMs: &ms}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, &quorlogv1.Header{Key: h.Key, Value: h.Value})
	}
	return out
}

func recordOf(topic string, partition int32, r *quorlogv1.Record) *Record {
	out := &Record{
		Topic: topic, Partition: partition, Key: r.Key, Value: r.Value, Timestamp: time.UnixMilli(r.GetTimestampMs()), Offset: r.GetOffset(),
	}
	for _, h := range r.GetHeaders() {
		out.Headers = append(out.Headers, Header{Key: h.GetKey(), Value: h.Value})
	}
	return out
}
