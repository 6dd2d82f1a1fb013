package fetch

//quorlog:bubble every test that lets time pass runs in one

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// poll fetches in a bubble of its own time and tells when the answer came.
func pollFor(t *testing.T, c *fakeCluster, r *Request, during func()) (resp *Response, took time.Duration) {
	t.Helper()
	s := New(Options{Partitions: c})
	start := time.Now()
	done := make(chan struct{})
	go func() {
		defer close(done)
		var err error
		if resp, err = s.Fetch(t.Context(), r); err != nil {
			t.Error(err)
		}
	}()
	synctest.Wait()
	if during != nil {
		during()
	}
	<-done
	return resp, time.Since(start)
}

func waiting(minBytes int, ps ...Params) *Request {
	return &Request{SessionEpoch: FinalEpoch, MaxWait: time.Second, MinBytes: minBytes, MaxBytes: 1 << 20, Partitions: ps}
}

// without is a request of somebody who may not read some partitions.
func without(denied func(Key) bool, r *Request) *Request {
	r.Denied = denied
	return r
}

func TestPoll(t *testing.T) {
	p, q := newFake(), newFake()
	var lost atomic.Bool
	everything, second := func(Key) bool { return true }, func(k Key) bool { return k.Partition == 1 }
	for name, tc := range map[string]struct {
		sizes  []int
		r      *Request
		during func()
		took   time.Duration
		bytes  int
		err    error
	}{
		"enough at once":         {sizes: []int{10}, r: waiting(10, want("t", 0, 0)), bytes: 10},
		"min bytes zero":         {r: waiting(0, want("t", 0, 0))},
		"nothing until time out": {r: waiting(1, want("t", 0, 0)), took: time.Second},
		"too little until time out": {
			sizes: []int{10}, r: waiting(100, want("t", 0, 0)), took: time.Second, bytes: 10,
		},
		"first bytes": {r: waiting(1, want("t", 0, 0)), during: func() {
			pass(100 * time.Millisecond)
			p.append(10)
		}, took: 100 * time.Millisecond, bytes: 10},
		"bytes add up over partitions": {r: waiting(30, want("t", 0, 0), want("t", 1, 0)), during: func() {
			pass(100 * time.Millisecond)
			p.append(10)
			pass(100 * time.Millisecond)
			q.append(10, 10)
		}, took: 200 * time.Millisecond, bytes: 30},
		"what came before the time out": {r: waiting(100, want("t", 0, 0)), during: func() {
			pass(100 * time.Millisecond)
			p.append(10)
		}, took: time.Second, bytes: 10},
		"leadership lost": {r: waiting(1, want("t", 0, 0)), during: func() {
			pass(100 * time.Millisecond)
			p.change(func() { p.err, p.leader = replication.ErrNotLeader, replication.Leader{Node: 2, Epoch: 4} })
		}, took: 100 * time.Millisecond, err: replication.ErrNotLeader},
		"offset out of range at once": {r: waiting(1, want("t", 0, 99)), err: replication.ErrOffsetOutOfRange},
		"unknown topic alone":         {r: waiting(1, want("nope", 0, 0)), err: replication.ErrUnknownPartition},
		"unknown topic beside another": {
			r: waiting(1, want("nope", 0, 0), want("t", 0, 0)), took: time.Second, err: replication.ErrUnknownPartition,
		},
		"denied alone":          {r: without(everything, waiting(1, want("t", 0, 0))), err: broker.ErrTopicDenied},
		"denied beside another": {r: without(second, waiting(1, want("t", 0, 0), want("t", 1, 0))), took: time.Second, err: broker.ErrTopicDenied},
		"a right taken away": {r: without(func(Key) bool { return lost.Load() }, waiting(1, want("t", 0, 0))), during: func() {
			pass(100 * time.Millisecond)
			lost.Store(true)
			p.append(10)
		}, took: 100 * time.Millisecond, err: broker.ErrTopicDenied},
		"hosted elsewhere": {r: waiting(1, want(elsewhere, 0, 0), want("t", 0, 0)), err: replication.ErrNotLeader},
		"min bytes above the limit": {sizes: []int{10}, r: &Request{
			SessionEpoch: FinalEpoch, MaxWait: time.Second, MinBytes: 1 << 30, MaxBytes: 10, Partitions: []Params{want("t", 0, 0)},
		}, bytes: 10},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, q = newFake(tc.sizes...), newFake()
				c := one("t", p, q)
				resp, took := pollFor(t, c, tc.r, tc.during)
				if took != tc.took {
					t.Errorf("took %v, want %v", took, tc.took)
				}
				bytes, err := 0, error(nil)
				for i := range resp.Results {
					bytes += resp.Results[i].Size()
					err = errors.Join(err, resp.Results[i].Err)
				}
				if bytes != tc.bytes || !errors.Is(err, tc.err) || (err != nil) != (tc.err != nil) {
					t.Errorf("%d bytes, %v", bytes, err)
				}
				resp.Release()
				resp.Release()
				if n := c.unreleased(); n != 0 {
					t.Errorf("%d pieces were not released", n)
				}
				if len(p.watchers) != 0 {
					t.Errorf("%d watches are left", len(p.watchers))
				}
			})
		})
	}
}

func TestPollEndsWithTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFake(10)
		c := one("t", p)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			pass(time.Millisecond)
			cancel()
		}()
		r := waiting(100, want("t", 0, 0))
		if _, err := New(Options{Partitions: c}).Fetch(ctx, r); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if n := c.unreleased(); n != 0 || len(p.watchers) != 0 {
			t.Errorf("%d pieces and %d watches are left", n, len(p.watchers))
		}
	})
}

// A partition that moves between the read and the watch must not be missed until the time out.
func TestPollSeesWhatCameBeforeTheWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFake()
		c := one("t", p)
		racing := &racingPartition{fakePartition: p}
		start := time.Now()
		s := New(Options{Partitions: single{racing}})
		resp, err := s.Fetch(t.Context(), waiting(1, want("t", 0, 0)))
		if err != nil || time.Since(start) != 0 || resp.Results[0].Size() != 10 {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
		resp.Release()
		_ = c
	})
}

// racingPartition gets a batch just before it is watched.
type racingPartition struct{ *fakePartition }

func (p *racingPartition) Watch(w chan<- struct{}) func() {
	p.append(10)
	return p.fakePartition.Watch(w)
}

type single struct{ p Partition }

func (s single) Lookup(string, int32) (Partition, error)                { return s.p, nil }
func (s single) LookupID(replication.TopicID, int32) (Partition, error) { return s.p, nil }

func TestLimits(t *testing.T) {
	a, b := newFake(100, 100, 100), newFake(50, 50)
	for name, tc := range map[string]struct {
		max, partMax int
		want         [2]int
	}{
		"all":                           {1000, 1000, [2]int{300, 100}},
		"whole batches only":            {250, 1000, [2]int{200, 50}},
		"partition limit":               {1000, 199, [2]int{100, 100}},
		"first batch comes whole":       {10, 1000, [2]int{100, 0}},
		"also over the partition limit": {1000, 10, [2]int{100, 0}},
		"zero":                          {0, 0, [2]int{100, 0}},
	} {
		c := one("t", a, b)
		ps := []Params{want("t", 0, 0), want("t", 1, 0)}
		ps[0].MaxBytes, ps[1].MaxBytes = tc.partMax, tc.partMax
		r := &Request{SessionEpoch: FinalEpoch, MaxBytes: tc.max, Partitions: ps}
		resp, err := New(Options{Partitions: c}).Fetch(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]int{resp.Results[0].Size(), resp.Results[1].Size()}; got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
		resp.Release()
	}
	// The server's own limit holds whatever the client asks for.
	s := New(Options{Partitions: one("t", a, b), MaxBytes: 150})
	resp, err := s.Fetch(t.Context(), &Request{SessionEpoch: FinalEpoch, MaxBytes: 1 << 30, Partitions: []Params{want("t", 0, 0)}})
	if err != nil || resp.Results[0].Size() != 100 {
		t.Fatalf("%v, %d bytes", err, resp.Results[0].Size())
	}
	resp.Release()
}

