package log

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
)

// DumpOptions choose what Dump prints.
type DumpOptions struct {
	Records bool  // keys, values and timestamps of records
	From    Index // entries below it are left out
	To      Index // and from it on; 0: to the end
}

// Dump prints what a partition's directory holds, for people: checkpoint, states, every frame in a line. It changes
// nothing, and goes on after damage as far as it can.
func Dump(fs vfs.FS, dir string, w io.Writer, o DumpOptions) error {
	d := &dumper{fs: fs, w: w, o: o}
	l := &Log{o: Options{FS: fs, Dir: dir}}
	list, err := l.readDirectory()
	if err != nil {
		return err
	}
	d.checkpoint(dir)
	for _, s := range list.segments {
		if err := d.segment(s); err != nil {
			return err
		}
		s.release()
	}
	for _, name := range list.orphans {
		d.printf("orphan %s\n", name)
	}
	return d.err
}

type dumper struct {
	fs  vfs.FS
	w   io.Writer
	o   DumpOptions
	err error
}

func (d *dumper) printf(format string, args ...any) {
	if d.err == nil {
		_, d.err = fmt.Fprintf(d.w, format, args...)
	}
}

func (d *dumper) checkpoint(dir string) {
	c, err := readCheckpoint(d.fs, dir)
	switch {
	case err != nil:
		d.printf("checkpoint: %v\n", err)
	case c == nil:
		d.printf("checkpoint: none\n")
	default:
		d.printf("checkpoint: first=%d segment=%s position=%d slots=%d commit=%d high-watermark=%d log-start=%d open=%v aborted=%v\n",
			c.first, segmentName(c.base, c.segment), c.pos, c.slots, c.commit, c.high, c.start, c.open, c.aborted)
		d.state("  ", &c.end)
	}
}

func (d *dumper) state(indent string, s *State) {
	d.printf("%sindex=%d term=%d offset=%d log-start=%d configuration=%d (%d bytes) epochs=%v\n",
		indent, s.Index, s.Term, s.Offset, s.LogStart, s.ConfigIndex, len(s.Config), s.Epochs)
	for i := range s.Producers {
		p := &s.Producers[i]
		coordinator := ""
		if p.CoordinatorEpoch >= 0 {
			coordinator = fmt.Sprintf(" coordinator=%d", p.CoordinatorEpoch)
		}
		d.printf("%sproducer %d epoch=%d last-sequence=%d transaction=%d%s batches=%v\n",
			indent, p.ID, p.Epoch, p.LastSequence, p.CurrentTxnStart, coordinator, p.Batches())
	}
}

func (d *dumper) segment(s *segment) error {
	file, err := s.log()
	if err != nil {
		return err
	}
	size, err := file.Size()
	if err != nil {
		return err
	}
	d.printf("segment %s: %d bytes\n", s.name(), size)
	c := s.beginning(0)
	if state, err := readState(d.fs, s); err != nil {
		d.printf("  state: %v\n", err)
	} else {
		c.term = state.Term
		d.state("  state: ", &state)
	}
	_, raw, sealed, err := readSlots(d.fs, s.path(indexSuffix))
	d.printf("  index: %d slots, sealed=%t", len(raw)/slotSize, sealed)
	if err != nil {
		d.printf(", %v", err)
	}
	if ft, err := s.peekFooter(); err == nil && ft.cleanedAt > 0 {
		d.printf(", cleaned=%d up to offset %d", ft.cleanedAt, ft.cleanTo)
	}
	d.printf("\n")
	d.txns(s)
	d.printf("  %10s %10s %6s %12s %-13s %8s  %s\n", "position", "index", "term", "offset", "kind", "bytes", "detail")
	sc := newScanner(file, s, 0, Position(size), c)
	for sc.next() {
		if sc.at.index >= d.o.From && (d.o.To == 0 || sc.at.index < d.o.To) {
			d.frame(sc)
		}
	}
	if sc.err != nil {
		if !errors.Is(sc.err, ErrCorrupt) && !errors.Is(sc.err, ErrFormat) {
			return sc.err
		}
		d.printf("  damaged: %v\n", sc.err)
	}
	return d.err
}

func (d *dumper) txns(s *segment) {
	recs, err := readTxns(d.fs, s.path(txnSuffix), s.name()+txnSuffix, -1)
	if err != nil && !isNotExist(err) {
		d.printf("  txnindex: %v\n", err)
	}
	for _, r := range recs {
		d.printf("  aborted: producer=%d offsets=%d..%d last-stable=%d\n", r.ProducerID, r.FirstOffset, r.LastOffset, r.lastStable)
	}
}

func (d *dumper) frame(sc *scanner) {
	p := &sc.p
	line := fmt.Sprintf("  %10d %10d %6d %12d %-13s %8d  %s", sc.at.pos, sc.at.index, p.LeaderEpoch, p.BaseOffset, p.kind, len(sc.frame), describe(p, sc.frame))
	d.printf("%s\n", strings.TrimRight(line, " "))
	if !d.o.Records || p.kind != KindBatch {
		return
	}
	err := batch.Iterate(sc.frame, func(r batch.Record) error {
		d.printf("      %12d %d key=%s value=%s\n", r.Offset, r.Timestamp, quoted(r.Key), quoted(r.Value))
		return d.err
	})
	if err != nil {
		d.printf("      %v\n", err)
	}
}

// describe tells what is special about a frame.
func describe(p *parsed, frame []byte) string {
	switch p.kind {
	case KindLogStart:
		start, err := DecodeLogStart(p.payload)
		return orError(fmt.Sprintf("start=%d", start), err)
	case KindRefused:
		r, err := DecodeRefused(p.payload)
		return orError(fmt.Sprintf("%s base=%d last=%d", r.Reason, r.Base, r.Last), err)
	case KindGap:
		return fmt.Sprintf("entries=%d last-offset=%d", p.indexes, p.LastOffset())
	case KindBatch:
	default:
		return ""
	}
	text := fmt.Sprintf("records=%d last-offset=%d codec=%s max-timestamp=%d", p.NumRecords, p.LastOffset(), p.Codec(), p.MaxTimestamp)
	if p.ProducerID >= 0 {
		text += fmt.Sprintf(" producer=%d/%d sequence=%d", p.ProducerID, p.ProducerEpoch, p.BaseSequence)
	}
	if p.IsTransactional() {
		text += " transactional"
	}
	if p.IsControl() {
		c, err := batch.ParseControl(frame)
		text += " " + orError(map[batch.ControlType]string{batch.ControlAbort: "abort", batch.ControlCommit: "commit"}[c.Type], err)
	}
	return text
}

// quoted prints bytes, and tells none from empty.
func quoted(b []byte) string {
	if b == nil {
		return "null"
	}
	return strconv.Quote(string(b))
}

func orError(text string, err error) string {
	if err != nil {
		return err.Error()
	}
	return text
}
