package partition

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
)

// txnFrom builds a client's batch of one record within a transaction.
func txnFrom(t testing.TB, id int64, epoch int16, sequence int32, v *Verification) Batch {
	t.Helper()
	b := frameOf(t, batch.BuildOptions{Producer: &batch.Producer{ID: id, Epoch: epoch, Sequence: sequence}, Transactional: true}, "v")
	b.Client, b.Verified = true, v
	return b
}

func answers(t testing.TB, what string, pd *Pending, want error) {
	t.Helper()
	if _, err := pd.Wait(ctx); !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func TestTransactionalBatchesMustBeVerified(t *testing.T) {
	_, p, _ := memPartition(t)
	first := txnFrom(t, 5, 0, 0, nil)
	answers(t, "without verification", p.Append(first), replication.ErrInvalidTxnState)
	first = txnFrom(t, 5, 0, 0, nil)
	v := Verify(p, first.Info.Header)
	if v == nil {
		t.Fatal("no verification was wanted")
	}
	first.Verified = v
	answers(t, "verified", p.Append(first), nil)
	v.End()
	next := txnFrom(t, 5, 0, 1, nil)
	if Verify(p, next.Info.Header) != nil {
		t.Error("a transaction that is open here needs no verification")
	}
	answers(t, "of an open transaction", p.Append(next), nil)
	answers(t, "a plain one meanwhile", p.Append(from(t, 5, 0, 2, 1)), replication.ErrInvalidTxnState)
	answers(t, "of another epoch", p.Append(txnFrom(t, 5, 1, 0, nil)), replication.ErrInvalidTxnState)
	answers(t, "marker", p.Append(Marker{ProducerID: 5, ProducerEpoch: 0, CoordinatorEpoch: 3, Commit: true}.Batch(time.Now())), nil)
	answers(t, "a retry of before", p.Append(txnFrom(t, 5, 0, 1, nil)), nil)
	answers(t, "more after the marker", p.Append(txnFrom(t, 5, 0, 2, nil)), replication.ErrInvalidTxnState)
	answers(t, "a plain one after the marker", p.Append(from(t, 5, 0, 2, 1)), nil)
	if n := len(p.flights.verifying); n != 0 {
		t.Errorf("%d verifications are left", n)
	}
}

// With an old client both transactions have one epoch: what was verified for the first must not open the second.
func TestAMarkerEndsVerifications(t *testing.T) {
	_, p, _ := memPartition(t)
	late := txnFrom(t, 5, 0, 0, nil)
	late.Verified = Verify(p, late.Info.Header)
	answers(t, "marker", p.Append(Marker{ProducerID: 5, ProducerEpoch: 0}.Batch(time.Now())), nil)
	answers(t, "verified before the marker", p.Append(late), replication.ErrInvalidTxnState)
	late.Verified.End()
	again := txnFrom(t, 5, 0, 0, nil)
	again.Verified = Verify(p, again.Info.Header)
	defer again.Verified.End()
	answers(t, "verified anew", p.Append(again), nil)
}

// Nor must offsets that were verified for the first, and waited for their turn: they have no sequence.
func TestAMarkerEndsVerificationsOfOffsets(t *testing.T) {
	_, p, _ := memPartition(t)
	offsets := func(v *Verification) Batch { return txnFrom(t, 5, 0, batch.NoSequence, v) }
	answers(t, "without verification", p.Append(offsets(nil)), replication.ErrInvalidTxnState)
	late := offsets(nil)
	late.Verified = Verify(p, late.Info.Header)
	answers(t, "marker", p.Append(Marker{ProducerID: 5, ProducerEpoch: 0}.Batch(time.Now())), nil)
	answers(t, "verified before the marker", p.Append(late), replication.ErrInvalidTxnState)
	late.Verified.End()
	again := offsets(nil)
	again.Verified = Verify(p, again.Info.Header)
	defer again.Verified.End()
	answers(t, "verified anew", p.Append(again), nil)
	if v := Verify(p, offsets(nil).Info.Header); v != nil {
		t.Error("a transaction that is open here needs no verification")
	}
	answers(t, "of the open transaction", p.Append(offsets(nil)), nil)
	if o := p.log.Offsets(); o.LastStable >= o.HighWatermark {
		t.Errorf("the transaction should be open: %+v", o)
	}
}

// While the coordinator is asked, it waits for the marker of the transaction before.
func TestAMarkerOfBeforeEndsNoVerification(t *testing.T) {
	_, p, _ := memPartition(t)
	next := txnFrom(t, 5, 1, 0, nil)
	next.Verified = Verify(p, next.Info.Header)
	defer next.Verified.End()
	answers(t, "marker", p.Append(Marker{ProducerID: 5, ProducerEpoch: 1, Bumped: true}.Batch(time.Now())), nil)
	answers(t, "verified before the marker", p.Append(next), nil)
}

func TestMarkersFence(t *testing.T) {
	_, p, _ := memPartition(t)
	open := func(epoch int16) {
		b := txnFrom(t, 5, epoch, 0, nil)
		b.Verified = Verify(p, b.Info.Header)
		answers(t, "open", p.Append(b), nil)
		b.Verified.End()
	}
	open(4)
	answers(t, "a marker of the transaction's own epoch", p.Append(Marker{ProducerID: 5, ProducerEpoch: 4, Bumped: true}.Batch(time.Now())), replication.ErrInvalidProducerEpoch)
	answers(t, "the marker", p.Append(Marker{ProducerID: 5, ProducerEpoch: 5, CoordinatorEpoch: 2, Bumped: true}.Batch(time.Now())), nil)
	answers(t, "the marker again", p.Append(Marker{ProducerID: 5, ProducerEpoch: 5, CoordinatorEpoch: 2, Bumped: true}.Batch(time.Now())), nil)
	answers(t, "an old marker", p.Append(Marker{ProducerID: 5, ProducerEpoch: 4, CoordinatorEpoch: 2}.Batch(time.Now())), replication.ErrInvalidProducerEpoch)
	answers(t, "an old coordinator's", p.Append(Marker{ProducerID: 5, ProducerEpoch: 6, CoordinatorEpoch: 1}.Batch(time.Now())), replication.ErrCoordinatorFenced)
	late := txnFrom(t, 5, 4, 1, nil)
	late.Verified = Verify(p, late.Info.Header)
	answers(t, "a delayed batch", p.Append(late), replication.ErrInvalidProducerEpoch)
	late.Verified.End()
	open(5)
	answers(t, "the marker of before", p.Append(Marker{ProducerID: 5, ProducerEpoch: 5, CoordinatorEpoch: 2, Bumped: true}.Batch(time.Now())), replication.ErrInvalidProducerEpoch)
	if o := p.log.Offsets(); o.LastStable >= o.HighWatermark {
		t.Errorf("the transaction should be open: %+v", o)
	}
	answers(t, "unknown producer", p.Append(Marker{ProducerID: 99, ProducerEpoch: 7, CoordinatorEpoch: 0, Bumped: true}.Batch(time.Now())), nil)
	answers(t, "what was sent before it", p.Append(from(t, 99, 6, 0, 1)), replication.ErrInvalidProducerEpoch)
}

// Everything is decided behind what is in flight: here the disk hangs, and nothing is stored yet.
func TestTransactionsInFlight(t *testing.T) {
	_, p, fsys := memPartition(t)
	hang := make(chan struct{})
	fsys.Add(vfs.Rule{Op: vfs.OpSync, Path: ".log", Hang: hang})
	b := txnFrom(t, 5, 0, 0, nil)
	b.Verified = Verify(p, b.Info.Header)
	defer b.Verified.End()
	pending := []*Pending{
		p.Append(b), p.Append(txnFrom(t, 5, 0, 1, nil)),
		p.Append(Marker{ProducerID: 5, ProducerEpoch: 1, CoordinatorEpoch: 4, Commit: true, Bumped: true}.Batch(time.Now())),
	}
	refused := map[string]*Pending{
		"a marker of an old coordinator": p.Append(Marker{ProducerID: 5, ProducerEpoch: 1, CoordinatorEpoch: 3, Bumped: true}.Batch(time.Now())),
		"a batch of the old epoch":       p.Append(txnFrom(t, 5, 0, 2, b.Verified)),
		"a batch of nobody's":            p.Append(txnFrom(t, 5, 1, 0, nil)),
	}
	next := txnFrom(t, 5, 1, 0, nil)
	next.Verified = Verify(p, next.Info.Header)
	defer next.Verified.End()
	pending = append(pending, p.Append(next))
	for name, pd := range refused {
		select {
		case <-pd.Done():
			if _, err := pd.Wait(context.Background()); err == nil {
				t.Errorf("%s was taken", name)
			}
		default:
			t.Errorf("%s was let through", name)
		}
	}
	close(hang)
	for i, pd := range pending {
		if a, err := pd.Wait(ctx); err != nil || a.Base != batch.Offset(i) {
			t.Errorf("%d: %+v, %v", i, a, err)
		}
	}
	if len(p.flights.producers) > 0 {
		t.Errorf("in flight: %v", p.flights.producers)
	}
}

// What was known of an old client's producer has expired: its next transaction goes on where the one before was. But it begins with
// its first batch, whatever becomes of that.
func TestAnUnknownProducerGoesOnWithATransaction(t *testing.T) {
	_, p, _ := memPartition(t)
	old := func(id int64, sequence int32, v *Verification) Batch {
		b := txnFrom(t, id, 0, sequence, v)
		b.Continues = true
		return b
	}
	verify := func(id int64, sequence int32) *Verification {
		return Verify(p, txnFrom(t, id, 0, sequence, nil).Info.Header)
	}
	v := verify(7, 40)
	answers(t, "it goes on", p.Append(old(7, 40, v)), nil)
	v.End()
	answers(t, "and on", p.Append(old(7, 41, nil)), nil)
	answers(t, "but not anywhere", p.Append(old(7, 43, nil)), replication.ErrOutOfOrderSequence)
	answers(t, "not verified", p.Append(old(8, 40, nil)), replication.ErrInvalidTxnState)

	first, second := verify(9, 40), verify(9, 41)
	answers(t, "the second, while the first is verified", p.Append(old(9, 41, second)), replication.ErrOutOfOrderSequence)
	answers(t, "the first", p.Append(old(9, 40, first)), nil)
	answers(t, "the second again", p.Append(old(9, 41, second)), nil)
	first.End()
	second.End()

	first = verify(10, 40)
	first.Refused(txnFrom(t, 10, 0, 40, nil).Info.Header)
	first.End()
	second = verify(10, 41)
	answers(t, "the second, after the first was not verified", p.Append(old(10, 41, second)), replication.ErrOutOfOrderSequence)
	second.End()
	first = verify(10, 40)
	answers(t, "the first, verified", p.Append(old(10, 40, first)), nil)
	first.End()

	v = verify(11, 40)
	defer v.End()
	answers(t, "of a new client", p.Append(txnFrom(t, 11, 0, 40, v)), replication.ErrOutOfOrderSequence)
	answers(t, "and from its beginning", p.Append(txnFrom(t, 11, 0, 0, v)), nil)
}
