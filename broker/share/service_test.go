package share

//quorlog:bubble run runs every test of this file in one

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
)

// world is a service with a partition and a store.
type world struct {
	t        *testing.T
	log      *fakeLog
	other    *fakeLog // of otherPart
	store    *fakeStore
	settings GroupSettings
	s        *Service
	epochs   map[string]int32
}

func run(t *testing.T, fn func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, log: newFakeLog(), other: newFakeLog(), store: newFakeStore(), epochs: map[string]int32{}}
		w.settings = GroupSettings{Settings: DefaultSettings(), Reset: Reset{Earliest: true}}
		var err error
		w.s, err = New(Options{
			Logs: fakeNode{w.log, w.other}, Store: w.store, Settings: func(string) GroupSettings { return w.settings }, Sessions: 3,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer w.s.Close()
		fn(t, w)
		for _, l := range []*fakeLog{w.log, w.other} {
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.open != 0 {
				t.Errorf("%d reads were not released", l.open)
			}
		}
	})
}

// request is a fetch of the partition by a member, in its session.
func (w *world) request(id string) *FetchRequest {
	r := &FetchRequest{Member: Member{Group: "g", ID: id, Epoch: w.epochs[id]}, MaxBytes: 1 << 20, MaxRecords: 100}
	w.epochs[id]++
	if r.Epoch == 0 {
		r.Partitions = []Wanted{{TopicPartition: thePart}}
	}
	return r
}

func (w *world) do(r *FetchRequest) *FetchResponse {
	w.t.Helper()
	return w.doOn(context.Background(), r)
}

// doOn sends a request on a connection. What the answer releases can still be read.
func (w *world) doOn(ctx context.Context, r *FetchRequest) *FetchResponse {
	w.t.Helper()
	out, err := w.s.Fetch(ctx, r)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range out.Results {
		if records := out.Results[i].Records; records != nil {
			records.Release()
		}
	}
	return out
}

// fetch returns what a member acquires.
func (w *world) fetch(id string) []Run {
	w.t.Helper()
	out := w.do(w.request(id))
	if out.Err != nil {
		w.t.Fatal(out.Err)
	}
	if len(out.Results) == 0 {
		return nil
	}
	if err := out.Results[0].Err; err != nil {
		w.t.Fatal(err)
	}
	return out.Results[0].Acquired
}

func (w *world) ack(id string, first, last batch.Offset, kind AckType) error {
	w.t.Helper()
	r := &AckRequest{Member: Member{Group: "g", ID: id, Epoch: w.epochs[id]}}
	w.epochs[id]++
	r.Partitions = []Wanted{{thePart, []Ack{{First: first, Last: last, Types: []AckType{kind}}}}}
	out, err := w.s.Acknowledge(context.Background(), r)
	if err != nil || out.Err != nil || len(out.Results) != 1 {
		w.t.Fatalf("%+v, %v", out, err)
	}
	return out.Results[0].Err
}

func spans(runs []Run) (out []batch.Offset) {
	for _, r := range runs {
		out = append(out, r.First, r.Last)
	}
	return out
}

func (w *world) want(got []Run, want ...batch.Offset) {
	w.t.Helper()
	if !slices.Equal(spans(got), want) {
		w.t.Fatalf("acquired %v, expected %v", spans(got), want)
	}
}

