package share

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/quorlog/quorlog/replication"
)

// Options make a Service.
type Options struct {
	Logs  Logs  // needed
	Store Store // needed
	// Settings is the configuration of a group; needed. It is asked for at every request and must not block.
	Settings func(group string) GroupSettings
	Sessions int // group.share.max.share.sessions; 0 stands for DefaultSessions
	MaxBytes int // fetch.max.bytes; 0 stands for DefaultMaxBytes
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// ErrOptions means that Options lack something.
var ErrOptions = errors.New("share: Logs, Store and Settings are needed")

// Service answers ShareFetch and ShareAcknowledge for the partitions that this node leads. It may be used by any number of
// goroutines.
type Service struct {
	o        Options
	most     int // maxTracked, but for tests
	sessions *sessions
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	// life may be locked under mu and under tracked.mu.
	life struct {
		sync.Mutex
		closed  bool
		running sync.WaitGroup
	}

	mu struct {
		sync.Mutex
		tracked map[Key]*tracked // maxTracked at most
		shed    time.Time        // when room was last made
	}
}

// New returns a Service.
func New(o Options) (*Service, error) {
	if o.Logs == nil || o.Store == nil || o.Settings == nil {
		return nil, ErrOptions
	}
	if o.Sessions <= 0 {
		o.Sessions = DefaultSessions
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Service{o: o, most: maxTracked}
	s.sessions = newSessions(o.Sessions, s.disconnected)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.mu.tracked = map[Key]*tracked{}
	return s, nil
}

// Close waits for the writes under way, which it cuts short.
func (s *Service) Close() {
	s.life.Lock()
	s.life.closed = true
	s.life.Unlock()
	s.cancel()
	s.life.running.Wait()
}

func (s *Service) now() time.Time { return s.o.Now() }

// start runs fn as a goroutine that Close waits for; false after Close.
func (s *Service) start(fn func()) bool {
	s.life.Lock()
	defer s.life.Unlock()
	if !s.life.closed {
		s.life.running.Go(fn)
	}
	return !s.life.closed
}

// find returns the share-partition of a partition that this node leads. It may not be loaded yet.
func (s *Service) find(k Key) (*tracked, error) {
	l, err := s.o.Logs.Find(TopicPartition{k.Topic, k.Partition})
	if err != nil {
		return nil, err
	}
	if !l.Leading() {
		return nil, replication.ErrNotLeader
	}
	leader := l.Leader()
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.mu.tracked[k]; t != nil {
		if t.fresh() {
			return t, nil
		}
		delete(s.mu.tracked, k)
	}
	if len(s.mu.tracked) >= s.most && !s.shedLocked() {
		return nil, replication.ErrOverloaded
	}
	t := &tracked{service: s, key: k, epoch: leader.Epoch, log: l}
	if !s.start(t.run) {
		return nil, replication.ErrNotLeader
	}
	s.mu.tracked[k] = t
	return t, nil
}

// shedLocked makes room, if it can: what is idle is read again when somebody wants it, and what another node leads is of no use. It
// looks at all, so it does that once a second at most.
func (s *Service) shedLocked() bool {
	now := s.now()
	if now.Sub(s.mu.shed) < time.Second {
		return false
	}
	s.mu.shed = now
	for k, t := range s.mu.tracked {
		if !t.fresh() || t.dropIfIdle() {
			delete(s.mu.tracked, k)
		}
	}
	return len(s.mu.tracked) < s.most
}

// left forgets a group whose last session on this node has ended.
func (s *Service) left(group string) {
	if !s.sessions.has(group) {
		s.forget(group)
	}
}

// forget drops what is idle of a group that has no session here, so that it is read anew when the group is back: somebody may
// have set its offsets meanwhile.
func (s *Service) forget(group string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, t := range s.mu.tracked {
		if k.Group == group && t.dropIfIdle() {
			delete(s.mu.tracked, k)
		}
	}
}

// attempts bounds how often a request looks up a share-partition that is being dropped.
const attempts = 3

// use calls fn with a share-partition; see tracked.use. One that was dropped in between is looked up again. errLoading: it is not
// there yet.
func (s *Service) use(k Key, fn func(*tracked, *Partition) error) (stored func(context.Context) error, err error) {
	for range attempts {
		var t *tracked
		if t, err = s.find(k); err != nil {
			return nil, err
		}
		stored, err = t.use(func(p *Partition) error { return fn(t, p) })
		if !errors.Is(err, errReload) {
			break
		}
	}
	return stored, told(err)
}
