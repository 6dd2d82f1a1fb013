package simtest

//quorlog:bubble a world lives in one

import (
	"context"
	"slices"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
)

// place is where a partition's replicas are to be: what a controller would hold. It is the events', and all machines that run
// follow it.
type place struct {
	replication.Assignment
	version int
	lost    bool // a replica's disk was wiped: there is no way back
}

func (p place) moving() bool { return len(p.Adding)+len(p.Removing) > 0 }

// finished is a reassignment that a leader has brought to its end.
type finished struct {
	partition, version int
	voters             []replication.ReplicaID
}

// found places the partitions for the first time, on the first machines; the last is spare.
func (w *world) found() {
	w.places = make([]place, len(w.truths))
	w.reached = make(chan finished, 1000)
	for i := range w.places {
		for k := range replicaCount {
			node := replication.NodeID((i+k)%replicaCount + 1)
			w.places[i].Replicas = append(w.places[i].Replicas, replication.ReplicaID{Node: node})
		}
	}
}

// hosts are the machines that have, or are to have, a replica.
func (w *world) hosts(i int) (out []*machine) {
	for _, m := range w.machines {
		if m.hosts(i) {
			out = append(out, m)
		}
	}
	return out
}

func (m *machine) hosts(i int) bool {
	return slices.ContainsFunc(m.w.places[i].Replicas, func(r replication.ReplicaID) bool { return r.Node == m.node })
}

func (w *world) someHost(i int) *machine {
	hosts := w.hosts(i)
	return hosts[w.rng.IntN(len(hosts))]
}

// move gives a partition a new target.
func (w *world) move(i int, target []replication.ReplicaID) {
	was := w.places[i]
	next := place{Assignment: replication.Assignment{Replicas: slices.Clone(target), Initial: was.Founders()}, version: was.version + 1, lost: was.lost}
	for _, r := range target {
		if !slices.Contains(was.Replicas, r) || slices.Contains(was.Adding, r) {
			next.Adding = append(next.Adding, r)
		}
	}
	for _, r := range was.Replicas {
		if !slices.Contains(target, r) {
			next.Replicas, next.Removing = append(next.Replicas, r), append(next.Removing, r)
		}
	}
	w.places[i] = next
	w.note("move", "partition", i, "replicas", next.Replicas, "adding", next.Adding, "removing", next.Removing)
}

// incarnate makes the identity of a new replica.
func (m *machine) incarnate() replication.ReplicaID {
	i := m.incarnations.Add(1)
	m.w.relink()
	return replication.ReplicaID{Node: m.node, Incarnation: replication.Incarnation(i)}
}

// follow has all machines follow the places, leaders take steps, and takes note of reassignments that are done. It is called
// with each tick.
func (w *world) follow() {
	for done := false; !done; {
		select {
		case f := <-w.reached:
			w.finish(f)
		default:
			done = true
		}
	}
	for _, m := range w.machines {
		if !m.up || m.slow || m.gone.Load() || m.fatal.Load() != nil {
			continue
		}
		for i := range w.places {
			if m.versions[i] != w.places[i].version {
				m.apply(i)
			}
		}
		m.converge()
	}
}

// finish ends a reassignment, unless another one has begun since.
func (w *world) finish(f finished) {
	p := w.places[f.partition]
	if p.version != f.version || !p.moving() {
		return
	}
	target := p.Target()
	if len(target) != len(f.voters) || slices.ContainsFunc(target, func(r replication.ReplicaID) bool { return !slices.Contains(f.voters, r) }) {
		w.book.violate(becomesWhole, "partition %d is done with %v, not with %v", f.partition, f.voters, target)
	}
	w.places[f.partition] = place{Assignment: replication.Assignment{Replicas: target, Initial: p.Founders()}, version: p.version + 1}
	w.book.count("reassignments", 1)
}

// apply brings a machine's replica of a partition in line with its place.
func (m *machine) apply(i int) {
	t := m.w.truths[i]
	m.versions[i] = m.w.places[i].version
	m.mu.Lock()
	m.mu.views[i].muted = true
	m.mu.Unlock()
	before := m.parts[i].Load()
	m.parts[i].Store(nil)
	if !m.hosts(i) {
		if err := m.mgr.Delete(ctx, t.id); err != nil && !m.excused() {
			m.w.book.violate(storageHolds, "node %d does not delete partition %d: %v", m.node, i, err)
		}
	} else if p, err := m.mgr.Ensure(ctx, t.id, "topic", m.w.places[i].Assignment, m.w.config()); err != nil {
		if !m.excused() {
			m.w.book.violate(storageHolds, "node %d, partition %d: %v", m.node, i, err)
		}
	} else {
		m.parts[i].Store(p)
	}
	time.Sleep(time.Millisecond) // what is said of the replica before is said
	m.mu.Lock()
	m.mu.views[i].muted = false
	if before != m.parts[i].Load() { // another replica, or none
		m.mu.views[i] = view{epoch: batch.NoEpoch}
	}
	m.mu.Unlock()
}

