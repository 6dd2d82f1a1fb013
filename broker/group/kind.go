package group

import (
	"time"

	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/log/batch"
)

// kind tells the coordinator's runtime of groups.
type kind struct{ limits *Limits }

// New is a group of which nothing is known.
func (k kind) New(id string) *Machine { return NewMachine(id, k.limits) }

// NewLoader begins the replay of a partition.
func (k kind) NewLoader() coordinator.Loader[*Machine] { return newLoader(k.limits) }

// Tick lets timers fire.
func (k kind) Tick() Event { return Tick{} }

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
	return &coordinator.Write{Seq: w.Seq, Size: size, Records: func(add func(key, value []byte)) {
		for i := range w.Records {
			add(encodeRecord(&w.Records[i]))
		}
	}}
}

// loaded is what the log says of a group.
type loaded struct {
	offsets  offsetTable
	metadata *Metadata
}

// loader replays records; of each key the newest wins.
type loader struct {
	limits *Limits
	groups map[string]*loaded
}

func newLoader(limits *Limits) *loader { return &loader{limits: limits, groups: map[string]*loaded{}} }

// Record replays one record.
func (l *loader) Record(_ *batch.Header, key, value []byte) error {
	r, err := decodeRecord(key, value)
	if err == nil {
		l.apply(&r)
	}
	return err
}

// Marker has nothing to end.
func (l *loader) Marker(coordinator.Marker) {}

// Machines makes groups of what was read.
func (l *loader) Machines(now time.Time) map[string]*Machine {
	out := make(map[string]*Machine, len(l.groups))
	for id, g := range l.groups {
		out[id] = g.machine(id, now, l.limits)
	}
	return out
}

func (g *loaded) machine(id string, now time.Time, limits *Limits) *Machine {
	m := NewMachine(id, limits)
	m.offsets = g.offsets
	if g.metadata != nil {
		m.Restore(now, g.metadata)
	}
	return m
}

func (l *loader) apply(r *Record) {
	g := l.groups[r.Group]
	if g == nil {
		g = &loaded{}
		l.groups[r.Group] = g
	}
	switch {
	case r.Key == nil:
		g.metadata = r.Metadata
	case r.Offset == nil:
		g.offsets.drop(*r.Key)
	default:
		g.offsets.put(*r.Key, *r.Offset)
	}
	if g.metadata == nil && g.offsets.len() == 0 {
		delete(l.groups, r.Group)
	}
}
