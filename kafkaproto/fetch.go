package kafkaproto

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Versions of Fetch at which the answer's format changes.
const (
	fetchErrorCode     = 7
	fetchLogStart      = 5
	fetchPreferredRead = 11
	fetchFlexible      = 12
	fetchTopicID       = 13
	fetchBrokers       = 16
)

// fetchPartitionSize is about what a partition takes in an answer beside its records, in the newest version.
const fetchPartitionSize = 64

// fetchEncoder writes a Fetch answer as a list of parts: all bytes go to one buffer, which is cut where a region comes
// between.
type fetchEncoder struct {
	version int16
	buf     []byte
	cut     int // where the bytes begin that are in no part yet
	out     Encoded
}

// EncodeFetch encodes a Fetch answer, versions 4 to 18. The records of partition p of topic t are what region(t, p)
// returns, which may be nil; the RecordBatches of resp are only used where it returns nil, and written as empty where they
// are nil too, because consumers take a null for an error. Unknown tags of resp are not written.
func EncodeFetch(version int16, resp *kmsg.FetchResponse, region func(t, p int) Region) Encoded {
	size, partitions := fetchSize(resp)
	e := fetchEncoder{version: version, buf: make([]byte, 0, size)}
	e.out.Parts = make([]Part, 0, 2*partitions+1)
	e.int32(resp.ThrottleMillis)
	if version >= fetchErrorCode {
		e.int16(resp.ErrorCode)
		e.int32(resp.SessionID)
	}
	e.count(len(resp.Topics))
	for t := range resp.Topics {
		topic := &resp.Topics[t]
		if version >= fetchTopicID {
			e.buf = append(e.buf, topic.TopicID[:]...)
		} else {
			e.string(topic.Topic)
		}
		e.count(len(topic.Partitions))
		for p := range topic.Partitions {
			var r Region
			if region != nil {
				r = region(t, p)
			}
			e.partition(&topic.Partitions[p], r)
		}
		e.noTags()
	}
	e.trailer(resp)
	e.flush()
	return e.out
}

// fetchSize estimates the bytes beside regions, and counts partitions.
func fetchSize(resp *kmsg.FetchResponse) (n, partitions int) {
	n = 64 + 128*len(resp.Brokers)
	for t := range resp.Topics {
		topic := &resp.Topics[t]
		n += 32 + len(topic.Topic)
		partitions += len(topic.Partitions)
		for p := range topic.Partitions {
			part := &topic.Partitions[p]
			n += fetchPartitionSize + 17*len(part.AbortedTransactions) + len(part.RecordBatches)
		}
	}
	return n, partitions
}

func (e *fetchEncoder) partition(p *kmsg.FetchResponseTopicPartition, r Region) {
	e.int32(p.Partition)
	e.int16(p.ErrorCode)
	e.int64(p.HighWatermark)
	e.int64(p.LastStableOffset)
	if e.version >= fetchLogStart {
		e.int64(p.LogStartOffset)
	}
	e.aborted(p.AbortedTransactions)
	if e.version >= fetchPreferredRead {
		e.int32(p.PreferredReadReplica)
	}
	e.records(p.RecordBatches, r)
	if e.version >= fetchFlexible {
		e.partitionTags(p)
	}
}

// records writes those of a region, or without one those in memory.
func (e *fetchEncoder) records(inMemory []byte, r Region) {
	switch {
	case r != nil && r.Len() > 0:
		e.bytesLen(r.Len())
		e.flush()
		e.out.Parts = append(e.out.Parts, Part{Region: r})
		e.out.Size += r.Len()
	case r != nil:
		r.Release()
		e.bytesLen(0)
	default:
		e.bytesLen(len(inMemory))
		e.buf = append(e.buf, inMemory...)
	}
}

func (e *fetchEncoder) aborted(txns []kmsg.FetchResponseTopicPartitionAbortedTransaction) {
	if txns == nil {
		e.nullCount()
		return
	}
	e.count(len(txns))
	for i := range txns {
		e.int64(txns[i].ProducerID)
		e.int64(txns[i].FirstOffset)
		e.noTags()
	}
}

