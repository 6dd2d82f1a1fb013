package produce

import (
	"errors"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker"
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
			if !errors.Is(o.Err, tc.want) || o.Base != -1 || o.LogStart != -1 || o.AppendTime != -1 || o.Leader != noLeader {
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