func TestFetchResults(t *testing.T) {
	p := newFake(10, 10, 10)
	p.stable, p.logStart = 1, 0
	s := New(Options{Partitions: one("t", p)})
	fetch := func(change func(*Request)) Result {
		t.Helper()
		r := &Request{SessionEpoch: FinalEpoch, MaxBytes: 1000, Partitions: []Params{want("t", 0, 0)}}
		change(r)
		resp, err := s.Fetch(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		res := resp.Results[0]
		size := res.Size()
		resp.Release()
		res.Records = &fakeRecords{data: make([]byte, size), released: new(int)}
		return res
	}
	if r := fetch(func(r *Request) { r.ReadCommitted = true }); r.Size() != 10 || r.LastStable != 1 || r.HighWatermark != 3 {
		t.Errorf("read_committed: %d bytes, %+v", r.Size(), r)
	}
	if r := fetch(func(*Request) {}); r.Size() != 30 || r.LastStable != 1 {
		t.Errorf("read_uncommitted: %d bytes, %+v", r.Size(), r)
	}
	if r := fetch(func(r *Request) { r.Partitions[0].CurrentEpoch = 2 }); !errors.Is(r.Err, replication.ErrFencedLeaderEpoch) || r.Leader.Node != 1 {
		t.Errorf("old epoch: %v, leader %+v", r.Err, r.Leader)
	}
	if r := fetch(func(r *Request) { r.Partitions[0].CurrentEpoch = 4 }); !errors.Is(r.Err, replication.ErrUnknownLeaderEpoch) {
		t.Errorf("new epoch: %v", r.Err)
	}
	if want := []int{10, 30, 0, 0}; !slices.Equal(p.served, want) {
		t.Errorf("served %v bytes, want %v", p.served, want)
	}
	if r := fetch(func(r *Request) { r.FromReplica = true }); !errors.Is(r.Err, ErrNotReplica) || r.HighWatermark != -1 {
		t.Errorf("replica: %v", r.Err)
	}
	p.diverge = &Diverging{Epoch: 2, End: 1}
	r := fetch(func(r *Request) { r.MinBytes, r.MaxWait = 1, time.Hour })
	if r.Diverging == nil || r.Diverging.End != batch.Offset(1) {
		t.Errorf("diverging: %+v", r)
	}
}

func TestListOffset(t *testing.T) {
	p := newFake(1, 1, 1, 1)
	p.stable, p.logStart = 2, 1
	s := New(Options{Partitions: one("t", p)})
	for ts, want := range map[Timestamp][2]batch.Offset{
		Latest: {4, 2}, Earliest: {1, 1}, EarliestLocal: {1, 1}, MaxTimestamp: {3, 1},
		LatestTiered: {-1, -1}, EarliestPendingUpload: {-1, -1}, 1: {1, 1}, 3: {3, -1}, 9: {-1, -1},
	} {
		for i, committed := range []bool{false, true} {
			q := OffsetQuery{Key: Key{Topic: "t"}, CurrentEpoch: batch.NoEpoch, Timestamp: ts, ReadCommitted: committed}
			if got, err := s.ListOffset(q); err != nil || got.Offset != want[i] {
				t.Errorf("%d, committed %v: %+v, %v; want %d", ts, committed, got, err, want[i])
			}
		}
	}
	if _, err := s.ListOffset(OffsetQuery{Key: Key{Topic: "t"}, Timestamp: -7, CurrentEpoch: -1}); !errors.Is(err, replication.ErrInvalidRequest) {
		t.Error(err)
	}
	if _, err := s.ListOffset(OffsetQuery{Key: Key{Topic: "u"}}); !errors.Is(err, replication.ErrUnknownPartition) {
		t.Error(err)
	}
	if _, err := s.ListOffset(OffsetQuery{Key: Key{Topic: "t"}, Timestamp: Latest, CurrentEpoch: 9}); !errors.Is(err, replication.ErrUnknownLeaderEpoch) {
		t.Error(err)
	}
}

func TestEpochEnd(t *testing.T) {
	s := New(Options{Partitions: one("t", newFake(1, 1))})
	if got, err := s.EpochEnd(Key{Topic: "t"}, -1, 3); err != nil || got != (Diverging{Epoch: 3, End: 2}) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := s.EpochEnd(Key{Topic: "t"}, 2, 3); !errors.Is(err, replication.ErrFencedLeaderEpoch) || got.End != -1 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := s.EpochEnd(Key{Topic: "u"}, 2, 3); !errors.Is(err, replication.ErrUnknownPartition) || got.End != -1 {
		t.Errorf("%+v, %v", got, err)
	}
}

// pass lets time go by, in a bubble's own time.
func pass(d time.Duration) { <-time.After(d) }
