package partition

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
)

// from builds a batch of n records of an idempotent producer.
func from(t testing.TB, id int64, epoch int16, sequence int32, n int) Batch {
	t.Helper()
	values := make([]string, n)
	for i := range values {
		values[i] = fmt.Sprintf("%d/%d/%d", id, epoch, sequence+int32(i))
	}
	return frameOf(t, batch.BuildOptions{Producer: &batch.Producer{ID: id, Epoch: epoch, Sequence: sequence}}, values...)
}

func memPartition(t testing.TB) (*node, *Partition, *vfs.Injector) {
	t.Helper()
	fsys := vfs.Inject(vfs.NewMem())
	n := open(t, Options{DataDir: "/d", FS: fsys})
	return n, n.partition(0, testConfig()), fsys
}

// A coordinator's batch is for the epoch that the coordinator knows, not for a later one of the same leader.
func TestABatchMayNameItsEpoch(t *testing.T) {
	_, p, _ := memPartition(t)
	for _, c := range []struct {
		epoch batch.Epoch
		err   error
	}{
		{0, nil}, {p.Leader().Epoch, nil}, {p.Leader().Epoch + 1, replication.ErrNotLeader},
	} {
		b := frameOf(t, batch.BuildOptions{}, "v")
		b.Epoch = c.epoch
		if _, err := p.Append(b).Wait(ctx); !errors.Is(err, c.err) {
			t.Errorf("epoch %d: %v, want %v", c.epoch, err, c.err)
		}
	}
}

