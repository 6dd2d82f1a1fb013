package controller

import (
	"sync/atomic"

	"github.com/quorlog/quorlog/replication"
)

// MachineOptions configure a Machine.
type MachineOptions struct {
	// Node and Static are this node's id and the broker settings that it was started with. They only serve to resolve
	// settings on this node and are not part of the metadata.
	Node   replication.NodeID
	Static map[string]string
	// OnFatal is called, once, when the machine can't apply a command because it is damaged or newer than this program.
	// The process must end: going on would make this node's metadata differ from the others'. Nil does nothing.
	OnFatal func(error)
}

// Machine is the deterministic state machine of the metadata group; it is a raftgroup.Machine. Apply, Snapshot and Restore
// never overlap; Image may be called from any goroutine.
type Machine struct {
	local   *local
	onFatal func(error)
	image   atomic.Pointer[Image]
	changed chan struct{} // holds one token while there is an image that watchers have not been told of
	applied atomic.Uint64
	fatal   error // of Apply, Snapshot and Restore only
}

// NewMachine returns a machine with an empty image.
func NewMachine(o MachineOptions) *Machine {
	m := &Machine{local: &local{node: o.Node, static: o.Static}, onFatal: o.OnFatal, changed: make(chan struct{}, 1)}
	if m.onFatal == nil {
		m.onFatal = func(error) {}
	}
	m.image.Store(emptyImage(m.local))
	return m
}

// Image is the newest image.
func (m *Machine) Image() *Image { return m.image.Load() }

// Applied is the index of the last command that was applied, whether or not it changed anything; after a restore, at least that
// of the last one that did.
func (m *Machine) Applied() uint64 { return m.applied.Load() }

// Reset forgets everything: the group begins anew, and will apply again what there is. raftgroup calls it whenever a group is
// opened. Watchers are not told, since they must not take it for a deletion.
func (m *Machine) Reset() {
	m.fatal = nil
	m.image.Store(emptyImage(m.local))
	m.applied.Store(0)
}

// Apply applies a command. It returns a *Result, or an error if the command can't be read; then the machine is stuck and
// answers everything with this error.
func (m *Machine) Apply(index uint64, command []byte) any {
	if m.fatal != nil {
		return m.fatal
	}
	c, err := decodeCommand(command)
	if err != nil {
		m.fatal = failf(err, "metadata command at index %d", index)
		m.onFatal(m.fatal)
		return m.fatal
	}
	old := m.image.Load()
	next, result := step(old, index, c)
	if next != old {
		m.publish(next)
	}
	m.applied.Store(index)
	return result
}

// Snapshot encodes the image.
func (m *Machine) Snapshot() ([]byte, error) {
	if m.fatal != nil {
		return nil, m.fatal // a snapshot would drop the command that could not be applied
	}
	return encodeImage(m.image.Load())
}

// Restore replaces the image by that of a snapshot. On an error nothing has changed.
func (m *Machine) Restore(data []byte) error {
	im, err := decodeImage(data, m.local)
	if err != nil {
		return err
	}
	m.fatal = nil
	m.publish(im)
	m.applied.Store(im.Index)
	return nil
}

func (m *Machine) publish(im *Image) {
	m.image.Store(im)
	select {
	case m.changed <- struct{}{}:
	default: // the token is there already
	}
}
