package share

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
)

// Fetch answers a ShareFetch: it applies the acknowledgements, acquires what is available, and waits for something to acquire
// as long as the client wants. The acknowledgements are durable when it returns. ctx is the connection's: a session that begins
// with the request ends with it. An error means that ctx has ended; then there is nothing to release.
func (s *Service) Fetch(ctx context.Context, r *FetchRequest) (*FetchResponse, error) {
	out := &FetchResponse{Lock: s.o.Settings(r.Group).LockDuration}
	if out.Err = checkFetch(r); out.Err != nil {
		return out, nil
	}
	v, err := s.begin(ctx, &r.Member, r.Partitions, r.Forgotten, true)
	if err != nil {
		out.Err = err
		return out, ctx.Err()
	}
	f := &fetching{service: s, request: r, settings: s.o.Settings(r.Group), at: map[TopicPartition]int{}}
	acks := s.acknowledge(&r.Member, r.Partitions, r.Denied)
	if v.ended {
		s.release(r.Group, r.ID, v.partitions)
	} else if !r.Renew {
		f.poll(ctx, &v)
	}
	for _, a := range acks {
		f.result(a.TopicPartition).AckErr = a.wait(ctx)
	}
	for _, tp := range v.fresh {
		f.result(tp)
	}
	if v.ended {
		s.left(r.Group)
	}
	err = ctx.Err()
	if !v.ended && (err != nil || ended(v.over)) {
		f.giveBack()
	}
	out.Results = f.results
	return out, err
}

func ended(over <-chan struct{}) bool {
	select {
	case <-over:
		return true
	default:
		return false
	}
}

func checkFetch(r *FetchRequest) error {
	for i := range r.Partitions {
		acks := r.Partitions[i].Acks
		if len(acks) > 0 && r.Epoch == NewSession || len(acks) == 0 && r.Renew {
			return replication.ErrInvalidRequest // nothing can be acquired yet; or a fetch beside a renewal
		}
		if err := CheckAcks(acks, r.Renew); err != nil {
			return err
		}
	}
	return nil
}

// begin opens the session of a request, and releases what the member held in the one before it.
func (s *Service) begin(ctx context.Context, m *Member, add []Wanted, forget []TopicPartition, fetch bool) (visit, error) {
	v, err := s.sessions.open(ctx, m, add, forget, fetch)
	s.release(m.Group, m.ID, v.replaced)
	if v.first {
		s.forget(m.Group)
	}
	return v, err
}

// release gives back what a member holds.
func (s *Service) release(group, id string, partitions []TopicPartition) {
	for _, tp := range partitions {
		s.takeBack(Key{group, tp.Topic, tp.Partition}, func(p *Partition) { p.ReleaseMember(id) })
	}
}

// takeBack calls fn with a share-partition in which somebody may hold records. In one that is not loaded nobody does.
func (s *Service) takeBack(k Key, fn func(*Partition)) {
	s.mu.Lock()
	t := s.mu.tracked[k]
	s.mu.Unlock()
	if t != nil {
		// An error means that nothing is held here.
		_, _ = t.use(func(p *Partition) error { fn(p); return nil })
	}
}

// disconnected ends a session whose connection has gone: nobody will acknowledge what its member holds.
func (s *Service) disconnected(who member, x *session) {
	s.start(func() {
		s.release(who.group, who.id, s.sessions.drop(who, x))
		s.left(who.group)
	})
}

// fetching is one ShareFetch.
type fetching struct {
	service  *Service
	request  *FetchRequest
	settings GroupSettings
	results  []FetchResult
	at       map[TopicPartition]int // index of results
	records  int
	bytes    int
	urgent   bool // there is an error to tell
	denied   int  // of the last look's partitions
}

func (f *fetching) result(tp TopicPartition) *FetchResult {
	i, ok := f.at[tp]
	if !ok {
		i = len(f.results)
		f.at[tp] = i
		f.results = append(f.results, FetchResult{TopicPartition: tp, Leader: replication.NoLeader})
	}
	return &f.results[i]
}

// loadGrace is how long beyond its wait a ShareFetch that has nothing to tell waits for share-partitions that are being loaded.
// Clients give an answer up when it is five seconds late.
const loadGrace = 2 * time.Second