// excused tells that an error of the machine's storage is no surprise.
func (m *machine) excused() bool { return m.faulty || m.fatal.Load() != nil || m.gone.Load() }

// converge lets the partitions that a machine leads take their next steps, unless it is at that already.
func (m *machine) converge() {
	if m.converging.Swap(true) {
		return
	}
	mgr, places := m.mgr, slices.Clone(m.w.places)
	m.w.helpers.Add(1)
	go func() {
		defer m.w.helpers.Done()
		defer m.converging.Store(false)
		limited, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		mgr.Converge(limited, func(id replication.PartitionID, voters []replication.ReplicaID) {
			m.w.reached <- finished{int(id.Partition), places[id.Partition].version, voters}
		})
	}()
}

// replicaMoves has a partition move to a machine that does not host it; or, if it is moving, to go back.
func replicaMoves(w *world) {
	i := w.rng.IntN(len(w.places))
	p := w.places[i]
	if p.moving() {
		if !p.lost && w.rng.IntN(3) == 0 {
			back := slices.DeleteFunc(slices.Clone(p.Replicas), func(r replication.ReplicaID) bool { return slices.Contains(p.Adding, r) })
			w.move(i, back)
			w.book.count("reassignments cancelled", 1)
		}
		return
	}
	target := slices.Clone(p.Replicas)
	for _, m := range w.machines {
		if !m.hosts(i) {
			target[w.rng.IntN(len(target))] = m.incarnate()
			break
		}
	}
	w.move(i, target)
	w.pass(w.upTo(2 * time.Second))
}

// diskWiped takes a machine's disk away for good, once the others have all that it helped to commit. It comes back with an empty one, and
// its replicas as new incarnations.
func diskWiped(w *world) {
	w.heal()
	m := w.anyMachine()
	if slices.ContainsFunc(w.places, place.moving) {
		return
	}
	w.isolate(m)
	ready := w.await("leaders without one of the machines", func() bool { return w.ledBeside(m) }) &&
		w.await("followers that have caught up without one of the machines", w.caughtUp(m))
	w.calm()
	if !ready || !m.up {
		return
	}
	m.kill(vfs.CrashOptions{})
	m.bury()
	m.disk, m.back = vfs.NewMem(), time.Now().Add(w.upTo(time.Second))
	for i := range w.places {
		if !m.hosts(i) {
			continue
		}
		target := slices.Clone(w.places[i].Replicas)
		for k, r := range target {
			if r.Node == m.node {
				target[k] = m.incarnate()
			}
		}
		w.places[i].lost = true
		w.move(i, target)
	}
	w.pass(w.upTo(3 * time.Second))
}

// ledBeside reports whether all partitions are led by other machines.
func (w *world) ledBeside(m *machine) bool {
	for i := range w.truths {
		if l := w.leaderOf(i); l == nil || l == m {
			return false
		}
	}
	return true
}

// caughtUp returns a condition: all replicas on other machines have what is committed by now.
func (w *world) caughtUp(beside *machine) func() bool {
	high := make([]batch.Offset, len(w.truths))
	for i, t := range w.truths {
		high[i] = t.high()
	}
	return func() bool {
		for i := range w.truths {
			for _, m := range w.hosts(i) {
				p := m.parts[i].Load()
				if m == beside {
					continue
				}
				if p == nil {
					return false
				}
				if o, ok := offsetsOf(p); !ok || o.HighWatermark < high[i] {
					return false
				}
			}
		}
		return true
	}
}

// drain has a machine hand over all that it leads.
func drain(w *world) {
	_, m := w.someLeader()
	if !m.up || m.gone.Load() {
		return
	}
	mgr := m.mgr
	w.helpers.Add(1)
	go func() {
		defer w.helpers.Done()
		limited, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		mgr.HandOver(limited, func(n replication.NodeID) bool { return n != m.node })
	}()
	w.pass(w.upTo(500 * time.Millisecond))
}
