package fetch

import (
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// Fetch sessions, KIP-227, with the semantics of Kafka's FetchSession. A session holds the partitions that a client
// fetches, so that later requests name only what changed and answers hold only what is new. Each request of a session
// carries the session's epoch, which counts requests: an answer that was lost shows as a wrong epoch, and the client
// starts over with a full request.

const (
	// staleAfter is how long a session must be unused, or must have lived, before a session of any size, or a larger
	// one, may take its place.
	staleAfter = 2 * time.Minute
	// maxCachedPartitions bounds the memory of all sessions together: about 150 bytes for each partition.
	maxCachedPartitions = 1 << 20
)

// cache holds the sessions.
type cache struct {
	slots int

	mu struct {
		sync.Mutex
		sessions   map[int32]*session
		partitions int // sum of size over sessions
	}
}

func newCache(slots int) *cache {
	c := &cache{slots: slots}
	c.mu.sessions = make(map[int32]*session)
	return c
}

// session is one client's view of the partitions that it fetches.
type session struct {
	id      int32
	owner   broker.Principal // nobody else may go on with it, or end it: it names topics
	byID    bool             // partitions are named by topic id
	created time.Time

	// Guarded by cache.mu.
	used time.Time
	size int

	mu struct {
		sync.Mutex
		epoch int32 // of the request that comes next
		// order holds the entries in the order in which they are read. An entry that had something to tell goes to the
		// end, so that a busy partition can't starve the others when an answer is full.
		order []*entry
		index map[Key]*entry
	}
}

// entry is one partition of a session.
type entry struct {
	params Params
	// What the client was told last; -1 for nothing, or for an error, after which everything is told again.
	highWatermark batch.Offset
	logStart      batch.Offset
	forgotten     bool
	told          bool // scratch of settle
}

// key reduces a partition's name to what identifies it in this kind of session.
func (k Key) in(byID bool) Key {
	if byID {
		return Key{TopicID: k.TopicID, Partition: k.Partition}
	}
	return Key{Topic: k.Topic, Partition: k.Partition}
}

func nextEpoch(e int32) int32 {
	switch {
	case e < 0:
		return FinalEpoch
	case e == math.MaxInt32:
		return 1
	}
	return e + 1
}

// visit is one request's way through the sessions: begin decides which partitions to read, settle what to answer.
type visit struct {
	kind    visitKind
	session *session // of an incremental visit
	epoch   int32    // that the session has until the next request comes
	entries []*entry // of an incremental visit, parallel to the partitions
}

type visitKind uint8

const (
	sessionless visitKind = iota
	full                  // makes a session once the answer is known
	incremental
)

// begin finds or closes the session of a request. The second result is what to read.
func (c *cache) begin(r *Request, now time.Time) (visit, []Params, error) {
	if r.SessionEpoch == InitialEpoch || r.SessionEpoch == FinalEpoch {
		if r.SessionID != 0 {
			c.remove(r.SessionID, r.Caller.Principal)
		}
		if r.SessionEpoch == FinalEpoch {
			return visit{kind: sessionless}, r.Partitions, nil
		}
		return visit{kind: full}, r.Partitions, nil
	}
	return c.resume(r, now)
}

func (c *cache) resume(r *Request, now time.Time) (visit, []Params, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.mu.sessions[r.SessionID]
	if s == nil || s.owner != r.Caller.Principal {
		return visit{}, nil, broker.ErrFetchSessionNotFound
	}
	if s.byID != r.UsesTopicIDs {
		return visit{}, nil, ErrSessionTopicID
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.epoch != r.SessionEpoch {
		return visit{}, nil, broker.ErrInvalidFetchSessionEpoch
	}
	s.updateLocked(r)
	grown := len(s.mu.order) - s.size
	if len(s.mu.order) == 0 || c.mu.partitions+grown > maxCachedPartitions {
		c.removeLocked(s)
		if len(s.mu.order) == 0 {
			return visit{kind: sessionless}, r.Partitions, nil
		}
		return visit{}, nil, broker.ErrFetchSessionNotFound
	}
	c.mu.partitions += grown
	s.size = len(s.mu.order)
	s.used = now
	s.mu.epoch = nextEpoch(s.mu.epoch)
	v := visit{kind: incremental, session: s, epoch: s.mu.epoch, entries: append([]*entry(nil), s.mu.order...)}
	params := make([]Params, len(v.entries))
	for i, e := range v.entries {
		params[i] = e.params
	}
	return v, params, nil
}

// updateLocked takes the changes that a request brings into the session.
func (s *session) updateLocked(r *Request) {
	for i := range r.Partitions {
		p := &r.Partitions[i]
		if e := s.mu.index[p.Key.in(s.byID)]; e != nil {
			key := e.params.Key
			e.params = *p
			e.params.Key = key
			continue
		}
		s.addLocked(p, -1, -1)
	}
	dropped := false
	for _, k := range r.Forgotten {
		k = k.in(s.byID)
		if e := s.mu.index[k]; e != nil {
			e.forgotten, dropped = true, true
			delete(s.mu.index, k)
		}
	}
	if !dropped {
		return
	}
	kept := s.mu.order[:0]
	for _, e := range s.mu.order {
		if !e.forgotten {
			kept = append(kept, e)
		}
	}
	clear(s.mu.order[len(kept):])
	s.mu.order = kept
}

func (s *session) addLocked(p *Params, highWatermark, logStart batch.Offset) {
	key := p.Key.in(s.byID)
	if _, twice := s.mu.index[key]; twice {
		return
	}
	e := &entry{params: *p, highWatermark: highWatermark, logStart: logStart}
	// The name may be part of a request's buffer, and must not keep all of it alive.
	e.params.Topic = strings.Clone(e.params.Topic)
	key.Topic = strings.Clone(key.Topic)
	s.mu.order = append(s.mu.order, e)
	s.mu.index[key] = e
}

// settle turns what was read into the answer: it makes the session of a full request, and takes what the client knows
// already out of an incremental answer. params and results are parallel.
func (c *cache) settle(v visit, r *Request, params []Params, results []Result, now time.Time) (int32, []Result, error) {
	switch v.kind {
	case full:
		return c.create(r, params, results, now), results, nil
	case incremental:
		kept, err := v.session.settle(v, results)
		if err != nil {
			return 0, nil, err
		}
		return v.session.id, kept, nil
	default:
		return 0, results, nil
	}
}

// settle drops the results that tell nothing new. A session whose epoch moved on meanwhile serves another request of
// the same client already: this one was given up.
func (s *session) settle(v visit, results []Result) ([]Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.epoch != v.epoch {
		return nil, broker.ErrInvalidFetchSessionEpoch
	}
	kept := results[:0]
	for i := range results {
		e, r := v.entries[i], &results[i]
		if e.told = e.tell(r); e.told {
			kept = append(kept, *r)
		}
	}
	if len(kept) > 0 {
		s.rotateLocked()
	}
	return kept, nil
}

// rotateLocked moves the entries that were told of behind the others.
func (s *session) rotateLocked() {
	order := make([]*entry, 0, len(s.mu.order))
	for _, e := range s.mu.order {
		if !e.told {
			order = append(order, e)
		}
	}
	for _, e := range s.mu.order {
		if e.told {
			order = append(order, e)
			e.told = false
		}
	}
	s.mu.order = order
}

// tell reports whether a result holds anything that the client does not know, and notes that it now does.
func (e *entry) tell(r *Result) bool {
	news := r.Size() > 0 || r.Diverging != nil || r.Preferred != replication.NoNode
	if e.highWatermark != r.HighWatermark {
		e.highWatermark, news = r.HighWatermark, true
	}
	if e.logStart != r.LogStart {
		e.logStart, news = r.LogStart, true
	}
	if r.Err != nil {
		e.highWatermark, news = -1, true
	}
	return news
}

// create makes a session, if there is room for it, and returns its id, else 0.
func (c *cache) create(r *Request, params []Params, results []Result, now time.Time) int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.partitions+len(params) > maxCachedPartitions {
		return 0
	}
	if len(c.mu.sessions) >= c.slots && !c.evictLocked(len(params), now) {
		return 0
	}
	s := &session{id: c.freeIDLocked(), owner: r.Caller.Principal, byID: r.UsesTopicIDs, created: now, used: now}
	s.mu.epoch = nextEpoch(InitialEpoch)
	s.mu.order = make([]*entry, 0, len(params))
	s.mu.index = make(map[Key]*entry, len(params))
	for i := range params {
		hw := results[i].HighWatermark
		if results[i].Err != nil {
			hw = -1
		}
		s.addLocked(&params[i], hw, results[i].LogStart)
	}
	s.size = len(s.mu.order)
	c.mu.sessions[s.id] = s
	c.mu.partitions += s.size
	return s.id
}

func (c *cache) freeIDLocked() int32 {
	for {
		id := rand.Int32()
		if _, taken := c.mu.sessions[id]; id != 0 && !taken {
			return id
		}
	}
}

// evictLocked makes room for a session of the given size: the one unused for longest if it is stale, else the smallest
// of those that have lived for a while, if it is smaller. It looks at every session, which a full cache of a thousand
// makes a matter of microseconds.
func (c *cache) evictLocked(size int, now time.Time) bool {
	var oldest, smallest *session
	for _, s := range c.mu.sessions {
		if oldest == nil || s.used.Before(oldest.used) {
			oldest = s
		}
		if now.Sub(s.created) > staleAfter && (smallest == nil || s.size < smallest.size) {
			smallest = s
		}
	}
	switch {
	case oldest != nil && now.Sub(oldest.used) > staleAfter:
		c.removeLocked(oldest)
	case smallest != nil && smallest.size < size:
		c.removeLocked(smallest)
	default:
		return false
	}
	return true
}

func (c *cache) remove(id int32, by broker.Principal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.mu.sessions[id]; s != nil && s.owner == by {
		c.removeLocked(s)
	}
}

func (c *cache) removeLocked(s *session) {
	delete(c.mu.sessions, s.id)
	c.mu.partitions -= s.size
}