// poll acquires until there is something to tell, or the session has ended. It is the only place where a ShareFetch waits for
// records. What is being loaded is waited for like records: it never holds up what is there.
func (f *fetching) poll(ctx context.Context, v *visit) {
	wake := make(chan struct{}, 1)
	cancel := func() {}
	defer func() { cancel() }()
	expired, patience := time.NewTimer(f.request.MaxWait), time.NewTimer(f.request.MaxWait+loadGrace)
	defer expired.Stop()
	defer patience.Stop()
	locks := time.NewTimer(time.Hour)
	defer locks.Stop()
	for late := f.request.MaxWait <= 0; ; {
		// Before the look, or what happens behind it is missed; each time, because share-partitions are loaded anew.
		cancel()
		cancel = f.watch(v.partitions, wake)
		next, loading := f.look(v.partitions)
		if f.records > 0 || f.urgent || f.denied == len(v.partitions) || late && !loading {
			return
		}
		locks.Reset(next)
		select {
		case <-wake:
		case <-locks.C:
		case <-expired.C:
			late = true
		case <-patience.C:
			return
		case <-v.over:
			return
		case <-ctx.Done():
			return
		}
	}
}

// look acquires what there is. It returns how long the locks of others last at least, and whether a share-partition is being loaded.
func (f *fetching) look(partitions []TopicPartition) (next time.Duration, loading bool) {
	next, f.denied = time.Hour, 0
	for _, tp := range partitions {
		deadline, unready := f.acquire(tp)
		if loading = loading || unready; !deadline.IsZero() {
			next = min(next, max(deadline.Sub(f.service.now()), time.Millisecond))
		}
	}
	return next, loading
}

// giveBack returns what was acquired for a member that will not be told, or whose session has ended meanwhile: else it would be
// locked for nobody, and count as delivered.
func (f *fetching) giveBack() {
	for i := range f.results {
		res := &f.results[i]
		if len(res.Acquired) == 0 {
			continue
		}
		f.service.takeBack(f.key(res.TopicPartition), func(p *Partition) { p.Return(res.Acquired) })
		res.Acquired = nil
		res.release()
	}
}

// watch wakes the fetch whenever a partition moves or records are released.
func (f *fetching) watch(partitions []TopicPartition, wake chan<- struct{}) (cancel func()) {
	var cancels []func()
	for _, tp := range partitions {
		if t, err := f.service.find(f.key(tp)); err == nil {
			cancels = append(cancels, t.log.Watch(wake), t.watch(wake))
		}
	}
	return func() {
		for _, cancel := range cancels {
			cancel()
		}
	}
}

func (f *fetching) key(tp TopicPartition) Key { return Key{f.request.Group, tp.Topic, tp.Partition} }

// rereads bounds how often a fetch reads again what another one has acquired in between.
const rereads = 4

// acquire looks at one partition. It returns when the next lock there ends, or that the share-partition is being loaded.
func (f *fetching) acquire(tp TopicPartition) (deadline time.Time, loading bool) {
	if f.request.Denied != nil && f.request.Denied(tp.Topic) {
		// No reason for haste: a client that asks for it beside others, and goes on to, would never wait.
		f.result(tp).Err = broker.ErrTopicDenied
		f.denied++
		return time.Time{}, false
	}
	for range rereads {
		if f.records >= f.request.MaxRecords || f.bytes >= f.limit() {
			return time.Time{}, false
		}
		again, deadline, err := f.acquireOnce(tp)
		switch {
		case errors.Is(err, errLoading):
			return time.Time{}, true
		case err != nil:
			f.fail(tp, err)
			return time.Time{}, false
		case !again:
			return deadline, false
		}
	}
	return f.service.now(), false
}

func (f *fetching) limit() int { return min(f.request.MaxBytes, f.service.o.MaxBytes) }

func (f *fetching) fail(tp TopicPartition, err error) {
	res := f.result(tp)
	if res.Err = awaited(told(err)); errors.Is(res.Err, replication.ErrNotLeader) {
		res.Leader = f.service.o.Logs.LeaderOf(tp)
	}
	f.urgent = true
}

// awaited puts what will be over into a word that Kafka's consumer knows of a share-partition. It knows few, and ends at any other.
func awaited(err error) error {
	for _, later := range []error{replication.ErrOverloaded, broker.ErrCoordinatorNotAvailable, broker.ErrCoordinatorLoading, broker.ErrNotCoordinator} {
		if errors.Is(err, later) {
			return fmt.Errorf("%w: %s", replication.ErrOffsetNotAvailable, err.Error())
		}
	}
	return err
}