func TestIdempotentProducer(t *testing.T) {
	n, p, _ := memPartition(t)
	for _, c := range []struct {
		b    Batch
		base batch.Offset
		dup  bool
		err  error
	}{
		{txnFrom(t, 5, 0, 3, nil), 0, false, replication.ErrInvalidTxnState},
		{from(t, 5, 0, 0, 2), 0, false, nil},
		{from(t, 5, 0, 0, 2), 0, true, nil},
		{from(t, 5, 0, 4, 1), 0, false, replication.ErrOutOfOrderSequence},
		{from(t, 5, 0, 2, 3), 2, false, nil},
		{from(t, 5, 0, 0, 2), 0, true, nil},
		{from(t, 5, 1, 7, 1), 0, false, replication.ErrOutOfOrderSequence},
		{from(t, 5, 1, 0, 1), 5, false, nil},
		{from(t, 5, 0, 5, 1), 0, false, replication.ErrInvalidProducerEpoch},
		{from(t, 6, 0, 0, 1), 6, false, nil},
	} {
		a, err := p.Append(c.b).Wait(ctx)
		if !errors.Is(err, c.err) || err == nil && (a.Base != c.base || a.Duplicate != c.dup || a.Epoch != p.Leader().Epoch) {
			t.Errorf("%+v: %+v, %v; want %+v", c.b.Info.Header, a, err, c)
		}
	}
	for i := int32(1); i < 8; i++ {
		if _, err := p.Append(from(t, 6, 0, i, 1)).Wait(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.Append(from(t, 6, 0, 0, 1)).Wait(ctx); !errors.Is(err, replication.ErrOutOfOrderSequence) {
		t.Errorf("a batch of long ago: %v", err)
	}
	if got := p.Producers(); len(got) != 2 {
		t.Errorf("producers: %+v", got)
	}
	if len(p.flights.producers) > 0 {
		t.Errorf("in flight: %v", p.flights.producers)
	}
	_ = n
}

// What was known of a producer has expired, or was deleted: it goes on where it was. But what follows a batch that was turned
// away a moment ago is no such beginning.
func TestAnUnknownProducerGoesOn(t *testing.T) {
	_, p, _ := memPartition(t)
	answers(t, "it goes on", p.Append(from(t, 5, 2, 40, 2)), nil)
	answers(t, "and on", p.Append(from(t, 5, 2, 42, 1)), nil)
	answers(t, "but not anywhere", p.Append(from(t, 5, 2, 44, 1)), replication.ErrOutOfOrderSequence)
	cfg := testConfig()
	cfg.MinInsyncReplicas = 2
	p.setConfig(cfg)
	answers(t, "the first of another", p.Append(from(t, 6, 0, 0, 2)), replication.ErrNotEnoughReplicas)
	p.setConfig(testConfig())
	answers(t, "its second", p.Append(from(t, 6, 0, 2, 1)), replication.ErrOutOfOrderSequence)
	answers(t, "its first again", p.Append(from(t, 6, 0, 0, 2)), nil)
	answers(t, "its second again", p.Append(from(t, 6, 0, 2, 1)), nil)
	// Nothing before the place where it began was ever stored: that it was must not be said.
	answers(t, "what lies before its beginning", p.Append(from(t, 5, 2, 0, 5)), replication.ErrOutOfOrderSequence)
	p.Refused(from(t, 8, 0, 0, 2).Frame, replication.ErrCorrupt)
	answers(t, "what follows a batch that never came to Append", p.Append(from(t, 8, 0, 2, 1)), replication.ErrOutOfOrderSequence)
	verified := txnFrom(t, 7, 0, 3, nil)
	verified.Verified = Verify(p, verified.Info.Header)
	defer verified.Verified.End()
	answers(t, "a transaction from its middle", p.Append(verified), replication.ErrOutOfOrderSequence)
	if n := len(p.flights.away); n != 3 {
		t.Errorf("%d are remembered, want those with a gap", n)
	}
}

// A retry that arrives while the first try is under way waits for its answer, and nothing is stored twice.
func TestDuplicateOfABatchInFlight(t *testing.T) {
	_, p, fsys := memPartition(t)
	hang := make(chan struct{})
	fsys.Add(vfs.Rule{Op: vfs.OpSync, Path: ".log", Hang: hang})
	first := p.Append(from(t, 1, 0, 0, 3))
	retries := []*Pending{p.Append(from(t, 1, 0, 0, 3)), p.Append(from(t, 1, 0, 0, 3))}
	next := p.Append(from(t, 1, 0, 3, 1))
	for _, pd := range append(retries, first, next) {
		select {
		case <-pd.Done():
			t.Error("answered before the disk did")
		default:
		}
	}
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	if _, err := first.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an impatient caller gets %v", err)
	}
	close(hang)
	want, err := first.Wait(ctx)
	if err != nil || want.Duplicate {
		t.Fatalf("%+v, %v", want, err)
	}
	for _, pd := range retries {
		got, err := pd.Wait(ctx)
		want.Duplicate = true
		if err != nil || got != want {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
	if a, err := next.Wait(ctx); err != nil || a.Base != 3 {
		t.Errorf("%+v, %v", a, err)
	}
	if o := p.log.Offsets(); o.LogEnd != 4 {
		t.Errorf("%+v", o)
	}
}

// When a batch in flight is refused, what its producer has behind it is refused too, and a retry of all succeeds in order.
func TestRefusalDropsWhatIsInFlight(t *testing.T) {
	_, p, fsys := memPartition(t)
	mustAppend(t, p, batch.BuildOptions{Producer: &batch.Producer{ID: 1}}, "a")
	hang, entered := make(chan struct{}), make(chan struct{})
	fsys.Add(vfs.Rule{Op: vfs.OpSync, Path: ".log", Hang: hang, Do: func(vfs.Call) { close(entered) }})
	blocker := p.Append(frameOf(t, batch.BuildOptions{}, "blocker"))
	<-entered
	bad := p.Append(from(t, 1, 0, 1, 1))
	after := p.Append(from(t, 1, 0, 2, 1))
	// What Raft does to single proposals of a leader that is about to hand over: this one is not stored as it was checked.
	batch.Stamp(bad.frame, batch.Unstamped, 99)
	close(hang)
	if _, err := blocker.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := bad.Wait(ctx); !errors.Is(err, replication.ErrNotLeader) {
		t.Errorf("refused: %v", err)
	}
	if _, err := after.Wait(ctx); !errors.Is(err, replication.ErrOutOfOrderSequence) {
		t.Errorf("behind it: %v", err)
	}
	for i := int32(1); i < 4; i++ {
		if a, err := p.Append(from(t, 1, 0, i, 1)).Wait(ctx); err != nil || a.Base != batch.Offset(i)+1 || a.Duplicate {
			t.Errorf("retry of %d: %+v, %v", i, a, err)
		}
	}
}

// The queue is bounded: who comes when it is full waits, and gives up in the end.
func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.Inject(vfs.NewMem())
		n := open(t, Options{DataDir: "/d", FS: fsys, QueueBytes: 8 * minWeight, QueueWait: 3 * time.Second})
		p := n.partition(0, testConfig())
		hang := make(chan struct{})
		fsys.Add(vfs.Rule{Op: vfs.OpSync, Path: ".log", Hang: hang})
		var under []*Pending
		for range 8 {
			under = append(under, p.Append(frameOf(t, batch.BuildOptions{}, "v")))
		}
		began := time.Now()
		if _, err := p.Append(frameOf(t, batch.BuildOptions{}, "v")).Wait(ctx); !errors.Is(err, replication.ErrOverloaded) || time.Since(began) < 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		waiting := make(chan *Pending)
		go func() { waiting <- p.Append(frameOf(t, batch.BuildOptions{}, "w")) }()
		synctest.Wait()
		close(hang)
		for _, pd := range append(under, <-waiting) {
			if _, err := pd.Wait(ctx); err != nil {
				t.Error(err)
			}
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A batch larger than the whole queue goes through alone.
func TestBatchLargerThanTheQueue(t *testing.T) {
	n := open(t, Options{DataDir: "/d", FS: vfs.NewMem(), QueueBytes: 2 * minWeight, NodeQueueBytes: 2 * minWeight})
	p := n.partition(0, testConfig())
	for range 3 {
		mustAppend(t, p, batch.BuildOptions{}, string(make([]byte, 10*minWeight)))
	}
}

// What was appended when the node stops has an answer.
func TestCloseAnswersAppends(t *testing.T) {
	for range 10 {
		n, p, _ := memPartition(t)
		var all []*Pending
		for range 100 {
			all = append(all, p.Append(frameOf(t, batch.BuildOptions{}, "v")))
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		for _, pd := range all {
			select {
			case <-pd.Done():
			case <-time.After(10 * time.Second):
				t.Fatal("no answer")
			}
			if _, err := pd.Wait(ctx); err != nil && !errors.Is(err, replication.ErrNotLeader) && !errors.Is(err, replication.ErrUnknownOutcome) {
				t.Error(err)
			}
		}
	}
}

func TestAppendRefusesWhatIsNoBatch(t *testing.T) {
	_, p, _ := memPartition(t)
	whole := frameOf(t, batch.BuildOptions{}, "v").Frame
	for name, frame := range map[string][]byte{
		"nothing": nil, "half": whole[:len(whole)-1], "two": append(slices.Clone(whole), whole...), "internal": log.InternalFrame(log.KindNoop, nil),
	} {
		if _, err := p.Append(Batch{Frame: frame}).Wait(ctx); !errors.Is(err, replication.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLogAppendTimeIsTold(t *testing.T) {
	_, p, _ := memPartition(t)
	for range 2 { // the second time as a duplicate
		b := from(t, 9, 0, 0, 1)
		batch.SetLogAppendTime(b.Frame, 4711)
		if a, err := p.Append(b).Wait(ctx); err != nil || a.Timestamp != 4711 {
			t.Errorf("%+v, %v", a, err)
		}
	}
}

func TestMinInsyncReplicas(t *testing.T) {
	_, p, _ := memPartition(t)
	cfg := testConfig()
	cfg.MinInsyncReplicas = 2
	p.setConfig(cfg)
	b := frameOf(t, batch.BuildOptions{}, "v")
	if _, err := p.Append(b).Wait(ctx); !errors.Is(err, replication.ErrNotEnoughReplicas) {
		t.Errorf("got %v", err)
	}
	b.AnyISR = true
	if _, err := p.Append(b).Wait(ctx); err != nil {
		t.Errorf("acks 1: %v", err)
	}
	if got := p.ISR(); !slices.Equal(got, []replication.NodeID{1}) {
		t.Errorf("in sync: %v", got)
	}
}
