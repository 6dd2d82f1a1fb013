package coordinator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The coordinator of these tests keeps a counter per key: "add" writes the next number, and the marker of a producer adds to a
// key what its transactional writes put aside.

type event struct {
	kind     string // add, txn, ended, told, tick, written, forget
	call     CallID
	seq      uint64
	err      error
	producer int64
	commit   bool
	wake     time.Time
}

type effect struct {
	call   CallID
	err    error
	value  int
	write  *Write
	other  string
	forget bool
}

type counter struct {
	value   int
	aside   int
	calls   map[uint64]event
	seq     uint64
	wake    time.Time
	history []string
}

func (c *counter) Step(now time.Time, e event) []effect {
	c.history = append(c.history, e.kind)
	switch e.kind {
	case "add", "txn":
		c.seq++
		c.calls[c.seq] = e
		w := &Write{Seq: c.seq, Size: 10, Records: func(add func(k, v []byte)) { add([]byte("k"), []byte{1}) }}
		if e.kind == "txn" {
			w.Producer = &batch.Producer{ID: e.producer}
		}
		c.wake = e.wake
		return []effect{{write: w}}
	case "written":
		asked := c.calls[e.seq]
		delete(c.calls, e.seq)
		if e.err == nil && asked.kind == "add" {
			c.value++
		} else if e.err == nil {
			c.aside++
		}
		return []effect{{call: asked.call, err: e.err, value: c.value}}
	case "ended":
		if e.commit {
			c.value += c.aside
		}
		c.aside = 0
	case "tick":
		if !now.Before(c.wake) {
			c.wake = time.Time{}
			return []effect{{other: "woken"}}
		}
	case "forget":
		return []effect{{call: e.call, forget: true}}
	}
	return nil
}

func (c *counter) Deadline() time.Time { return c.wake }
func (c *counter) Blank() bool         { return false }

type counters struct {
	mu    sync.Mutex
	other []string
}

func (k *counters) New(string) *counter { return &counter{calls: map[uint64]event{}} }
func (k *counters) NewLoader() Loader[*counter] {
	return &counterLoader{sums: map[string]*counter{}, kind: k}
}
func (k *counters) Tick() event { return event{kind: "tick"} }
func (k *counters) Written(seq uint64, err error) event {
	return event{kind: "written", seq: seq, err: err}
}
func (k *counters) Action(f effect) Action {
	return Action{Reply: f.call, Write: f.write, Forget: f.forget, Other: f.other != ""}
}

func (k *counters) Perform(at Place, f effect) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.other = append(k.other, fmt.Sprint(at.Key, " ", f.other))
}

type counterLoader struct {
	sums map[string]*counter
	kind *counters
}

func (l *counterLoader) Record(h *batch.Header, key, _ []byte) error {
	if len(key) == 0 {
		return ErrUnknownKind
	}
	c := l.sums[string(key)]
	if c == nil {
		c = l.kind.New("")
		l.sums[string(key)] = c
	}
	if h.IsTransactional() {
		c.aside++
	} else {
		c.value++
	}
	return nil
}

func (l *counterLoader) Marker(m Marker) {
	for _, c := range l.sums {
		c.Step(time.Time{}, event{kind: "ended", commit: m.Commit})
	}
}

func (l *counterLoader) Machines(time.Time) map[string]*counter { return l.sums }

// memLog is a partition in memory whose appends end when told, or at once.
type memLog struct {
	mu      sync.Mutex
	frames  []byte
	next    batch.Offset
	hold    bool
	waiting []*memPending
}

type memPending struct {
	frame []byte
	done  chan struct{}
	err   error
}

func (p *memPending) Done() <-chan struct{} { return p.done }
func (p *memPending) Err() error            { return p.err }

func (l *memLog) Open(int32, batch.Epoch) (Log, error) { return l, nil }

type unasked struct{}

func (unasked) End() {}

func (l *memLog) Verify(batch.Producer) Verified { return unasked{} }

func (l *memLog) Append(frame []byte, _ Verified) Pending {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &memPending{frame: frame, done: make(chan struct{})}
	l.waiting = append(l.waiting, p)
	if !l.hold {
		l.releaseLocked(nil)
	}
	return p
}

func (l *memLog) release(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.releaseLocked(err)
}