func TestDeliverAndAcknowledge(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.log.produce(t, 5, batch.BuildOptions{})
		w.log.produce(t, 5, batch.BuildOptions{})
		r := w.request("a")
		r.MaxRecords = 1
		out := w.do(r)
		if len(out.Results) != 1 || out.Lock != 30*time.Second {
			t.Fatalf("%+v", out)
		}
		got := out.Results[0]
		w.want(got.Acquired, 0, 4)
		sent, _ := got.Records.AppendTo(nil)
		if h, err := batch.ParseHeader(sent); err != nil || h.LastOffset() != 4 || h.Size() != len(sent) {
			t.Errorf("records of %+v, %v", h, err)
		}
		rest := w.do(w.request("b")).Results[0]
		w.want(rest.Acquired, 5, 9)
		if sent, _ := rest.Records.AppendTo(nil); !bytes.Equal(sent, w.log.frames[1]) {
			t.Errorf("%d bytes, not the second batch", len(sent))
		}
		if got, want := w.log.served.Load(), int64(len(w.log.frames[0])+len(w.log.frames[1])); got != want {
			t.Errorf("%d bytes count as served, want %d", got, want)
		}
		if err := w.ack("a", 0, 4, Accept); err != nil {
			t.Fatal(err)
		}
		if d := w.store.get(theKey); d.Start != 5 {
			t.Errorf("stored is %+v", d)
		}
		if err := w.ack("a", 5, 9, Accept); !errors.Is(err, ErrInvalidRecordState) {
			t.Errorf("somebody else's records: %v", err)
		}
	})
}

// An acknowledgement is answered after it is durable, and never if it is not.
func TestAnswersWaitForTheStore(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.log.produce(t, 4, batch.BuildOptions{})
		w.want(w.fetch("a"), 0, 3)
		w.store.gate = make(chan struct{}, 10)
		answered := make(chan error, 1)
		go func() { answered <- w.ack("a", 0, 1, Accept) }()
		synctest.Wait()
		select {
		case err := <-answered:
			t.Fatalf("answered before it was written: %v", err)
		default:
		}
		w.store.gate <- struct{}{}
		if err := <-answered; err != nil {
			t.Fatal(err)
		}
		w.store.fail = replication.ErrNotEnoughReplicas
		w.store.gate <- struct{}{}
		if err := w.ack("a", 2, 3, Accept); !errors.Is(err, replication.ErrNotLeader) {
			t.Errorf("a failed write: %v", err)
		}
		// What is stored counts: the records are delivered again.
		w.want(w.fetch("b"), 2, 3)
	})
}

// A long poll ends when records come, when somebody releases some, when a lock ends, and else after its time.
func TestLongPoll(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.log.produce(t, 1, batch.BuildOptions{})
		w.want(w.fetch("a"), 0, 0)
		begin := time.Now()
		got := make(chan []Run, 1)
		poll := func() {
			r := w.request("b")
			r.MaxWait = time.Minute
			go func() {
				out := w.do(r)
				var runs []Run
				for _, res := range out.Results {
					runs = append(runs, res.Acquired...)
				}
				got <- runs
			}()
			synctest.Wait()
		}
		poll()
		w.log.produce(t, 2, batch.BuildOptions{})
		w.want(<-got, 1, 2)
		poll()
		if err := w.ack("a", 0, 0, Release); err != nil {
			t.Fatal(err)
		}
		w.want(<-got, 0, 0)
		poll() // b holds all: its locks end
		w.want(<-got, 0, 0, 1, 2)
		if d := time.Since(begin); d != 30*time.Second {
			t.Errorf("the locks ended after %v", d)
		}
		if err := w.ack("b", 0, 2, Accept); err != nil {
			t.Fatal(err)
		}
		poll()
		w.want(<-got)
		if d := time.Since(begin); d != 90*time.Second {
			t.Errorf("the poll ended after %v", d)
		}
	})
}

