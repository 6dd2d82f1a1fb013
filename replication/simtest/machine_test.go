package simtest

//quorlog:bubble a world lives in one

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
)

var ctx = context.Background()

// machine is a node of the cluster: a disk that outlives it, and a partition.Manager while it is on. All but the atomics and
// mu belongs to the goroutine of the events.
type machine struct {
	w    *world
	node replication.NodeID
	disk *vfs.Mem
	in   *vfs.Injector // over disk, for the current life
	mgr  *partition.Manager

	up     bool
	back   time.Time     // when it is turned on again
	hold   chan struct{} // what a slow or hung disk waits for; closed to let all go on
	slow   bool          // its locks may be held for long: see the package's doc
	faulty bool          // its storage may fail
	alone  time.Time     // since when it reaches nobody; zero while it does

	incarnations atomic.Int32 // of its replicas, so far
	versions     []int        // of the places that its replicas follow
	converging   atomic.Bool  // a pass of Converge is under way

	held  atomic.Int64            // calls that a slow or hung disk keeps waiting
	gone  atomic.Bool             // cut off by a crash that the events have not noticed yet
	image atomic.Pointer[vfs.Mem] // what the disk holds after a crash in the middle of something
	fatal atomic.Pointer[error]   // why its process must end
	parts []atomic.Pointer[partition.Partition]
	mu    struct {
		sync.Mutex
		views []view
	}
}

// view is what was seen of a replica in this life of its machine.
type view struct {
	muted bool // the replica is about to be another one
	epoch batch.Epoch
	high  batch.Offset
	next  batch.Offset // read up to here
}

func newMachine(w *world, node int) *machine {
	m := &machine{w: w, node: replication.NodeID(node), disk: vfs.NewMem(), parts: make([]atomic.Pointer[partition.Partition], len(w.truths))}
	m.mu.views = make([]view, len(w.truths))
	return m
}

// addrs are the addresses of all replicas that the machine ever had.
func (m *machine) addrs() (out []raft.ServerAddress) {
	for i := range m.incarnations.Load() + 1 {
		out = append(out, raft.ServerAddress(replication.ReplicaID{Node: m.node, Incarnation: replication.Incarnation(i)}.String()))
	}
	return out
}

// replica is the machine's replica of a partition in its current place.
func (m *machine) replica(i int) (found replication.ReplicaID, ok bool) {
	for _, r := range m.w.places[i].Target() {
		if r.Node == m.node {
			return r, true
		}
	}
	return found, false
}

// start turns the machine on. What a planted fault breaks at once ends it again.
func (m *machine) start() {
	m.in = vfs.Inject(m.disk)
	m.in.Add(m.w.lies...)
	m.gone.Store(false)
	m.image.Store(nil)
	m.fatal.Store(nil)
	m.slow, m.faulty, m.hold = false, false, make(chan struct{})
	m.mu.Lock()
	for i := range m.mu.views {
		m.mu.views[i] = view{epoch: batch.NoEpoch}
	}
	m.mu.Unlock()
	m.up = true
	m.w.relink()
	var err error
	m.mgr, err = partition.NewManager(partition.Options{
		DataDir: "/d", FS: m.in, Node: m.node, Network: port{m.w.weather, m.node}, Logger: m.w.logger(m.node),
		OnLeader: m.led, OnFatal: func(err error) { m.fatal.Store(&err) },
		CheckpointBytes: 16 << 10, BallastBytes: -1, SoftFree: -1,
	})
	if err != nil {
		m.w.book.violate(storageHolds, "node %d does not start: %v", m.node, err)
		m.up = false
		return
	}
	m.versions = make([]int, len(m.w.truths))
	for i := range m.w.truths {
		m.apply(i)
	}
}

// led hears of changes of leadership.
func (m *machine) led(c partition.LeaderChange) {
	i := int(c.ID.Partition)
	m.mu.Lock()
	if m.mu.views[i].muted {
		m.mu.Unlock()
		return
	}
	was := m.mu.views[i].epoch
	m.mu.views[i].epoch = max(was, c.Leader.Epoch)
	m.mu.Unlock()
	m.w.book.checked(epochsRise, 1)
	if c.Leader.Epoch < was {
		m.w.book.violate(epochsRise, "node %d, partition %d: epoch %d after %d", m.node, i, c.Leader.Epoch, was)
	}
	if c.Leader.Node != replication.NoNode {
		m.w.truths[i].lead(c.Leader.Node, c.Leader.Epoch, c.Local)
	}
}

// kill ends the machine at this instant: nothing that it does from now on reaches the network or the disk. bury must follow.
func (m *machine) kill(o vfs.CrashOptions) {
	if !m.up {
		return
	}
	m.up = false
	m.w.relink()
	for i := range m.parts {
		m.parts[i].Store(nil)
	}
	if image := m.image.Load(); image != nil {
		m.disk = image
	} else {
		m.disk = m.disk.Crash(m.w.rng, o)
	}
	close(m.hold)
	m.w.spread(m)
}

// bury waits until the goroutines of a killed machine have ended.
func (m *machine) bury() {
	if m.mgr != nil {
		_ = m.mgr.Close()
		m.mgr = nil
	}
}

// crash is kill and bury, with a time to come back.
func (m *machine) crash(o vfs.CrashOptions, back time.Duration) {
	if !m.up {
		return
	}
	m.kill(o)
	m.bury()
	m.back = time.Now().Add(back)
}

// stop turns the machine off in order.
func (m *machine) stop() {
	if !m.up {
		return
	}
	for i := range m.parts {
		m.parts[i].Store(nil)
	}
	if err := m.mgr.Close(); err != nil && !m.faulty && m.fatal.Load() == nil && !errors.Is(err, vfs.ErrCrashed) {
		m.w.book.violate(storageHolds, "node %d does not stop in order: %v", m.node, err)
	}
	m.mgr, m.up = nil, false
	m.w.relink()
}

// brake makes each fsync of a log take so long; for ever if d is 0. It must be mended, or the machine crash.
func (m *machine) brake(d time.Duration) {
	m.slow = true
	hold := m.hold
	m.in.Add(vfs.Rule{Op: vfs.OpSync, Path: ".log", Last: -1, Do: func(vfs.Call) {
		m.held.Add(1)
		defer m.held.Add(-1)
		var after <-chan time.Time
		if d > 0 {
			after = time.After(d)
		}
		select {
		case <-after:
		case <-hold:
		}
	}})
}

// mend ends the faults of a disk, but for those that were planted as bugs and those that have broken something already.
func (m *machine) mend() {
	if !m.up || m.image.Load() != nil {
		return
	}
	m.in.Disarm()
	m.in.Add(m.w.lies...)
	close(m.hold)
	for m.held.Load() > 0 {
		time.Sleep(time.Millisecond)
	}
	m.hold, m.slow = make(chan struct{}), false
}

// crashAt cuts the power at the nth change of a file that is to come. The others notice when reap runs.
func (m *machine) crashAt(path string, nth int) {
	var once sync.Once
	disk, rng := m.disk, m.w.newRand()
	m.faulty = true
	m.in.Add(vfs.Rule{Op: vfs.OpAny, Path: path, Nth: nth, Last: -1, Err: vfs.ErrCrashed, Do: func(vfs.Call) {
		once.Do(func() {
			m.image.Store(disk.CrashClone(rng, vfs.CrashOptions{Survive: -1}))
			m.gone.Store(true)
			m.w.cutOff(m)
		})
	}})
}
