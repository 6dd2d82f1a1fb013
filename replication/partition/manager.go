package partition

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/raftgroup"
	"github.com/quorlog/quorlog/replication/raftlog"
	"github.com/quorlog/quorlog/replication/transport"
)

// ErrClosed: the manager was closed.
var ErrClosed = fmt.Errorf("%w: node is stopping", replication.ErrNotLeader)

// changeLocks is the number of locks that creations and deletions share.
const changeLocks = 64

// closeParallel is how many partitions are closed at a time: closing waits for fsyncs.
const closeParallel = 16

// Manager holds the partitions of this node. It may be used by any number of goroutines.
type Manager struct {
	o       Options
	votes   *raftlog.Votes
	tail    *log.TailBudget
	queue   *semaphore.Weighted
	space   space
	scrub   scrub
	changes changes
	patrol  *raftgroup.Patrol // nil for a node without peers
	herald  *raftgroup.Herald // the same
	fatal   sync.Once
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	tasks   sync.WaitGroup // retirements

	changing [changeLocks]sync.Mutex // by partition: one creation or deletion at a time. Held over I/O
	mu       struct {
		sync.RWMutex
		partitions map[replication.PartitionID]*Partition
		census     census
		closed     bool
	}
}

// NewManager opens the data directory. Partitions are opened one by one, by Ensure.
func NewManager(o Options) (*Manager, error) {
	o = o.withDefaults()
	m := &Manager{o: o, tail: log.NewTailBudget(o.TailBytes), queue: semaphore.NewWeighted(o.NodeQueueBytes)}
	m.mu.partitions, m.mu.census.traffic = make(map[replication.PartitionID]*Partition), make(map[string]*traffic)
	if err := vfs.MkdirDurable(o.FS, m.root()); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	votes, err := m.openVotes()
	if err != nil {
		return nil, err
	}
	m.votes = votes
	if err := m.sweep(); err != nil {
		return nil, errors.Join(err, votes.Close())
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	if _, alone := o.Network.(transport.None); !alone {
		m.patrol, m.herald = raftgroup.NewPatrol(), raftgroup.NewHerald()
	}
	m.space.look(m)
	m.changes.start(o.OnLeader)
	return m, nil
}

func (m *Manager) root() string { return path.Join(m.o.DataDir, "partitions") }

// openVotes opens the vote store: bbolt where files are real, its twin on the file system of the options elsewhere.
func (m *Manager) openVotes() (*raftlog.Votes, error) {
	o := raftlog.VoteOptions{Guard: m.o.Guard, OnFatal: m.die}
	name := path.Join(m.o.DataDir, "votes.db")
	real, err := hasRealFiles(m.o.FS, path.Join(m.root(), ".probe"))
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if !real {
		return raftlog.OpenVotesFS(m.o.FS, name, o)
	}
	return raftlog.OpenVotes(name, o)
}

// hasRealFiles tells whether files of fsys are ones of the operating system, which bbolt can open by name.
func hasRealFiles(fsys vfs.FS, name string) (bool, error) {
	if err := fsys.RemoveAll(name); err != nil {
		return false, err
	}
	f, err := fsys.Create(name)
	if err != nil {
		return false, err
	}
	_, real := f.Fd()
	return real, errors.Join(f.Close(), fsys.Remove(name))
}

// die reports the error that ends the process.
func (m *Manager) die(err error) {
	m.fatal.Do(func() {
		m.o.Logger.Error("storage failed; the process must end", "error", err)
		if m.o.OnFatal != nil {
			m.o.OnFatal(err)
		}
	})
}

func (m *Manager) lockFor(id replication.PartitionID) *sync.Mutex {
	h := fnv.New32a()
	h.Write(id.Topic[:])
	return &m.changing[(h.Sum32()+uint32(id.Partition))%changeLocks]
}

// Get finds an open partition.
func (m *Manager) Get(id replication.PartitionID) (*Partition, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	p, ok := m.mu.partitions[id]
	return p, ok
}

// All returns the open partitions, in no particular order.
func (m *Manager) All() []*Partition {
	m.mu.RLock()
	defer m.mu.RUnlock()
	all := make([]*Partition, 0, len(m.mu.partitions))
	for _, p := range m.mu.partitions {
		all = append(all, p)
	}
	return all
}

// Ensure opens this node's replica of a partition, creating it if there is none, and returns it once its Raft instance runs;
// a one-voter group is about to elect itself then. An open one is returned as it is, with the assignment and configuration
// given. A replica whose files are damaged is returned too, offline, with an error that wraps replication.ErrStorage.
func (m *Manager) Ensure(ctx context.Context, id replication.PartitionID, topic string, a replication.Assignment, cfg replication.TopicConfig) (*Partition, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	lock := m.lockFor(id)
	lock.Lock()
	defer lock.Unlock()
	self, ok := m.replicaIn(a)
	if !ok {
		return nil, fmt.Errorf("%w: node %d is not among the replicas of %s-%d", replication.ErrInvalidReplicaAssignment, m.o.Node, topic, id.Partition)
	}
	if p, ok := m.Get(id); ok {
		if self.Incarnation <= p.self.Incarnation {
			p.assignment.Store(&a)
			p.setConfig(cfg)
			return p, p.offlineErr()
		}
		m.retire(p)
	}
	if m.isClosed() {
		return nil, ErrClosed
	}
	p := newPartition(m, id, topic, self, a, cfg)
	err := p.start(a)
	if err != nil && !p.goOffline(err) {
		return nil, err
	}
	if !m.register(p) {
		return nil, errors.Join(ErrClosed, p.close())
	}
	p.give()
	return p, p.offlineErr()
}

// retire closes a replica whose successor on this node is about to begin.
func (m *Manager) retire(p *Partition) {
	leave(p)
	if err := p.close(); err != nil {
		m.o.Logger.Warn("closing a replica that begins again", "partition", p.id.String(), "error", err)
	}
}

// leave makes a partition one that can't be found any more.
func leave(p *Partition) {
	done := p.Stats().Log // not under the lock: the group has locks of its own
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	delete(p.m.mu.partitions, p.id)
	p.m.mu.census.leave(p, done)
}

func (m *Manager) isClosed() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.mu.closed
}

