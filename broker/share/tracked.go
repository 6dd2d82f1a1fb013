package share

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// storePatience bounds a read or a write of durable state. After it a share-partition begins anew from what is stored.
const storePatience = 15 * time.Second

// errReload ends a share-partition that has to begin anew. Whoever meets it looks the share-partition up again.
var errReload = errors.New("the share-partition is read again")

// errLoading tells that the state is being read. Who watches is woken at the end of that.
var errLoading = errors.New("the share-partition is being loaded")

// tracked is a share-partition in one leadership of its partition.
//
// Durable operation "change a share-partition":
//
//	steps         the Partition changes, write takes its Durable and stores it under the next version; what changed meanwhile
//	              follows with the next write
//	commit point  the keeper has answered the write
//	recovery      after any failed write the share-partition is dropped, and the next request reads what is stored
type tracked struct {
	service *Service
	key     Key
	epoch   batch.Epoch
	log     Log

	mu struct {
		sync.Mutex
		p          *Partition // nil: it is being loaded
		dead       error      // no more to be used
		told       bool       // whoever waited knows that it is dead: another one may take its place
		stored     uint64
		version    int32 // of the durable state
		stateEpoch int32
		writing    bool
		changed    chan struct{} // closed at the end of each write
		watchers   map[chan<- struct{}]int
	}
}

// run loads the state. It is a goroutine of its own, ended by the store's answer or Service.Close.
func (t *tracked) run() {
	ctx, cancel := context.WithTimeout(t.service.ctx, storePatience)
	defer cancel()
	p, d, err := t.load(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.mu.told = len(t.mu.watchers) == 0
		t.endLocked(err)
		return
	}
	t.mu.p, t.mu.version, t.mu.stateEpoch = p, d.Version, d.StateEpoch
	t.wakeLocked()
}

func (t *tracked) load(ctx context.Context) (*Partition, *Durable, error) {
	if _, err := t.log.Offsets(t.epoch); err != nil {
		return nil, nil, err // another node leads by now: it must not be fenced
	}
	d, err := t.service.o.Store.Read(ctx, t.key, t.epoch)
	if err != nil {
		return nil, nil, err
	}
	settings := t.service.o.Settings(t.key.Group)
	if d.Start < 0 {
		// Where the group begins is stored at once: if it began at the end, what comes from now on is its.
		next := *d
		if next.Start, err = t.begin(settings.Reset); err != nil {
			return nil, nil, err
		}
		next.Version++
		if err := t.service.o.Store.Write(ctx, t.key, t.epoch, &next); err != nil {
			return nil, nil, err
		}
		d = &next
	}
	return NewPartition(d, settings.Settings), d, nil
}

// begin is where a group begins that was never here.
func (t *tracked) begin(r Reset) (batch.Offset, error) {
	o, err := t.log.Offsets(t.epoch)
	switch {
	case err != nil:
		return 0, err
	case r.Earliest:
		return o.LogStart, nil
	case r.Age > 0:
		at, err := t.log.OffsetForTimestamp(t.service.now().Add(-r.Age), t.epoch)
		if err != nil || at >= 0 {
			return at, err
		}
	}
	return o.HighWatermark, nil
}

// use calls fn with the share-partition; errLoading if it is not there yet. fn's changes are stored; stored waits for that.
func (t *tracked) use(fn func(*Partition) error) (stored func(context.Context) error, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.mu.dead != nil:
		t.mu.told = true
		return nil, t.mu.dead
	case t.mu.p == nil:
		return nil, errLoading
	}
	p := t.mu.p
	before, hadRoom := p.Next()
	err = fn(p)
	if now, hasRoom := p.Next(); now < before || hasRoom && !hadRoom {
		t.wakeLocked() // something became available
	}
	version := p.Version()
	if version != t.mu.stored && !t.mu.writing {
		t.mu.writing = true
		t.mu.changed = make(chan struct{})
		if !t.service.start(t.write) {
			return nil, replication.ErrNotLeader
		}
	}
	return func(ctx context.Context) error { return t.await(ctx, version) }, err
}

// await waits until a version of the Partition is stored.
func (t *tracked) await(ctx context.Context, version uint64) error {
	for {
		t.mu.Lock()
		done, dead, changed := t.mu.stored >= version, t.mu.dead, t.mu.changed
		t.mu.Unlock()
		switch {
		case done:
			return nil
		case dead != nil:
			return dead
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// write stores what changed until nothing has. It is a goroutine of its own.
func (t *tracked) write() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.mu.dead == nil && t.mu.stored != t.mu.p.Version() {
		version, d := t.mu.p.Version(), t.mu.p.Durable()
		d.Version, d.StateEpoch = t.mu.version+1, t.mu.stateEpoch
		err := t.storeUnlocked(d)
		if err != nil {
			t.endLocked(fmt.Errorf("%w: %w", errReload, err))
			break
		}
		t.mu.version, t.mu.stored = d.Version, version
		close(t.mu.changed)
		t.mu.changed = make(chan struct{})
	}
	t.mu.writing = false
	close(t.mu.changed)
}

// storeUnlocked gives the lock up while it writes.
func (t *tracked) storeUnlocked(d *Durable) error {
	t.mu.Unlock()
	defer t.mu.Lock()
	ctx, cancel := context.WithTimeout(t.service.ctx, storePatience)
	defer cancel()
	return t.service.o.Store.Write(ctx, t.key, t.epoch, d)
}

// endLocked makes the share-partition unusable.
func (t *tracked) endLocked(err error) {
	if t.mu.dead == nil {
		t.mu.dead = err
		t.wakeLocked()
	}
}

// dropIfIdle ends the share-partition unless somebody has acquired records, or it is being read or written.
func (t *tracked) dropIfIdle() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.dead == nil && (t.mu.p == nil || t.mu.writing || t.mu.p.HasAcquired()) {
		return false
	}
	t.endLocked(errReload)
	return true
}

// fresh reports whether the share-partition may still be used, or somebody has yet to be told why not.
func (t *tracked) fresh() bool {
	t.mu.Lock()
	dead := t.mu.dead != nil && t.mu.told
	t.mu.Unlock()
	l := t.log.Leader()
	return !dead && t.log.Leading() && l.Epoch == t.epoch
}

// watch sends on w, without blocking, when the share-partition is loaded, and whenever records become available again.
func (t *tracked) watch(w chan<- struct{}) (cancel func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.watchers == nil {
		t.mu.watchers = map[chan<- struct{}]int{}
	}
	t.mu.watchers[w]++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.mu.watchers[w]--; t.mu.watchers[w] == 0 {
			delete(t.mu.watchers, w)
		}
	}
}

func (t *tracked) wakeLocked() {
	for w := range t.mu.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// told is what a client is told of an error: what only means "begin anew" is a leader that is not there yet.
func told(err error) error {
	for _, anew := range []error{errReload, ErrFencedStateEpoch, replication.ErrFencedLeaderEpoch, replication.ErrUnknownLeaderEpoch} {
		if errors.Is(err, anew) {
			return fmt.Errorf("%w: %s", replication.ErrNotLeader, err.Error())
		}
	}
	return err
}
