package compat

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// rawBatch is a record batch to be spoilt. It is built with kmsg and this file's own varints, not with the broker's encoder.
type rawBatch struct {
	kmsg.RecordBatch
	lengthBy int32 // added to the true length
	crcBy    int32 // added to the true CRC
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Positions in a batch.
const (
	posBatchLength, batchOverhead, posMagic, posCRC, posAttributes = 8, 12, 16, 17, 21
)

// batchOf returns a good batch of records that were encoded already.
func batchOf(records ...[]byte) *rawBatch {
	now := time.Now().UnixMilli()
	b := &rawBatch{}
	b.PartitionLeaderEpoch, b.Magic = -1, 2
	b.LastOffsetDelta, b.NumRecords = int32(len(records))-1, int32(len(records))
	b.FirstTimestamp, b.MaxTimestamp = now, now
	b.ProducerID, b.ProducerEpoch, b.FirstSequence = -1, -1, -1
	b.Records = bytes.Join(records, nil)
	return b
}

func goodBatch() *rawBatch { return batchOf(plainRecord(0)) }

// with changes the batch.
func (b *rawBatch) with(change func(*rawBatch)) *rawBatch {
	change(b)
	return b
}

// encode returns the batch with a fitting length and CRC, unless it asks for others.
func (b *rawBatch) encode() []byte {
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[posBatchLength:], uint32(int32(len(raw)-batchOverhead)+b.lengthBy))
	sum := crc32.Checksum(raw[posAttributes:], castagnoli)
	binary.BigEndian.PutUint32(raw[posCRC:], uint32(int32(sum)+b.crcBy))
	return raw
}

// varint is the zigzag form of records' numbers.
func varint(n int64) []byte { return binary.AppendVarint(nil, n) }

// sized prefixes a record's body with its length.
func sized(body ...[]byte) []byte {
	all := bytes.Join(body, nil)
	return append(varint(int64(len(all))), all...)
}

// plainRecord is a record with the given offset delta, a key and a value.
func plainRecord(delta int64) []byte {
	return sized([]byte{0}, varint(0), varint(delta), varint(3), []byte("key"), varint(5), []byte("value"), varint(0))
}

// valueRecord is a record without a key.
func valueRecord(delta int64, value []byte) []byte {
	return sized([]byte{0}, varint(0), varint(delta), varint(-1), varint(int64(len(value))), value, varint(0))
}

// legacyMessage is a message of magic 0 or 1, as clients sent it before Kafka 0.11.
func legacyMessage(magic byte) []byte {
	body := []byte{magic, 0}
	if magic > 0 {
		body = binary.BigEndian.AppendUint64(body, uint64(time.Now().UnixMilli()))
	}
	body = binary.BigEndian.AppendUint32(body, 0xffffffff) // no key
	body = append(binary.BigEndian.AppendUint32(body, 5), "value"...)
	message := append(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(body)), body...)
	set := binary.BigEndian.AppendUint64(nil, 0)
	return append(binary.BigEndian.AppendUint32(set, uint32(len(message))), message...)
}

// produceTo sends records to partition 0 of a topic and returns the partition's answer; an error if the broker closed the
// connection instead.
func (w *wire) produceTo(topic string, version int16, records []byte) (kmsg.ProduceResponseTopicPartition, error) {
	w.t.Helper()
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = version, -1, 30_000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Records = records
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := w.tryAsk(req)
	if err != nil {
		return kmsg.ProduceResponseTopicPartition{}, err
	}
	return resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0], nil
}
