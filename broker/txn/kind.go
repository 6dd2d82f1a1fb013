package txn

import (
	"errors"
	"fmt"
	"time"

	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/log/batch"
)

// kind tells the runtime of coordinators about this one. It is a coordinator.Kind.
type kind struct{ *Service }

// New is the machine of a transactional id of which nothing is known.
func (k kind) New(id string) *Machine { return NewMachine(id, &k.limits) }

// NewLoader begins the replay of a partition of __transaction_state.
func (k kind) NewLoader() coordinator.Loader[*Machine] {
	return &loader{limits: &k.limits, found: map[string]*Metadata{}}
}

// Tick is the event by which due timers fire.
func (kind) Tick() Event { return Tick{} }

// Written is the event that ends a write.
func (kind) Written(seq uint64, err error) Event { return Written{Seq: seq, Err: err} }

// Action tells what the runtime does for an effect.
func (kind) Action(effect Effect) coordinator.Action {
	switch f := effect.(type) {
	case Reply:
		return coordinator.Action{Reply: f.Call}
	case ReplyIdentity:
		return coordinator.Action{Reply: f.Call}
	case NeedID:
		return coordinator.Action{Reply: f.Call}
	case Write:
		return coordinator.Action{Write: &coordinator.Write{
			Seq: f.Seq, Size: f.Record.Size(), Records: func(add func(key, value []byte)) { add(f.Record.Encode()) },
		}}
	case Forget:
		return coordinator.Action{Forget: true}
	}
	return coordinator.Action{Other: true}
}

// Perform sends the markers that a machine wants.
func (k kind) Perform(at coordinator.Place, effect Effect) {
	if f, ok := effect.(Mark); ok {
		k.sessions.begin(at, &f)
	}
}

// loader replays records; of each id the newest wins.
type loader struct {
	limits *Limits
	found  map[string]*Metadata
}

// Record replays one record.
func (l *loader) Record(_ *batch.Header, key, value []byte) error {
	r, err := Decode(key, value)
	switch {
	case errors.Is(err, ErrUnknownKind):
		return fmt.Errorf("%w: %w", coordinator.ErrUnknownKind, err)
	case err != nil:
		return err
	case r.Metadata == nil:
		delete(l.found, r.ID)
	default:
		l.found[r.ID] = r.Metadata
	}
	return nil
}

// Marker has no meaning here: nothing in __transaction_state is transactional.
func (l *loader) Marker(coordinator.Marker) {}

// Machines gives the result.
func (l *loader) Machines(time.Time) map[string]*Machine {
	machines := make(map[string]*Machine, len(l.found))
	for id, m := range l.found {
		machines[id] = NewMachine(id, l.limits)
		machines[id].Restore(*m)
	}
	return machines
}
