package partition

import (
	"context"
	"errors"
	"math"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/replication"
)

// maintainWait bounds how long retention waits for its entry in one partition.
const maintainWait = 5 * time.Second

// Maintain does one pass over all partitions: seal segments that have come of age, advance log starts by retention where
// this replica leads, remove segments below them, checkpoint; and looks after the free space. It is called from one goroutine.
func (m *Manager) Maintain(ctx context.Context) {
	m.space.look(m)
	m.space.keepBallast(m)
	for _, p := range m.All() {
		if ctx.Err() != nil {
			return
		}
		if p.offlineErr() != nil || p.group == nil {
			continue
		}
		if err := (upkeep{p}).maintain(ctx); err != nil && !p.maintenanceFailed(err) {
			p.logger.Warn("maintenance", "error", err)
		}
	}
	m.space.look(m)
}

// maintenanceFailed sorts errors; false for those that are worth a line in the log and nothing else.
func (p *Partition) maintenanceFailed(err error) bool {
	switch {
	case errors.Is(err, log.ErrClosed), errors.Is(err, context.Canceled), errors.Is(err, replication.ErrNotLeader):
		return true
	case isFatal(err), isDamage(err):
		p.damaged(err)
		return true
	}
	return false
}

// upkeep is what is done with a partition now and then.
type upkeep struct{ *Partition }

func (p upkeep) maintain(ctx context.Context) error {
	if _, err := p.log.Roll(p.m.o.Now()); err != nil {
		return err
	}
	cfg := p.config.Load()
	if p.Leading() && cfg.CleanupPolicy&replication.CleanupDelete != 0 {
		if err := p.retain(ctx, cfg); err != nil {
			return err
		}
	}
	if _, err := p.log.DropSegments(); err != nil {
		return err
	}
	return p.log.Checkpoint(math.MaxUint64) // of what is applied, which is committed; it moves on while we look
}

// retain advances the log start past what may go.
func (p upkeep) retain(ctx context.Context, cfg *replication.TopicConfig) error {
	start, ok := p.log.RetentionStart(p.m.o.Now(), cfg.RetentionTime, cfg.RetentionBytes)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, maintainWait)
	defer cancel()
	return p.propose(ctx, log.InternalFrame(log.KindLogStart, log.EncodeLogStart(start)))
}

// space watches the free space of the data directory. Between two looks, what is appended is counted.
type space struct {
	isFull  atomic.Bool
	unseen  atomic.Int64
	ballast sync.Mutex // held over I/O
}

// lookEvery is how many appended bytes may go by unseen.
const lookEvery = 16 << 20

func (s *space) full() bool { return s.isFull.Load() }

// spend counts bytes that are about to be appended, and looks again after enough of them.
func (s *space) spend(m *Manager, n int64) {
	if s.unseen.Add(n) >= lookEvery {
		s.look(m)
	}
}

// roomAgain is how much more than the soft limit must be free, as a fraction of it, before batches are taken again. Without it a
// disk that is at the limit would give its leaderships away and take them back every few seconds.
const roomAgain = 4

// look compares the free space with the soft limit.
func (s *space) look(m *Manager) {
	s.unseen.Store(0)
	free, total, err := m.o.FS.Free(m.root())
	if err != nil {
		m.o.Logger.Warn("free space is not known", "error", err)
		return
	}
	limit := m.softFree(total)
	if s.isFull.Load() {
		limit += limit / roomAgain
	}
	full := free < limit
	if s.isFull.Swap(full) != full {
		if full {
			m.o.Logger.Error("disk is full: batches are refused", "free", free, "limit", limit)
		} else {
			m.o.Logger.Info("disk has room again", "free", free)
		}
	}
}

// CheckSpace compares the free space of the disk with the soft limit. Appends do so themselves every 16 MiB; what others
// write or free is seen only here, so it is to be called every few seconds.
func (m *Manager) CheckSpace() {
	m.space.look(m)
	m.space.keepBallast(m)
}

// Full tells that this node's disk is nearly full, so that it takes no batches.
func (m *Manager) Full() bool { return m.space.full() }

func (m *Manager) softFree(total uint64) uint64 {
	switch {
	case m.o.SoftFree < 0:
		return 0
	case m.o.SoftFree > 0:
		return uint64(m.o.SoftFree)
	}
	return min(max(total/50, leastSoftFree), mostSoftFree)
}

// ballastChunk is how much of the ballast is written at a time.
const ballastChunk = 1 << 20

// keepBallast makes the ballast where there is ample room, and gives it up where there is next to none.
func (s *space) keepBallast(m *Manager) {
	size := m.o.BallastBytes
	if size < 0 {
		return
	}
	s.ballast.Lock()
	defer s.ballast.Unlock()
	name := path.Join(m.o.DataDir, "ballast")
	free, total, err := m.o.FS.Free(m.root())
	if err != nil {
		return
	}
	_, err = m.o.FS.Stat(name)
	switch {
	case err == nil && free < m.softFree(total)/8:
		m.o.Logger.Error("disk is full: the ballast is thrown off", "free", free)
		err = m.o.FS.Remove(name)
	case isNotExist(err) && free > m.softFree(total)+2*uint64(size):
		err = writeBallast(m, name, size)
	default:
		return
	}
	if err != nil {
		m.o.Logger.Warn("ballast", "error", err)
	}
}

func writeBallast(m *Manager, name string, size int64) error {
	f, err := m.o.FS.Create(name)
	if err != nil {
		return err
	}
	zeros := make([]byte, ballastChunk)
	for at := int64(0); at < size && err == nil; at += ballastChunk {
		_, err = f.WriteAt(zeros[:min(ballastChunk, size-at)], at)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, m.o.FS.Remove(name))
	}
	return m.o.FS.SyncDir(m.o.DataDir)
}