// acquireOnce reads where there is something available, and acquires it. again tells that it read in vain, because somebody
// else was faster or nothing there is for consumers.
func (f *fetching) acquireOnce(tp TopicPartition) (again bool, deadline time.Time, err error) {
	var from batch.Offset
	var room bool
	var at *tracked
	_, err = f.service.use(f.key(tp), func(t *tracked, p *Partition) error {
		o, err := t.log.Offsets(t.epoch)
		if err != nil {
			return err
		}
		p.Configure(f.settings.Settings)
		p.Trim(o.LogStart)
		p.Expire(f.service.now())
		from, room = p.Next()
		room = room && from < visible(o, f.settings.ReadCommitted)
		at, deadline = t, p.Deadline()
		return nil
	})
	if err != nil || !room {
		return false, deadline, err
	}
	chunk, err := at.log.Read(from, f.limit()-f.bytes, f.settings.ReadCommitted, at.epoch)
	if errors.Is(err, replication.ErrOffsetOutOfRange) {
		return true, deadline, nil // the log start has moved on meanwhile, and is looked at first
	}
	if err != nil || chunk.Records == nil {
		return false, deadline, err
	}
	offered, err := offer(chunk, f.settings.MaxInFlight)
	if err != nil || len(offered) == 0 {
		chunk.Records.Release()
		return false, deadline, err
	}
	var got []Run
	_, err = f.service.use(f.key(tp), func(t *tracked, p *Partition) error {
		if t == at { // else the partition was loaded anew since: what was read is of no use
			want := Want{Member: f.request.ID, Records: f.request.MaxRecords - f.records, Exact: f.request.Exact}
			got = p.Acquire(f.service.now(), from, offered, want)
		}
		deadline = p.Deadline()
		return nil
	})
	if len(got) == 0 {
		chunk.Records.Release()
		return true, deadline, err
	}
	f.add(tp, chunk.Records, offered, got)
	at.log.Served(chunk.Records.Len(), nil)
	return false, deadline, err
}

// visible is the offset below which a group may read.
func visible(o partition.Offsets, readCommitted bool) batch.Offset {
	if readCommitted {
		return o.LastStable
	}
	return o.HighWatermark
}

// offer lists the batches of a chunk: the first, and those that begin within so many offsets of it. Beyond them nothing can be
// acquired, because no more may be in flight.
func offer(c Chunk, inFlight int64) ([]Offered, error) {
	var out []Offered
	err := c.Records.Headers(func(h batch.Header, at int) bool {
		o := Offered{First: h.BaseOffset, Last: h.LastOffset(), Skip: h.IsControl(), at: at, end: at + h.Size()}
		if len(out) > 0 && int64(o.First-out[0].First) > inFlight {
			return false
		}
		for _, a := range c.Aborted {
			o.Skip = o.Skip || h.IsTransactional() && h.ProducerID == a.ProducerID && a.FirstOffset <= o.First && o.Last <= a.LastOffset
		}
		out = append(out, o)
		return true
	})
	if err != nil {
		return nil, errors.Join(replication.ErrCorrupt, err)
	}
	return out, nil
}

// add puts what was acquired into the answer, with the batches that hold it and those between them: clients pass over what they
// have not acquired.
func (f *fetching) add(tp TopicPartition, records Records, offered []Offered, got []Run) {
	first := slices.IndexFunc(offered, func(o Offered) bool { return o.Last >= got[0].First })
	end := len(offered)
	for offered[end-1].First > got[len(got)-1].Last {
		end--
	}
	records.Cut(offered[first].at, offered[end-1].end)
	res := f.result(tp)
	res.release()
	res.Records = records
	f.bytes += records.Len()
	for _, r := range got {
		f.records += int(r.Len())
		res.Acquired = append(res.Acquired, r.split(f.request.BatchSize)...)
	}
}

// split cuts a run into runs of at most so many offsets; 0: no matter.
func (r Run) split(size int) (out []Run) {
	for size > 0 && r.Len() > int64(size) {
		out = append(out, r.slice(r.First, r.First+batch.Offset(size)-1))
		r.First += batch.Offset(size)
	}
	return append(out, r)
}
