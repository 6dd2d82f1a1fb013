package faults

import (
	"context"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// TestRetriesAcrossLeaders repeats batches with sequence numbers of its own, before and after the leader that took them was
// killed, and after all nodes were: the new leader must know the last five batches of a producer as the old one did, take
// none of them again, and refuse a number that is ahead.
func TestRetriesAcrossLeaders(t *testing.T) { testRetries(t, 3) }

// TestSingleRetries is the same with one node.
func TestSingleRetries(t *testing.T) { testRetries(t, 1) }

func testRetries(t *testing.T, nodes int) {
	rng, _ := chance(t)
	c := testcluster.StartCluster(t, testcluster.ClusterOptions{Nodes: nodes})
	c.CreateTopic("retries", 1, int16(nodes))
	h := NewHistory(1)
	p := newProber(c.Addrs(), "retries", 0, h, true)
	ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
	defer cancel()
	if !p.begin(ctx) {
		t.Fatal("no producer id")
	}
	defer p.closeAll()
	var sent []Value
	offsets := map[Value]int64{}
	for i := range scaled(6, 60) {
		for range 6 + rng.IntN(10) {
			v := h.Sending(p.writer, 0)
			p.insist(ctx, v)
			sent = append(sent, v)
			if o := h.offsetOf(v); o >= 0 {
				offsets[v] = o
			}
		}
		switch i % 3 {
		case 0:
			if nodes == 1 {
				break
			}
			victim := leaderOf(t, c, "retries", 0)
			c.Kill(victim)
			repeat(ctx, t, p, sent, offsets)
			c.StartAll(victim)
		case 1:
			c.Kill()
			c.StartAll(c.IDs()...)
		case 2:
		}
		repeat(ctx, t, p, sent, offsets)
		ahead := Value{p.writer, 0, len(sent) + 3}
		if err := settled(ctx, p, ahead); !errors.Is(err, kerr.OutOfOrderSequenceNumber) {
			t.Errorf("a batch with number %d after %d got %v", ahead.Seq, len(sent)-1, err)
		}
		awaitWhole(t, c, "retries", 1)
	}
	w, err := dialWire(ctx, c.Node(leaderOf(t, c, "retries", 0)).Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	end, _, err := w.offset("retries", 0, latestOffset)
	if err != nil || end != int64(len(sent)) {
		t.Errorf("the log has %d records (%v), want the %d that were sent", end, err, len(sent))
	}
	if v := h.Verdict(); v.Found[ClientError]+v.Found[Inconsistent]+v.Found[TimeTravel] > 0 {
		t.Error(v)
	}
}

// repeat sends the last five batches again: each must be answered as before, with its offset.
func repeat(ctx context.Context, t *testing.T, p *Prober, sent []Value, offsets map[Value]int64) {
	t.Helper()
	for _, v := range sent[max(0, len(sent)-5):] {
		var got int64
		err := errors.New("not tried")
		for ctx.Err() == nil {
			if got, err = p.send(ctx, v); err == nil || decided(err) {
				break
			}
			p.failed(ctx, err)
		}
		switch want, known := offsets[v]; {
		case err != nil:
			t.Errorf("%v, sent again, got %v", v, err)
		case known && got != want:
			t.Errorf("%v, sent again, got offset %d, before %d", v, got, want)
		}
	}
}

// settled sends a value until the answer is one that a retry would not change.
func settled(ctx context.Context, p *Prober, v Value) error {
	for {
		_, err := p.send(ctx, v)
		if err == nil || decided(err) || ctx.Err() != nil {
			return err
		}
		p.failed(ctx, err)
	}
}

func decided(err error) bool {
	return errors.Is(err, kerr.OutOfOrderSequenceNumber) ||
		errors.Is(err, kerr.UnknownProducerID) || errors.Is(err, kerr.InvalidProducerEpoch)
}
