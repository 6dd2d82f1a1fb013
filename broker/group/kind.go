package group

import (
	"time"

	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/log/batch"
)

// kind tells the coordinator's runtime of groups.
type kind struct {
	limits *Limits
	topics Topics
	times  func(group string, share bool) Times
}

// New is a group of which nothing is known.
func (k kind) New(id string) *Machine { return NewMachine(id, k.limits) }

// NewLoader begins the replay of a partition.
func (k kind) NewLoader() coordinator.Loader[*Machine] { return newLoader(k.limits, k.times) }

// Tick lets timers fire.
func (k kind) Tick() Event { return Tick{View{Topics: k.topics}} }

// Written ends a write.
func (k kind) Written(seq uint64, err error) Event { return Written{Seq: seq, Err: err} }

// Action tells what an effect wants.
func (k kind) Action(effect Effect) coordinator.Action {
	switch f := effect.(type) {
	case ReplyJoin:
		return coordinator.Action{Reply: f.Call}
	case ReplySync:
		return coordinator.Action{Reply: f.Call}
	case Reply:
		return coordinator.Action{Reply: f.Call}
	case ReplyMember:
		return coordinator.Action{Reply: f.Call}
	case Reload:
		return coordinator.Action{Reload: true}
	case Write:
		return coordinator.Action{Write: f.asked()}
	case Forget:
		return coordinator.Action{Forget: true}
	}
	return coordinator.Action{}
}

// Perform has nothing to do: a group wants nothing but answers and writes.
func (k kind) Perform(coordinator.Place, Effect) {}

// asked is the write as the runtime wants it.
func (w Write) asked() *coordinator.Write {
	size := 0
	for i := range w.Records {
		size += w.Records[i].size()
	}
	return &coordinator.Write{Seq: w.Seq, Size: size, Producer: w.Producer.asBatch(), Verified: w.Verified, Records: func(add func(key, value []byte)) {
		for i := range w.Records {
			add(encodeRecord(&w.Records[i]))
		}
	}}
}

// loaded is what the log says of a group.
type loaded struct {
	offsets  offsetTable
	txns     transactions
	place    uint64
	metadata *Metadata
	consumer *modernLog // nil: no record of these
	share    *modernLog
}

// loader replays records; of each key the newest wins.
type loader struct {
	limits *Limits
	times  func(group string, share bool) Times
	groups map[string]*loaded
	open   map[int64]map[string]struct{} // producer id -> groups in its transaction
}

func newLoader(limits *Limits, times func(group string, share bool) Times) *loader {
	return &loader{limits: limits, times: times, groups: map[string]*loaded{}, open: map[int64]map[string]struct{}{}}
}

// Record replays one record.
func (l *loader) Record(h *batch.Header, key, value []byte) error {
	r, err := decodeRecord(key, value)
	switch {
	case err != nil:
		return err
	case h.IsTransactional() && r.Offset != nil:
		l.applyTxn(&r, Producer{ID: h.ProducerID, Epoch: h.ProducerEpoch})
	default:
		l.apply(&r)
	}
	return nil
}

// Marker ends a producer's transaction in all groups.
func (l *loader) Marker(m coordinator.Marker) {
	for id := range l.open[m.ProducerID] {
		if g := l.groups[id]; g != nil {
			g.txns.end(Producer{ID: m.ProducerID, Epoch: m.Epoch}, m.Commit, &g.offsets)
			l.tidy(id, g)
		}
	}
	delete(l.open, m.ProducerID)
}

// Machines makes groups of what was read.
func (l *loader) Machines(now time.Time) map[string]*Machine {
	out := make(map[string]*Machine, len(l.groups))
	for id, g := range l.groups {
		out[id] = g.machine(id, now, l)
	}
	return out
}

func (g *loaded) machine(id string, now time.Time, with *loader) *Machine {
	m := NewMachine(id, with.limits)
	m.offsets, m.place = g.offsets, g.place
	if g.txns != nil {
		m.txns = g.txns
	}
	for _, l := range []*modernLog{g.consumer, g.share} {
		if l != nil && l.group != nil {
			m.restoreMembers(now, l, with.times(id, l.share))
			return m
		}
	}
	if g.metadata != nil {
		m.Restore(now, g.metadata)
	}
	return m
}

func (l *loader) group(id string) *loaded {
	g := l.groups[id]
	if g == nil {
		g = &loaded{txns: transactions{}}
		l.groups[id] = g
	}
	g.place++
	return g
}

// tidy forgets a group of which nothing is left.
func (l *loader) tidy(id string, g *loaded) {
	if g.metadata == nil && g.offsets.len() == 0 && len(g.txns) == 0 && g.consumer.blank() && g.share.blank() {
		delete(l.groups, id)
	}
}

func (l *loader) applyTxn(r *Record, p Producer) {
	g := l.group(r.Group)
	r.Offset.place = g.place
	g.txns.put(p, *r.Key, *r.Offset)
	if l.open[p.ID] == nil {
		l.open[p.ID] = map[string]struct{}{}
	}
	l.open[p.ID][r.Group] = struct{}{}
}

func (l *loader) apply(r *Record) {
	g := l.group(r.Group)
	switch {
	case r.Entry != nil:
		g.entry(r.Entry)
	case r.Key == nil:
		g.metadata = r.Metadata
	case r.Offset == nil:
		g.offsets.drop(*r.Key)
		g.txns.drop(*r.Key)
	default:
		r.Offset.place = g.place
		g.offsets.put(*r.Key, *r.Offset)
	}
	l.tidy(r.Group, g)
}

func (g *loaded) entry(e *Entry) {
	l, share := &g.consumer, false
	switch e.Kind {
	case shareKinds.group, shareKinds.member, shareKinds.assignment, shareKinds.target, shareKinds.current:
		l, share = &g.share, true
	}
	if *l == nil {
		*l = newModernLog(share)
	}
	(*l).apply(e)
}
