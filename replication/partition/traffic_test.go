package partition

import (
	"slices"
	"testing"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// A topic's counts go on while it has a partition here, whichever, and what logs have done is never forgotten.
func TestTraffic(t *testing.T) {
	n, p, _ := memPartition(t)
	q := n.partition(1, testConfig())
	appendTo := func(p *Partition, b Batch) {
		t.Helper()
		if _, err := p.Append(b).Wait(ctx); err != nil {
			t.Fatal(err)
		}
	}
	first, second := from(t, 7, 0, 0, 3), frameOf(t, batch.BuildOptions{}, "v")
	size := int64(len(first.Frame) + len(second.Frame))
	again := Batch{Frame: slices.Clone(first.Frame)}
	appendTo(p, first)
	appendTo(q, second)
	appendTo(p, again) // a duplicate is no more bytes
	wrong := from(t, 7, 0, 9, 1)
	if _, err := p.Append(wrong).Wait(ctx); err == nil {
		t.Error("a sequence with a gap is taken")
	}
	p.Refused(nil, replication.ErrCorrupt)
	p.Refused(nil, replication.ErrNotLeader)
	p.Served(100, nil)
	q.Served(0, replication.ErrOffsetOutOfRange)
	want := Traffic{Topic: p.Topic(), Partitions: 2, BytesIn: size, MessagesIn: 4, BytesOut: 100, Appends: 6, FailedAppends: 2, Fetches: 2, FailedFetches: 1}
	if got := TrafficOf(n.Manager); len(got) != 1 || got[0] != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	before := LogsOf(n.Manager)
	if before.AppendedBytes < size {
		t.Errorf("logs: %+v", before)
	}
	if err := n.Delete(ctx, q.ID()); err != nil {
		t.Fatal(err)
	}
	want.Partitions = 1
	if got := TrafficOf(n.Manager); len(got) != 1 || got[0] != want {
		t.Errorf("after a deletion: %+v, want %+v", got, want)
	}
	if err := n.Delete(ctx, p.ID()); err != nil {
		t.Fatal(err)
	}
	if got := TrafficOf(n.Manager); len(got) != 0 {
		t.Errorf("without partitions: %+v", got)
	}
	if got := LogsOf(n.Manager); got.AppendedBytes < before.AppendedBytes || got.Appends < before.Appends {
		t.Errorf("logs: %+v, before %+v", got, before)
	}
}
