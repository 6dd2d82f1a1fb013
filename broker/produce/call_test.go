package produce

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
)

// nowhere is a cluster without partitions.
type nowhere struct{}

func (nowhere) Lookup(topic string, _ int32) (*partition.Partition, error) {
	if topic == "elsewhere" {
		return nil, replication.ErrNotLeader
	}
	return nil, replication.ErrUnknownPartition
}

func (nowhere) LookupID(replication.TopicID, int32) (*partition.Partition, error) {
	return nil, replication.ErrUnknownTopicID
}

func TestRefusedRequests(t *testing.T) {
	for name, tc := range map[string]struct {
		r    Request
		b    Batch
		want error
	}{
		"acks 2":           {Request{Acks: 2}, Batch{Topic: "t"}, broker.ErrInvalidRequiredAcks},
		"acks -2":          {Request{Acks: -2}, Batch{Topic: "t"}, broker.ErrInvalidRequiredAcks},
		"unknown topic":    {Request{Acks: AcksLeader}, Batch{Topic: "t"}, replication.ErrUnknownPartition},
		"hosted elsewhere": {Request{Acks: AcksNone}, Batch{Topic: "elsewhere"}, replication.ErrNotLeader},
		"unknown id":       {Request{Acks: AcksAll}, Batch{ByID: true, Topic: "t"}, replication.ErrUnknownTopicID},
	} {
		var c Call
		New(Options{Partitions: nowhere{}}).Begin(&c, tc.r)
		c.Add(t.Context(), tc.b)
		c.Add(t.Context(), tc.b)
		got := c.Wait(t.Context(), nil)
		if len(got) != 2 || !c.Ready() || c.AnswerWanted() != (tc.r.Acks != AcksNone) {
			t.Errorf("%s: %+v", name, got)
			continue
		}
		for _, o := range got {
			if !errors.Is(o.Err, tc.want) || o.Base != -1 || o.LogStart != -1 || o.AppendTime != -1 || o.Leader != replication.NoLeader {
				t.Errorf("%s: %+v", name, o)
			}
		}
	}
}

func TestWaitIsBounded(t *testing.T) {
	for in, want := range map[time.Duration]time.Duration{
		-1: leastWait, 0: leastWait, 1: 1, time.Hour: time.Hour, 1000 * time.Hour: mostWait,
	} {
		if got := clampWait(in); got != want {
			t.Errorf("%v becomes %v", in, got)
		}
	}
}

// TestASplitBatch: the first batch of a producer is too large, and the second is on its way already. Java's producer splits the first
// and sends its parts with the first's own sequences. If the second had been taken for a beginning, they would look as if they had been
// stored before.
func TestASplitBatch(t *testing.T) {
	p, stop := onePartition(t, vfs.NewMem())
	defer stop()
	s := New(Options{Partitions: &arriving{part: p}})
	produce := func(sequence int32, values ...string) error {
		var records []batch.Record
		for _, v := range values {
			records = append(records, record("", v, time.Now().UnixMilli()))
		}
		var c Call
		s.Begin(&c, Request{Acks: AcksAll, Timeout: time.Minute, Batches: 1})
		c.Add(t.Context(), Batch{Topic: "t", Records: frame(t, batch.BuildOptions{Producer: &batch.Producer{ID: 5, Sequence: sequence}}, records...)})
		return c.Wait(t.Context(), nil)[0].Err
	}
	half := strings.Repeat("x", int(p.Config().SegmentBytes)*2/3)
	for _, c := range []struct {
		sequence int32
		values   []string
		want     error
	}{
		{0, []string{half, half}, ErrBatchExceedsSegment}, {2, []string{"behind it"}, replication.ErrOutOfOrderSequence},
		{0, []string{half}, nil}, {1, []string{half}, nil}, {2, []string{"behind it"}, nil},
	} {
		if err := produce(c.sequence, c.values...); !errors.Is(err, c.want) {
			t.Errorf("%d from %d on: %v, want %v", len(c.values), c.sequence, err, c.want)
		}
	}
}