func (l *memLog) releaseLocked(err error) {
	for _, p := range l.waiting {
		if p.err = err; err == nil {
			h, _ := batch.ParseHeader(p.frame)
			batch.Stamp(p.frame, l.next, 1)
			l.frames = append(l.frames, p.frame...)
			l.next += batch.Offset(h.NumRecords)
		}
		close(p.done)
	}
	l.waiting = nil
}

func (l *memLog) Bounds() (Bounds, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Bounds{Committed: l.next, End: l.next}, nil
}

func (l *memLog) Read(batch.Offset, int) (Chunk, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Chunk{Frames: append([]byte(nil), l.frames...), Next: l.next}, nil
}

func begin(t *testing.T, l *memLog, limits Limits) (*Runtime[*counter, event, effect], *counters) {
	t.Helper()
	k := &counters{}
	r, err := New(Options[*counter, event, effect]{
		Topic: "t", Logs: l, Kind: k, Limits: limits, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	r.LeaderChanged(0, 1, true)
	synctest.Wait()
	t.Cleanup(r.Close)
	return r, k
}

func ask(r *Runtime[*counter, event, effect], key string, e event) (effect, error) {
	f, err := r.Do(context.Background(), 0, key, func(c CallID) event {
		e.call = c
		return e
	})
	return f, errors.Join(err, f.err)
}

func valueOf(t *testing.T, r *Runtime[*counter, event, effect], key string) (value int) {
	t.Helper()
	if err := r.View(0, key, func(c *counter, known bool) {
		if known {
			value = c.value
		}
	}); err != nil {
		t.Fatal(err)
	}
	return value
}

// A marker is heard of behind the transactional write that is in front of it in the log, though both have ended by then, and
// what is read from the log says the same.
func TestMarkersComeInTheOrderOfTheLog(t *testing.T) {
	for _, commit := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			l := &memLog{hold: true}
			r, _ := begin(t, l, Limits{})
			done := make(chan error)
			go func() {
				_, err := ask(r, "k", event{kind: "txn", producer: 7})
				done <- err
			}()
			synctest.Wait()
			marker := batch.Control{ProducerID: 7}
			if commit {
				marker.Type = batch.ControlCommit
			}
			m := Marker{ProducerID: 7, Commit: commit}
			ended := make(chan error)
			l.Append(batch.BuildControl(marker), nil)
			l.release(nil)
			go func() { ended <- r.Ended(context.Background(), 0, m, event{kind: "ended", commit: commit}) }()
			if err := errors.Join(<-done, <-ended); err != nil {
				t.Fatal(err)
			}
			want := 0
			if commit {
				want = 1
			}
			if got := valueOf(t, r, "k"); got != want {
				t.Errorf("commit %v: %d", commit, got)
			}
			r.LeaderChanged(0, 2, true)
			synctest.Wait()
			if got := valueOf(t, r, "k"); got != want {
				t.Errorf("commit %v, read again: %d", commit, got)
			}
		})
	}
}

func TestTransactionalWritesHaveTheirOwnBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &memLog{hold: true}
		r, _ := begin(t, l, Limits{})
		var all sync.WaitGroup
		for _, e := range []event{{kind: "add"}, {kind: "add"}, {kind: "add"}, {kind: "txn", producer: 1}, {kind: "txn", producer: 2}, {kind: "add"}} {
			all.Go(func() {
				if _, err := ask(r, "k", e); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		var batches []string
		for range 5 {
			h, err := batch.ParseHeader(l.waiting[0].frame)
			if err != nil {
				t.Fatal(err)
			}
			batches = append(batches, fmt.Sprint(h.NumRecords, " of ", h.ProducerID, " ", h.IsTransactional(), " ", h.BaseSequence))
			l.release(nil)
			synctest.Wait()
		}
		all.Wait()
		if got, want := fmt.Sprint(batches), "[1 of -1 false -1 2 of -1 false -1 1 of 1 true -1 1 of 2 true -1 1 of -1 false -1]"; got != want {
			t.Errorf("got %v", got)
		}
	})
}

func TestOtherEffectsAndTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, k := begin(t, &memLog{}, Limits{})
		if _, err := ask(r, "k", event{kind: "add", wake: time.Now().Add(time.Minute)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		k.mu.Lock()
		if fmt.Sprint(k.other) != "[k woken]" {
			t.Errorf("got %v", k.other)
		}
		k.mu.Unlock()
		at := Place{Partition: 0, Epoch: 1, Key: "k"}
		for _, c := range []struct {
			at   Place
			want bool
		}{{at, true}, {Place{0, 2, "k"}, false}, {Place{0, 1, "z"}, false}, {Place{1, 1, "k"}, false}} {
			if got := r.Tell(c.at, event{kind: "told"}); got != c.want {
				t.Errorf("%v: %v", c.at, got)
			}
		}
		if _, err := ask(r, "k", event{kind: "forget"}); err != nil || valueOf(t, r, "k") != 0 {
			t.Error(err, valueOf(t, r, "k"))
		}
	})
}

func TestUnknownOutcomesEndTheWaitForAMarker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &memLog{hold: true}
		r, _ := begin(t, l, Limits{})
		done := make(chan error)
		go func() {
			_, err := ask(r, "k", event{kind: "add"})
			done <- err
		}()
		synctest.Wait()
		l.release(replication.ErrUnknownOutcome)
		err := r.Ended(t.Context(), 0, Marker{}, event{kind: "ended"})
		if err != nil && !errors.Is(err, broker.ErrCoordinatorLoading) && !errors.Is(err, broker.ErrNotCoordinator) {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, broker.ErrNotCoordinator) {
			t.Error(err)
		}
		r.LeaderChanged(0, 1, false)
		if err := r.Ended(t.Context(), 0, Marker{}, event{}); !errors.Is(err, broker.ErrNotCoordinator) {
			t.Error(err)
		}
	})
}

func TestLimitsOfARuntime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &memLog{}
		r, _ := begin(t, l, Limits{MaxKeys: 1, MaxCalls: 1, MaxQueuedBytes: 100, MaxBatchBytes: 100})
		if _, err := ask(r, "k", event{kind: "add"}); err != nil {
			t.Fatal(err)
		}
		if _, err := ask(r, "z", event{kind: "add"}); !errors.Is(err, broker.ErrCoordinatorNotAvailable) {
			t.Error(err)
		}
		l.mu.Lock()
		l.hold = true
		l.mu.Unlock()
		done := make(chan error)
		go func() {
			_, err := ask(r, "k", event{kind: "add"})
			done <- err
		}()
		synctest.Wait()
		if _, err := ask(r, "k", event{kind: "add"}); !errors.Is(err, broker.ErrCoordinatorLoading) {
			t.Error(err)
		}
		l.release(nil)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestKeysThatAreRefusedAreTold: who runs the node hears of it, at most once a minute, and of how many there were.
func TestKeysThatAreRefusedAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told bytes.Buffer
		r, err := New(Options[*counter, event, effect]{
			Topic: "t", Logs: &memLog{}, Kind: &counters{}, KeysSetting: "max.keys",
			Limits: Limits{MaxKeys: 1, MaxCalls: 9, MaxQueuedBytes: 100, MaxBatchBytes: 100}, Logger: slog.New(slog.NewJSONHandler(&told, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		r.LeaderChanged(0, 1, true)
		synctest.Wait()
		if _, err := ask(r, "k", event{kind: "add"}); err != nil {
			t.Fatal(err)
		}
		refuse := func(want ...int) {
			t.Helper()
			told.Reset()
			for range 3 {
				if _, err := ask(r, "z", event{kind: "add"}); !errors.Is(err, broker.ErrCoordinatorNotAvailable) {
					t.Error(err)
				}
			}
			for line := range bytes.Lines(told.Bytes()) {
				var got struct {
					Level, Topic, Setting string
					Most, Refused         int
				}
				if err := json.Unmarshal(line, &got); err != nil {
					t.Fatal(err)
				}
				if got.Level != "WARN" || got.Topic != "t" || got.Setting != "max.keys" || got.Most != 1 || len(want) == 0 || got.Refused != want[0] {
					t.Errorf("told: %s, want %v", line, want)
					return
				}
				want = want[1:]
			}
			if len(want) > 0 {
				t.Errorf("not told: %v", want)
			}
		}
		refuse(1)
		<-time.After(59 * time.Second)
		refuse()
		<-time.After(time.Second)
		refuse(6)
		if _, err := ask(r, "k", event{kind: "add"}); err != nil {
			t.Error("one that is known:", err)
		}
	})
}

func TestOptionsOfARuntime(t *testing.T) {
	if _, err := New(Options[*counter, event, effect]{Topic: "t"}); !errors.Is(err, ErrOptions) {
		t.Error(err)
	}
}