// partitionTags writes the tagged fields that differ from their defaults: the diverging epoch (0), the current leader (1)
// and the snapshot id (2). Each is a struct of two numbers and an empty tag list.
func (e *fetchEncoder) partitionTags(p *kmsg.FetchResponseTopicPartition) {
	diverging := p.DivergingEpoch.Epoch != -1 || p.DivergingEpoch.EndOffset != -1
	leader := p.CurrentLeader.LeaderID != -1 || p.CurrentLeader.LeaderEpoch != -1
	snapshot := p.SnapshotID.EndOffset != -1 || p.SnapshotID.Epoch != -1
	n := byte(0)
	for _, present := range [...]bool{diverging, leader, snapshot} {
		if present {
			n++
		}
	}
	e.buf = append(e.buf, n)
	const twoNumbers, epochAndOffset = 4 + 4 + 1, 4 + 8 + 1
	if diverging {
		e.buf = append(e.buf, 0, epochAndOffset)
		e.int32(p.DivergingEpoch.Epoch)
		e.int64(p.DivergingEpoch.EndOffset)
		e.noTags()
	}
	if leader {
		e.buf = append(e.buf, 1, twoNumbers)
		e.int32(p.CurrentLeader.LeaderID)
		e.int32(p.CurrentLeader.LeaderEpoch)
		e.noTags()
	}
	if snapshot {
		e.buf = append(e.buf, 2, epochAndOffset)
		e.int64(p.SnapshotID.EndOffset)
		e.int32(p.SnapshotID.Epoch)
		e.noTags()
	}
}

// trailer writes the answer's own tagged field, the leaders' addresses (KIP-951).
func (e *fetchEncoder) trailer(resp *kmsg.FetchResponse) {
	if e.version < fetchFlexible {
		return
	}
	if len(resp.Brokers) == 0 {
		e.noTags()
		return
	}
	content := fetchEncoder{version: e.version}
	content.count(len(resp.Brokers))
	for i := range resp.Brokers {
		b := &resp.Brokers[i]
		content.int32(b.NodeID)
		content.string(b.Host)
		content.int32(b.Port)
		if b.Rack == nil {
			content.buf = append(content.buf, 0)
		} else {
			content.string(*b.Rack)
		}
		content.noTags()
	}
	e.buf = append(e.buf, 1, 0)
	e.uvarint(len(content.buf))
	e.buf = append(e.buf, content.buf...)
}

// flush makes a part of the bytes written since the last one.
func (e *fetchEncoder) flush() {
	if e.cut == len(e.buf) {
		return
	}
	b := e.buf[e.cut:len(e.buf):len(e.buf)]
	e.out.Parts = append(e.out.Parts, Part{Bytes: b})
	e.out.Size += len(b)
	e.cut = len(e.buf)
}

func (e *fetchEncoder) int16(v int16) { e.buf = binary.BigEndian.AppendUint16(e.buf, uint16(v)) }
func (e *fetchEncoder) int32(v int32) { e.buf = binary.BigEndian.AppendUint32(e.buf, uint32(v)) }
func (e *fetchEncoder) int64(v int64) { e.buf = binary.BigEndian.AppendUint64(e.buf, uint64(v)) }

func (e *fetchEncoder) uvarint(n int) { e.buf = binary.AppendUvarint(e.buf, uint64(n)) }

// count writes the length of an array; bytesLen that of a byte field.
func (e *fetchEncoder) count(n int) {
	if e.version >= fetchFlexible {
		e.uvarint(n + 1)
		return
	}
	e.int32(int32(n))
}

func (e *fetchEncoder) bytesLen(n int) { e.count(n) }

func (e *fetchEncoder) nullCount() {
	if e.version >= fetchFlexible {
		e.uvarint(0)
		return
	}
	e.int32(-1)
}

func (e *fetchEncoder) string(s string) {
	if e.version >= fetchFlexible {
		e.uvarint(len(s) + 1)
	} else {
		e.int16(int16(len(s)))
	}
	e.buf = append(e.buf, s...)
}

func (e *fetchEncoder) noTags() {
	if e.version >= fetchFlexible {
		e.buf = append(e.buf, 0)
	}
}