func (m *Manager) register(p *Partition) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.closed {
		return false
	}
	m.mu.census.enter(p)
	m.mu.partitions[p.id] = p
	return true
}

// replicaIn finds this node's replica in an assignment: the newest, where one takes the place of another.
func (m *Manager) replicaIn(a replication.Assignment) (own replication.ReplicaID, ok bool) {
	for _, r := range a.Replicas {
		if r.Node == m.o.Node && (!ok || r.Incarnation > own.Incarnation) {
			own, ok = r, true
		}
	}
	return own, ok
}

// Delete removes this node's replica of a partition for good, open or not. Nothing is wrong if there is none.
func (m *Manager) Delete(ctx context.Context, id replication.PartitionID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	lock := m.lockFor(id)
	lock.Lock()
	defer lock.Unlock()
	var err error
	if p, open := m.Get(id); open {
		leave(p)
		if err = p.close(); err != nil {
			m.o.Logger.Warn("closing a partition that is deleted", "partition", id.String(), "error", err)
		}
	}
	return m.removeDir(id.String())
}

// Stored lists the replicas that have a directory here, open or not. A caller that knows which partitions exist finds by it
// those whose deletion it missed.
func (m *Manager) Stored() ([]replication.PartitionID, error) {
	names, err := m.o.FS.List(m.root())
	if err != nil {
		return nil, err
	}
	var ids []replication.PartitionID
	for _, name := range names {
		if id, ok := parseName(name); ok {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// Close ends all partitions and makes what they know durable, so that the next start reads nothing again. It waits for
// appends that are under way, as long as their groups answer. Nothing calls it off: while a partition writes, the directory is in use.
func (m *Manager) Close() error {
	m.mu.Lock()
	closed := m.mu.closed
	m.mu.closed = true
	m.mu.Unlock()
	if closed {
		return nil
	}
	m.cancel()
	var g errgroup.Group
	g.SetLimit(closeParallel)
	for _, p := range m.All() {
		g.Go(p.close)
	}
	err := g.Wait()
	m.tasks.Wait()
	m.changes.stop()
	if m.patrol != nil {
		m.patrol.Close()
		m.herald.Close()
	}
	return errors.Join(err, m.votes.Close())
}

// sweep removes what an interrupted deletion left.
func (m *Manager) sweep() error {
	names, err := m.o.FS.List(m.root())
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, deletedSuffix) {
			if err := m.finishRemoval(strings.TrimSuffix(name, deletedSuffix)); err != nil {
				return err
			}
		}
	}
	return nil
}

// voteGroup is the name under which a replica's votes are kept. Another incarnation knows nothing of them.
func voteGroup(name string, i replication.Incarnation) string { return fmt.Sprintf("%s.%d", name, i) }

// removeDir deletes a replica's directory.
//
// Steps: rename to .deleted, fsync of the parent; forget its votes; remove the directory; fsync of the parent. Commit point:
// the rename. Recovery: sweep goes on with the second step.
func (m *Manager) removeDir(name string) error {
	dir := path.Join(m.root(), name)
	// What an interrupted removal left would be in the way.
	if err := m.o.FS.RemoveAll(dir + deletedSuffix); err != nil {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	if err := m.o.FS.Rename(dir, dir+deletedSuffix); err != nil && !isNotExist(err) {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	if err := m.o.FS.SyncDir(m.root()); err != nil {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	return m.finishRemoval(name)
}

func (m *Manager) finishRemoval(name string) error {
	for _, g := range m.votes.Groups() {
		if strings.HasPrefix(g, name+".") {
			if err := m.votes.Drop(g); err != nil {
				return err
			}
		}
	}
	if err := m.o.FS.RemoveAll(path.Join(m.root(), name) + deletedSuffix); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return m.o.FS.SyncDir(m.root())
}

// isFatal tells the errors that end the process from those that take one partition offline.
func isFatal(err error) bool {
	return errors.Is(err, log.ErrFailed) || errors.Is(err, raftlog.ErrVotesFailed)
}

// isDamage tells errors that say that a replica's files are not what they must be.
func isDamage(err error) bool {
	return slices.ContainsFunc([]error{log.ErrCorrupt, log.ErrDataLoss, log.ErrFormat, raftgroup.ErrLostLog, raftgroup.ErrLostVotes, errMeta}, func(target error) bool {
		return errors.Is(err, target)
	})
}
