package log

import (
	"errors"
	"fmt"
	"path"
	"reflect"

	"github.com/quorlog/quorlog/log/vfs"
)

// Report is what Verify found. Problems is empty for a sound log.
type Report struct {
	Segments   int
	Entries    int64
	Bytes      int64
	FirstIndex Index
	LastIndex  Index
	LogEnd     Offset
	// TornBytes follow the last whole frame; Open would cut them.
	TornBytes int64
	Problems  []string
}

func (r *Report) problem(format string, args ...any) {
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

// Verify reads everything in a partition's directory and holds it against each other: frames against CRCs and chain,
// indexes against frames, each .state against what the segment before it adds up to, the checkpoint against the log. It
// changes nothing. The error is of reading; what it finds wrong is in the report.
func Verify(fs vfs.FS, dir string) (Report, error) {
	v := verifier{fs: fs, dir: dir}
	err := v.run()
	return v.r, err
}

type verifier struct {
	fs    vfs.FS
	dir   string
	r     Report
	ckpt  *checkpoint
	facts *facts
	chain chain
	// cleaned: the segment before was cleaned. Its frames no longer add up to all that a .state tells of producers.
	cleaned bool
}

func (v *verifier) run() error {
	l := &Log{o: Options{FS: v.fs, Dir: v.dir}}
	d, err := l.readDirectory()
	if err != nil {
		return err
	}
	if v.ckpt, err = readCheckpoint(v.fs, v.dir); err != nil {
		v.r.problem("%v", err)
	}
	if err := d.check(v.ckpt); err != nil {
		v.r.problem("%v", err)
	}
	if _, err := v.fs.Stat(path.Join(v.dir, swapName)); err == nil {
		v.r.problem("a swap of cleaned segments is under way; the next start finishes it")
	}
	for i, s := range d.segments {
		if err := v.segment(s, i == len(d.segments)-1); err != nil {
			return err
		}
		s.release()
	}
	v.r.Segments = len(d.segments)
	v.r.LogEnd = v.chain.offset
	v.r.LastIndex = max(v.chain.index, 1) - 1
	if len(d.segments) > 0 {
		v.r.FirstIndex = d.segments[0].first
	}
	if c := v.ckpt; c != nil && c.end.Index > v.r.LastIndex {
		v.r.problem("checkpoint lies at index %d, the log ends at %d", c.end.Index, v.r.LastIndex)
	}
	return nil
}

func (v *verifier) segment(s *segment, last bool) error {
	state, err := readState(v.fs, s)
	if err != nil {
		v.r.problem("%v", err)
		state = State{Index: s.first - 1, Offset: s.base}
	}
	v.begin(s, &state, err == nil)
	file, err := s.log()
	if err != nil {
		return err
	}
	size, err := file.Size()
	if err != nil {
		return err
	}
	_, raw, sealed, err := readSlots(v.fs, s.path(indexSuffix))
	if err != nil {
		v.r.problem("%v", err)
	}
	var ss slots
	b := tableBuilder{slots: &ss, base: s.base, first: s.first, maxTS: noTimestamp}
	sc := newScanner(file, s, 0, Position(size), v.chain)
	for sc.next() {
		w := b.slot(sc.frame, sc.p, sc.at)
		v.slot(s, raw, ss.n, w, sealed)
		ss.appendSlot(w)
		if err := v.facts.absorb(&sc.p, sc.at, v.facts.producers, 0); err != nil {
			v.r.problem("segment %s: %v", s.name(), err)
		}
		v.checkpoint(s, sc)
	}
	v.chain = sc.chain
	v.compareEnd(s)
	v.r.Entries += int64(ss.n)
	v.r.Bytes += int64(sc.pos)
	switch {
	case sc.err != nil && !errors.Is(sc.err, ErrCorrupt) && !errors.Is(sc.err, ErrFormat):
		return sc.err
	case sc.err != nil && last:
		v.r.TornBytes = size - int64(sc.pos)
	case sc.err != nil:
		v.r.problem("segment %s: %v", s.name(), sc.err)
	}
	if !last && !sealed {
		v.r.problem("segment %s: the index is not sealed", s.name())
	}
	if len(raw) > ss.n*slotSize && slotProves(raw[ss.n*slotSize:]) {
		v.r.problem("segment %s: the index goes on behind the last whole frame", s.name())
	}
	return nil
}

// begin holds a segment's state against the segments before it.
func (v *verifier) begin(s *segment, state *State, sound bool) {
	if v.facts == nil {
		f := newFacts(state)
		v.facts, v.chain = &f, s.beginning(state.Term)
		return
	}
	if v.chain.offset != s.base || v.chain.index != s.first {
		v.r.problem("segment %s follows offset %d, index %d", s.name(), v.chain.offset, v.chain.index)
		v.chain = s.beginning(state.Term)
	}
	if !sound {
		return
	}
	if v.cleaned {
		v.facts.producers, v.facts.logStart = newFacts(state).producers, state.LogStart
	}
	v.compare(s.name()+stateSuffix, *state)
}

// compareEnd holds a segment's frames against what its footer says of their aborted transactions.
func (v *verifier) compareEnd(s *segment) {
	ft, err := s.peekFooter()
	v.cleaned = err == nil && ft.cleanedAt > 0
	if !v.cleaned {
		return
	}
	if _, err := readTxns(v.fs, s.path(txnSuffix), s.name()+txnSuffix, int(ft.txns)); err != nil {
		v.r.problem("segment %s: %v", s.name(), err)
	}
}

// compare holds recorded facts against those that the frames add up to. When a producer was seen depends on the clock, and
// so does which idle ones were forgotten, for good or until they wrote again; which epochs are listed depends on the log start.
func (v *verifier) compare(name string, got State) {
	want := v.facts.state(v.chain, -1<<62)
	known := make(map[int64]ProducerState)
	for _, p := range want.Producers {
		known[p.ID] = p
	}
	for _, p := range got.Producers {
		if w, ok := known[p.ID]; !ok || !p.agrees(w) {
			v.r.problem("%s: producer %d is %+v, the frames say %+v", name, p.ID, p, w)
		}
	}
	epochs := epochList(got.Epochs).trim(v.chain.index - 1)
	if mine := v.facts.epochs.trim(v.chain.index - 1); !reflect.DeepEqual([]EpochStart(epochs), []EpochStart(mine)) {
		v.r.problem("%s: epochs end in %v, the frames say %v", name, epochs, mine)
	}
	got.Producers, want.Producers, got.Epochs, want.Epochs = nil, nil, nil, nil
	if len(got.Config) == 0 && len(want.Config) == 0 {
		got.Config, want.Config = nil, nil
	}
	if !reflect.DeepEqual(got, want) {
		v.r.problem("%s: %+v, the frames say %+v", name, got, want)
	}
}

// slot holds a slot of the file against the frame. An active index may lack slots, a sealed one may not.
func (v *verifier) slot(s *segment, raw []byte, n int, want slot, sealed bool) {
	if (n+1)*slotSize > len(raw) || !slotProves(raw[n*slotSize:(n+1)*slotSize]) {
		if sealed {
			v.r.problem("segment %s: slot %d is missing or damaged", s.name(), n)
		}
		return
	}
	got := getSlot(raw[n*slotSize:])
	want.flags |= got.flags & flagFirst
	if got != want {
		v.r.problem("segment %s: slot %d is %+v, the frame says %+v", s.name(), n, got, want)
	}
}

// checkpoint holds the checkpoint's append view against the frames, once the scan stands where it was written.
func (v *verifier) checkpoint(s *segment, sc *scanner) {
	c := v.ckpt
	if c == nil || c.segment != s.first || c.pos != sc.pos {
		return
	}
	v.chain = sc.chain
	v.compare(path.Base(checkpointName), c.end)
}
