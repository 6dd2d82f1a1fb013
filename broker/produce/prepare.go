package produce

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
)

// ErrBatchExceedsSegment: a batch does not fit a segment of its topic (RECORD_LIST_TOO_LARGE).
var ErrBatchExceedsSegment = errors.New("the batch is larger than segment.bytes")

var errInternalTopic = fmt.Errorf("%w: clients may not write to a topic of the cluster", replication.ErrInvalidTopic)

// What a batch may decompress to goes by what it may be as it is sent: to leastDecompressed bytes however little that is, and above to
// mostRatio times as much. Real content becomes some twenty times as large.
const (
	leastDecompressed = batch.DefaultMaxDecompressed
	mostRatio         = 128
)

// mostDecompressed is that of a topic.
func (s *Service) mostDecompressed(cfg *replication.TopicConfig) int64 {
	if cfg.MaxMessageBytes <= 0 {
		return s.maxDecompressed
	}
	return min(s.maxDecompressed, max(leastDecompressed, mostRatio*int64(cfg.MaxMessageBytes)))
}

// usual is what a batch of that size may decompress to before it has to wait for a turn: usualRatio times as much, but at least leastUsual
// and at most mostUsual bytes.
func usual(size int) int64 {
	const leastUsual, usualRatio, mostUsual = 4 << 20, 16, 64 << 20
	return max(leastUsual, min(usualRatio*int64(size), mostUsual))
}

// prepare turns what a client sent for one partition into a frame that the partition can store as it is: checked, with
// the topic's timestamps and compression, and in memory that it may keep. It waits until by, if it has to.
func (s *Service) prepare(ctx context.Context, by time.Time, r *Request, cfg replication.TopicConfig, records []byte) (partition.Batch, error) {
	h, err := soleBatch(records)
	if err != nil {
		return partition.Batch{}, err
	}
	if err := checkHeader(r, &cfg, h, len(records)); err != nil {
		return partition.Batch{}, err
	}
	limit := s.mostDecompressed(&cfg)
	b, err := s.accept(r, &cfg, records, min(limit, usual(len(records))))
	if errors.Is(err, batch.ErrTooLarge) && usual(len(records)) < limit {
		b, err = s.acceptInTurn(ctx, by, r, &cfg, records, limit)
	}
	return b, refusal(err)
}

// acceptInTurn is accept for batches that unpack to so much that they keep a processor busy, so that some of those are always left to
// others.
func (s *Service) acceptInTurn(
	ctx context.Context, by time.Time, r *Request, cfg *replication.TopicConfig, records []byte, limit int64,
) (b partition.Batch, err error) {
	if s.turns == nil {
		return s.accept(r, cfg, records, limit)
	}
	ctx, cancel := context.WithTimeout(ctx, by.Sub(s.now()))
	defer cancel()
	had := false
	err = s.turns.Do(ctx, func() error {
		had = true
		b, err = s.accept(r, cfg, records, limit)
		return err
	})
	if !had {
		err = fmt.Errorf("%w: batches that unpack to much: %w", replication.ErrOverloaded, err)
	}
	return b, err
}

// accept is prepare with a limit on what the records may decompress to: batch.ErrTooLarge above it.
func (s *Service) accept(r *Request, cfg *replication.TopicConfig, records []byte, limit int64) (partition.Batch, error) {
	v := batch.GetValidator()
	info, err := v.Validate(records, batch.Limits{MaxDecompressed: limit})
	batch.PutValidator(v)
	if err != nil {
		return partition.Batch{}, err
	}
	now := s.now()
	if err := checkRecords(cfg, &info, records, now); err != nil {
		return partition.Batch{}, err
	}
	frame, err := recompress(cfg, &info, records)
	if err != nil {
		return partition.Batch{}, err
	}
	if len(frame) > cfg.MaxMessageBytes && cfg.MaxMessageBytes > 0 {
		return partition.Batch{}, tooLarge(len(frame), cfg.MaxMessageBytes)
	}
	if &frame[0] == &records[0] {
		frame = ownFrame(frame, r.FrameSize)
	}
	stampTime(cfg, &info, frame, now)
	return partition.Batch{Frame: frame, Info: info, AnyISR: r.Acks != AcksAll}, nil
}

// The fields of a batch that must be looked at before it is known to be one of magic 2.
const (
	posLength   = 8
	posMagic    = 16
	logOverhead = 12 // base offset and length
	leastLegacy = 14 // the smallest length field of any magic
)