// What is denied is part of the session: it is told, at once if there is nothing else, and asked about again at each look.
func TestDenied(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		denied := false
		fetch := func(wait time.Duration, during func()) (*FetchResult, time.Duration) {
			r, begin := w.request("a"), time.Now()
			r.MaxWait, r.Denied = wait, func(replication.TopicID) bool { return denied }
			got := make(chan *FetchResponse, 1)
			go func() { got <- w.do(r) }()
			if synctest.Wait(); during != nil {
				during()
			}
			out := <-got
			if len(out.Results) != 1 {
				t.Fatalf("%+v", out)
			}
			return &out.Results[0], time.Since(begin)
		}
		refused := func(res *FetchResult, took time.Duration) {
			t.Helper()
			if !errors.Is(res.Err, broker.ErrTopicDenied) || len(res.Acquired) > 0 || took != 0 {
				t.Errorf("%+v after %v", res, took)
			}
		}
		w.log.produce(t, 1, batch.BuildOptions{})
		denied = true
		refused(fetch(time.Minute, nil))
		denied = false
		res, _ := fetch(0, nil)
		w.want(res.Acquired, 0, 0)
		refused(fetch(time.Minute, func() {
			denied = true
			w.log.produce(t, 1, batch.BuildOptions{})
		}))
		r := w.request("a")
		r.Denied = func(replication.TopicID) bool { return true }
		r.Partitions = []Wanted{{thePart, []Ack{{First: 0, Last: 0, Types: []AckType{Accept}}}}}
		if out := w.do(r); len(out.Results) != 1 || !errors.Is(out.Results[0].AckErr, broker.ErrTopicDenied) {
			t.Errorf("%+v", out)
		}
		if err := w.ack("a", 0, 0, Accept); err != nil {
			t.Errorf("acknowledged though denied: %v", err)
		}
	})
}

// As many records in flight as may be: a poll goes on when the first are acknowledged.
func TestLongPollForRoom(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.settings.MaxInFlight = 2
		w.log.produce(t, 2, batch.BuildOptions{})
		w.log.produce(t, 2, batch.BuildOptions{})
		w.want(w.fetch("a"), 0, 1)
		r := w.request("b")
		r.MaxWait = time.Minute
		got := make(chan *FetchResponse, 1)
		go func() { got <- w.do(r) }()
		synctest.Wait()
		if err := w.ack("a", 0, 1, Accept); err != nil {
			t.Fatal(err)
		}
		w.want((<-got).Results[0].Acquired, 2, 3)
	})
}

// A leader that is back reads what was stored; the one before it is fenced.
func TestLeaderMoves(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.log.produce(t, 6, batch.BuildOptions{})
		w.want(w.fetch("a"), 0, 5)
		if err := w.ack("a", 0, 1, Accept); err != nil {
			t.Fatal(err)
		}
		if err := w.ack("a", 2, 2, Release); err != nil {
			t.Fatal(err)
		}
		w.log.lead(4, false)
		out := w.do(w.request("a"))
		if r := out.Results[0]; !errors.Is(r.Err, replication.ErrNotLeader) || r.Leader.Node != 9 {
			t.Fatalf("%+v", r)
		}
		if err := w.ack("a", 3, 3, Accept); !errors.Is(err, replication.ErrNotLeader) {
			t.Fatal(err)
		}
		w.log.lead(5, true)
		got := w.fetch("b")
		w.want(got, 2, 2, 3, 5)
		if got[0].Count != 2 || got[1].Count != 1 {
			t.Errorf("delivery counts %+v", got)
		}
		if err := w.ack("a", 3, 3, Accept); !errors.Is(err, ErrInvalidRecordState) {
			t.Errorf("a lock of the leader before: %v", err)
		}
	})
}

func TestSessions(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		refuse := func(id string, epoch int32, want error) {
			t.Helper()
			r := &FetchRequest{Member: Member{Group: "g", ID: id, Epoch: epoch}, MaxBytes: 1, MaxRecords: 1}
			if out := w.do(r); !errors.Is(out.Err, want) {
				t.Errorf("%s at %d: %v, expected %v", id, epoch, out.Err, want)
			}
		}
		refuse("a", 1, ErrSessionNotFound)
		refuse("a", FinalSession, ErrSessionNotFound)
		refuse("", 0, replication.ErrInvalidRequest)
		refuse("a member id that is longer than any UUID", 0, replication.ErrInvalidRequest)
		for _, id := range []string{"a", "b", "c"} {
			refuse(id, NewSession, nil)
		}
		refuse("d", NewSession, ErrSessionLimit)
		refuse("a", 2, ErrInvalidSessionEpoch)
		refuse("a", 1, nil)
		refuse("a", 1, ErrInvalidSessionEpoch)
		refuse("a", FinalSession, nil)
		refuse("d", NewSession, nil)
		<-time.After(time.Hour)
		refuse("e", NewSession, ErrSessionLimit)
		refuse("b", 1, nil)
		refuse("b", FinalSession, nil)
		refuse("e", NewSession, nil)

		r := w.request("e")
		r.Partitions[0].Acks = []Ack{{First: 0, Last: 0, Types: []AckType{Accept}}}
		if out := w.do(r); !errors.Is(out.Err, replication.ErrInvalidRequest) {
			t.Errorf("an acknowledgement in a new session: %v", out.Err)
		}
		a := &AckRequest{Member: Member{Group: "g", ID: "e"}}
		if out, err := w.s.Acknowledge(context.Background(), a); err != nil || !errors.Is(out.Err, ErrInvalidSessionEpoch) {
			t.Errorf("a new session by ShareAcknowledge: %+v, %v", out, err)
		}
	})
}

