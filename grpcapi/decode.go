package grpcapi

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/fetch"
	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
	"github.com/quorlog/quorlog/log/batch"
)

const (
	// maxExpanded bounds what one batch may decompress to for a reader, in bytes. Kafka's clients decompress for themselves; here
	// the node does.
	maxExpanded = 64 << 20
	// A batch that decompresses to at most usualExpanded bytes, or usualRatio times its size, needs no room but what it was read
	// with.
	usualExpanded, usualRatio = 64 << 10, 4
)

// errEnough ends decoding.
var errEnough = errors.New("enough records")

// decoder turns batches into answers.
type decoder struct {
	at     position
	limit  int // bytes of an answer
	send   func(*quorlogv1.ConsumeResponse) error
	expand func() (give func(), err error) // waits for room for maxExpanded bytes
	shape  quorlogv1.ConsumeResponse
	out    *quorlogv1.ConsumeResponse
	size   int
	ending map[int64]bool // producers whose transaction, open where the decoder is, was aborted

	aborted []abortedTxn
}

// abortedTxn is an aborted transaction: who, and where it begins.
type abortedTxn struct {
	producer int64
	first    batch.Offset
}

// edges takes over where the partition stands.
func (d *decoder) edges(r *fetch.Result) {
	d.shape.HighWatermark, d.shape.LastStableOffset, d.shape.LogStartOffset = int64(r.HighWatermark), int64(r.LastStable), int64(r.LogStart)
	d.ending = map[int64]bool{}
	for _, t := range r.Aborted {
		d.aborted = append(d.aborted, abortedTxn{t.ProducerID, t.FirstOffset})
	}
	slices.SortFunc(d.aborted, func(a, b abortedTxn) int { return int(a.first - b.first) })
	d.begin()
}

func (d *decoder) begin() {
	d.out = &quorlogv1.ConsumeResponse{
		HighWatermark: d.shape.GetHighWatermark(), LastStableOffset: d.shape.GetLastStableOffset(), LogStartOffset: d.shape.GetLogStartOffset(),
		NextOffset: int64(d.at.next),
	}
	d.size = 0
}

// decode sends all that is in raw, and one answer even if that is nothing.
func (d *decoder) decode(raw []byte) error {
	for len(raw) > 0 {
		frame, rest, err := batch.Cut(raw)
		if err == nil {
			err = d.batch(frame)
		}
		if err != nil {
			if len(d.out.GetRecords()) > 0 && !errors.Is(err, errEnough) {
				err = cmp.Or(d.send(d.out), err) // what is before it is not lost on it
			}
			return err
		}
		raw = rest
	}
	return d.send(d.out)
}

func (d *decoder) batch(frame []byte) error {
	h, err := batch.ParseHeader(frame)
	if err != nil {
		return err
	}
	if h.NextOffset() <= d.at.next {
		return nil
	}
	skip, err := d.skips(h, frame)
	if err != nil {
		return err
	}
	if !skip {
		if err := d.records(h, frame); err != nil {
			return err
		}
	}
	// Compaction may have taken the batch's last records.
	d.at.next = h.NextOffset()
	d.out.NextOffset = int64(d.at.next)
	return nil
}

// records hands on the records of a batch. No record is handed on before all are decompressed.
func (d *decoder) records(h batch.Header, frame []byte) error {
	err := batch.IterateUpTo(frame, int64(max(usualExpanded, usualRatio*len(frame))), d.record)
	if !errors.Is(err, batch.ErrTooLarge) {
		return err
	}
	give, err := d.expand()
	if err != nil {
		return err
	}
	defer give()
	if err = batch.IterateUpTo(frame, maxExpanded, d.record); errors.Is(err, batch.ErrTooLarge) {
		err = fmt.Errorf("%w for this protocol: the batch from offset %d to %d: %w", broker.ErrMessageTooLarge, h.BaseOffset, h.LastOffset(), err)
	}
	return err
}

// skips tells whether a batch is nothing for the reader: a marker, or part of an aborted transaction. The list of aborted
// transactions names where each begins; its marker ends it.
func (d *decoder) skips(h batch.Header, frame []byte) (bool, error) {
	for len(d.aborted) > 0 && d.aborted[0].first <= h.LastOffset() {
		d.ending[d.aborted[0].producer] = true
		d.aborted = d.aborted[1:]
	}
	if h.IsControl() {
		c, err := batch.ParseControl(frame)
		if err != nil {
			return false, err
		}
		if c.Type == batch.ControlAbort {
			delete(d.ending, c.ProducerID)
		}
		return true, nil
	}
	return h.IsInternal() || d.at.committed && h.IsTransactional() && d.ending[h.ProducerID], nil
}

func (d *decoder) record(r batch.Record) error {
	if r.Offset < d.at.next {
		return nil
	}
	if r.NumHeaders() > batch.MaxHeaders {
		return fmt.Errorf("%w for this protocol: the record at offset %d has %d headers", broker.ErrMessageTooLarge, r.Offset, r.NumHeaders())
	}
	timestamp := r.Timestamp // a pointer into r would keep all of it
	out := &quorlogv1.Record{Key: r.Key, Value: r.Value, Offset: int64(r.Offset), TimestampMs: &timestamp}
	size := partCost + len(r.Key) + len(r.Value)
	if r.NumHeaders() > 0 {
		out.Headers = make([]*quorlogv1.Header, 0, r.NumHeaders())
	}
	for key, value := range r.EachHeader() {
		header := &quorlogv1.Header{Key: text(string(key)), Value: value}
		out.Headers = append(out.Headers, header)
		size += partCost + len(header.GetKey()) + len(value)
	}
	full := d.size+size > d.limit || d.at.maxCount > 0 && len(d.out.GetRecords()) == d.at.maxCount
	if full && len(d.out.GetRecords()) > 0 {
		if err := d.send(d.out); err != nil {
			return err
		}
		d.begin()
	}
	d.at.next = r.Offset + 1
	d.out.NextOffset = int64(d.at.next)
	d.out.Records, d.size = append(d.out.Records, out), d.size+size
	return nil
}