// soleBatch checks that the field of one partition is exactly one batch of magic 2 and returns its header. The errors
// are Kafka's: what can't be any batch is corrupt, what is a batch but not such a one is an invalid record.
func soleBatch(records []byte) (batch.Header, error) {
	if len(records) <= posMagic {
		return batch.Header{}, invalid("the request holds no batch for the partition")
	}
	size := int64(int32(binary.BigEndian.Uint32(records[posLength:])))
	switch magic := int8(records[posMagic]); {
	case size < leastLegacy:
		return batch.Header{}, corrupt("the batch's length is %d", size)
	case magic == 0 || magic == 1:
		return batch.Header{}, invalid("magic %d is not accepted any more, only 2", magic)
	case magic != batch.Magic:
		return batch.Header{}, corrupt("unknown magic %d", magic)
	case logOverhead+size > int64(len(records)):
		return batch.Header{}, invalid("the batch is cut off after %d of %d bytes", len(records), logOverhead+size)
	case logOverhead+size < int64(len(records)):
		return batch.Header{}, invalid("more than one batch for the partition")
	}
	h, err := batch.ParseHeader(records)
	if err != nil {
		return h, corrupt("%v", err)
	}
	return h, nil
}

// checkHeader judges what can be told without reading the records, and costs less than reading them.
func checkHeader(r *Request, cfg *replication.TopicConfig, h batch.Header, size int) error {
	switch {
	case h.Codec() == batch.Zstd && !r.ZstdAllowed:
		return fmt.Errorf("%w: zstd needs Produce version 7", broker.ErrUnsupportedCompression)
	case !h.Codec().Valid():
		return fmt.Errorf("%w: %v", broker.ErrUnsupportedCompression, h.Codec())
	case h.IsTransactional() && r.TransactionalID == nil:
		return broker.ErrNoTransactionalID
	case h.IsTransactional() && !h.HasProducer():
		return invalid("a transactional batch has no producer id")
	case h.BaseOffset != 0:
		return invalid("the base offset is %d, not 0", h.BaseOffset)
	case cfg.MaxMessageBytes > 0 && size > cfg.MaxMessageBytes:
		return tooLarge(size, cfg.MaxMessageBytes)
	case cfg.SegmentBytes > 0 && int64(size) > cfg.SegmentBytes:
		return fmt.Errorf("%w: %d bytes, segments have %d", ErrBatchExceedsSegment, size, cfg.SegmentBytes)
	}
	return nil
}

// checkRecords judges what only the topic's settings forbid.
func checkRecords(cfg *replication.TopicConfig, info *batch.Info, records []byte, now time.Time) error {
	if cfg.CleanupPolicy&replication.CleanupCompact != 0 && info.Keyless {
		return keyless(records)
	}
	if cfg.TimestampType == replication.LogAppendTime {
		if info.IsLogAppendTime() {
			return fmt.Errorf("%w: producers may not set the timestamp type to LogAppendTime", broker.ErrInvalidTimestamp)
		}
		return nil
	}
	low, high := now.Add(-cfg.TimestampBeforeMax).UnixMilli(), now.Add(cfg.TimestampAfterMax).UnixMilli()
	if info.MinTimestamp < low || info.MaxTimestamp > high {
		return outOfTime(records, low, high)
	}
	return nil
}

// recompress gives the batch the topic's compression, unless that is the producer's choice.
func recompress(cfg *replication.TopicConfig, info *batch.Info, records []byte) ([]byte, error) {
	if cfg.Compression == "" || cfg.Compression == "producer" {
		return records, nil
	}
	codec := batch.None
	if cfg.Compression != "uncompressed" {
		var err error
		if codec, err = batch.ParseCodec(cfg.Compression); err != nil {
			return nil, fmt.Errorf("%w: compression.type: %w", replication.ErrInvalidConfig, err)
		}
	}
	if codec == info.Codec() {
		return records, nil
	}
	if size := batch.HeaderSize + info.Decompressed; codec == batch.None && cfg.MaxMessageBytes > 0 && size > int64(cfg.MaxMessageBytes) {
		return nil, tooLarge(int(size), cfg.MaxMessageBytes)
	}
	frame, err := batch.Recompress(records, codec, cfg.CompressionLevel, cfg.MaxMessageBytes)
	if err != nil {
		return nil, refusal(err)
	}
	return frame, nil
}

// smallShare is the share of a request's buffer below which a batch is copied out of it. A frame may stay in memory long
// after its request (in the log's tail, for followers and consumers), and keeps the whole buffer with it. A batch of a
// quarter or more wastes at most three times its size, less than what copying every batch would cost.
const smallShare = 4

// ownFrame returns the frame in memory that the log may keep.
func ownFrame(frame []byte, bufferSize int) []byte {
	if len(frame)*smallShare < bufferSize {
		return bytes.Clone(frame)
	}
	return frame
}

// stampTime writes the timestamps that the topic wants into the header, and the CRC with them.
func stampTime(cfg *replication.TopicConfig, info *batch.Info, frame []byte, now time.Time) {
	if cfg.TimestampType == replication.LogAppendTime {
		batch.SetLogAppendTime(frame, now.UnixMilli())
	} else {
		batch.SetCreateTime(frame, info.MaxTimestamp)
	}
}