// A member that is busy for long with what it has fetched keeps it, whoever else begins a session meanwhile.
func TestAMemberThatIsSilentForLong(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.settings.LockDuration = 10 * time.Minute
		w.log.produce(t, 2, batch.BuildOptions{})
		w.want(w.fetch("a"), 0, 1)
		<-time.After(9 * time.Minute)
		other := w.request("of another group")
		other.Group = "h"
		if out := w.do(other); out.Err != nil {
			t.Fatal(out.Err)
		}
		w.want(w.fetch("b"))
		if err := w.ack("a", 0, 1, Accept); err != nil {
			t.Error(err)
		}
	})
}

// The end of a session gives back what the member holds.
func TestSessionEnds(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.log.produce(t, 4, batch.BuildOptions{})
		w.want(w.fetch("a"), 0, 3)
		r := w.request("a")
		r.Epoch = FinalSession
		r.Partitions = []Wanted{{thePart, []Ack{{First: 0, Last: 0, Types: []AckType{Accept}}}}}
		out := w.do(r)
		if out.Err != nil || len(out.Results) != 1 || out.Results[0].AckErr != nil {
			t.Fatalf("%+v", out)
		}
		w.want(w.fetch("b"), 1, 3)
	})
}

// What an administrator sets while the group is away holds when it is back.
func TestStartIsSetWhileTheGroupIsAway(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.log.produce(t, 4, batch.BuildOptions{})
		w.want(w.fetch("a"), 0, 3)
		if err := w.ack("a", 0, 3, Accept); err != nil {
			t.Fatal(err)
		}
		r := w.request("a")
		r.Epoch = FinalSession
		w.do(r)
		w.store.set(theKey, 1)
		w.want(w.fetch("b"), 1, 3)
	})
}

// What is set while the group is there fences it.
func TestStartIsSetMeanwhile(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.log.produce(t, 4, batch.BuildOptions{})
		w.want(w.fetch("a"), 0, 3)
		w.store.set(theKey, 2)
		if err := w.ack("a", 0, 3, Accept); !errors.Is(err, replication.ErrNotLeader) {
			t.Fatal(err)
		}
		w.want(w.fetch("a"), 2, 3)
	})
}

// Where a group begins is stored at once.
func TestReset(t *testing.T) {
	for name, test := range map[string]struct {
		reset Reset
		start batch.Offset
	}{"earliest": {Reset{Earliest: true}, 1}, "latest": {Reset{}, 5}, "by duration": {Reset{Age: time.Hour}, 2}} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, w *world) {
				w.log.produce(t, 5, batch.BuildOptions{})
				w.log.start = 1
				w.settings.Reset = test.reset
				w.fetch("a")
				if d := w.store.get(theKey); d.Start != test.start {
					t.Errorf("begins at %d, expected %d", d.Start, test.start)
				}
			})
		})
	}
}

