package log

import (
	"fmt"
	"maps"
	"slices"
)

// State is what was true before a segment's first entry: a .state file, and what a replica begins with that is given no
// entries below. It is a few kilobytes, and everything in it follows from the entries up to Index.
type State struct {
	Index       Index  // of the last entry before the segment; 0 at the beginning
	Term        Epoch  // of that entry
	Offset      Offset // the segment's base offset: the log end offset at Index
	LogStart    Offset // the newest log start stored at or below Index
	Config      []byte // the newest Raft configuration at or below Index
	ConfigIndex Index
	Epochs      []EpochStart
	Producers   []ProducerState // ascending by id; their CurrentTxnStart are the open transactions
}

const stateMagic = "QLOGSTAT"

// Encode writes the state in the form of a .state file.
func (s *State) Encode() []byte {
	var e encoder
	e.begin(stateMagic)
	s.encode(&e)
	return e.finish()
}

func (s *State) encode(e *encoder) {
	e.index(s.Index)
	e.epoch(s.Term)
	e.offset(s.Offset)
	e.offset(s.LogStart)
	e.index(s.ConfigIndex)
	e.bytes(s.Config)
	epochList(s.Epochs).encode(e)
	e.u32(uint32(len(s.Producers)))
	for i := range s.Producers {
		s.Producers[i].encode(e)
	}
}

// DecodeState reads what Encode wrote; ErrFormat for another version, ErrCorrupt for a damaged one.
func DecodeState(b []byte) (State, error) { return decodeState("state", b) }

func decodeState(name string, b []byte) (State, error) {
	d, err := openEnvelope(name, stateMagic, b)
	if err != nil {
		return State{}, err
	}
	s := decodeStateBody(d)
	if !d.done() || s.Offset < 0 || s.LogStart < 0 {
		return State{}, fmt.Errorf("%w: %s: malformed", ErrCorrupt, name)
	}
	return s, nil
}

func decodeStateBody(d *decoder) State {
	s := State{Index: d.index(), Term: d.epoch(), Offset: d.offset(), LogStart: d.offset(), ConfigIndex: d.index()}
	s.Config = d.bytes()
	s.Epochs = decodeEpochs(d)
	n := d.count(producerMin)
	for range n {
		s.Producers = append(s.Producers, decodeProducer(d))
	}
	return s
}

// facts is the append view: what follows from the stored entries up to the log's end. The writer alone changes it; what
// readers look at (producers, epochs, configuration) it changes under Log.mu.
type facts struct {
	producers   producers
	epochs      epochList
	config      []byte
	configIndex Index
	logStart    Offset // newest stored, not necessarily applied
}

// newFacts is the append view at a segment's or a checkpoint's beginning.
func newFacts(s *State) facts {
	f := facts{
		producers: make(producers, len(s.Producers)), epochs: slices.Clone(s.Epochs),
		config: s.Config, configIndex: s.ConfigIndex, logStart: s.LogStart,
	}
	for _, p := range s.Producers {
		f.producers[p.ID] = &p
	}
	return f
}

// state is the inverse of newFacts, at the chain's end. Expired producers are left out.
func (f *facts) state(c chain, expired int64) State {
	s := State{
		Index: c.index - 1, Term: c.term, Offset: c.offset, LogStart: f.logStart,
		Config: f.config, ConfigIndex: f.configIndex, Epochs: f.epochs,
	}
	for _, id := range slices.Sorted(maps.Keys(f.producers)) {
		if p := f.producers[id]; !p.expired(expired) {
			s.Producers = append(s.Producers, *p)
		}
	}
	return s
}

// absorb moves the view behind one stored frame. What it says of producers goes to into: the table itself, or Append's
// stage.
func (f *facts) absorb(p *parsed, at chainPoint, into producerStore, now int64) error {
	f.epochs = f.epochs.add(p.LeaderEpoch, at.index, at.offset)
	if p.kind != KindBatch {
		return f.absorbInternal(p, at)
	}
	if p.ProducerID >= 0 {
		st := into.get(p.ProducerID)
		st.absorb(p, now)
		into.put(st)
	}
	return nil
}

// producerStore is where absorb finds and leaves producers.
type producerStore interface {
	get(id int64) ProducerState // a new one where the id is not known
	put(ProducerState)
}

// absorbInternal takes what an internal frame says.
func (f *facts) absorbInternal(p *parsed, at chainPoint) error {
	switch p.kind {
	case KindConfiguration:
		f.config, f.configIndex = slices.Clone(p.payload), at.index
	case KindLogStart:
		start, err := DecodeLogStart(p.payload)
		if err != nil {
			return err
		}
		f.logStart = max(f.logStart, start)
	}
	return nil
}