// read_committed: nothing beyond the last stable offset, nothing aborted; markers are nobody's in any case.
func TestIsolation(t *testing.T) {
	for _, committed := range []bool{true, false} {
		run(t, func(t *testing.T, w *world) {
			w.settings.ReadCommitted = committed
			txn := batch.BuildOptions{Producer: &batch.Producer{ID: 7}, Transactional: true}
			w.log.produce(t, 2, txn)
			w.log.append(batch.BuildControl(batch.Control{Type: batch.ControlAbort, ProducerID: 7}))
			w.log.aborted = []partition.AbortedTxn{{ProducerID: 7, FirstOffset: 0, LastOffset: 2}}
			w.log.produce(t, 2, batch.BuildOptions{})
			w.log.produce(t, 2, txn)
			w.log.stable = 5
			if committed {
				w.want(w.fetch("a"), 3, 4)
			} else {
				w.want(w.fetch("a"), 0, 1, 3, 4, 5, 6)
			}
		})
	}
}

func TestUnknownPartitions(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		r := w.request("a")
		r.MaxWait = time.Hour
		r.Partitions = []Wanted{{TopicPartition: TopicPartition{Topic: theTopic, Partition: 8}}, {TopicPartition: TopicPartition{}}}
		out := w.do(r)
		if len(out.Results) != 2 || !errors.Is(errors.Join(out.Results[0].Err, out.Results[1].Err), replication.ErrUnknownPartition) ||
			!errors.Is(errors.Join(out.Results[0].Err, out.Results[1].Err), replication.ErrUnknownTopicID) {
			t.Errorf("%+v", out)
		}
		r = w.request("a")
		r.Forgotten = []TopicPartition{{Topic: theTopic, Partition: 8}, {}}
		if out := w.do(r); len(out.Results) != 0 {
			t.Errorf("forgotten: %+v", out)
		}
	})
}

// KIP-1206: runs of at most so many offsets.
func TestBatchSize(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.log.produce(t, 5, batch.BuildOptions{})
		r := w.request("a")
		r.BatchSize = 2
		w.want(w.do(r).Results[0].Acquired, 0, 1, 2, 3, 4, 4)
	})
}

// KIP-1222: a renewal fetches nothing, and the lock lasts.
func TestRenew(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.log.produce(t, 2, batch.BuildOptions{})
		w.want(w.fetch("a"), 0, 1)
		<-time.After(20 * time.Second)
		r := w.request("a")
		r.Renew = true
		r.Partitions = []Wanted{{thePart, []Ack{{First: 0, Last: 1, Types: []AckType{Renew}}}}}
		if out := w.do(r); out.Err != nil || out.Results[0].AckErr != nil || out.Results[0].Acquired != nil {
			t.Fatalf("%+v", out)
		}
		<-time.After(20 * time.Second)
		w.want(w.fetch("b"))
		if err := w.ack("a", 0, 1, Accept); err != nil {
			t.Error(err)
		}
	})
}

// A service that is closed answers, and leaves nothing behind.
func TestClose(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.log.produce(t, 2, batch.BuildOptions{})
		w.want(w.fetch("a"), 0, 1)
		w.store.gate = make(chan struct{})
		answered := make(chan error, 1)
		go func() { answered <- w.ack("a", 0, 1, Accept) }()
		synctest.Wait()
		w.s.Close()
		if err := <-answered; !errors.Is(err, replication.ErrNotLeader) {
			t.Error(err)
		}
		if out := w.do(w.request("a")); !errors.Is(out.Results[0].Err, replication.ErrNotLeader) {
			t.Errorf("%+v", out)
		}
	})
}

// TestLogStartMovesOnMeanwhile: records are removed between the look for the next one and its reading; the fetch goes on behind them.
func TestLogStartMovesOnMeanwhile(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.log.produce(t, 3, batch.BuildOptions{})
		w.log.produce(t, 2, batch.BuildOptions{})
		w.log.reading = func() {
			w.log.mu.Lock()
			defer w.log.mu.Unlock()
			w.log.start = 3
		}
		got := w.result(w.do(w.request("a")), thePart)
		if got.Err != nil || len(got.Acquired) != 1 || got.Acquired[0].First != 3 || got.Acquired[0].Last != 4 {
			t.Errorf("%v, acquired %+v", got.Err, got.Acquired)
		}
	})
}
