package grpcapi

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/fetch"
	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
	"github.com/quorlog/quorlog/internal/turns"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
)

// follower is a replica that holds one record at each of nine offsets, and knows of the first ones only that they are committed.
type follower struct {
	fetch.Partition
	high  atomic.Int64
	heard chan struct{} // what its watch is told by
}

func (f *follower) Lookup(string, int32) (fetch.Partition, error)                { return f, nil }
func (f *follower) LookupID(replication.TopicID, int32) (fetch.Partition, error) { return f, nil }
func (f *follower) Served(int, error)                                            {}
func (f *follower) Offsets(batch.Epoch) (partition.Offsets, error) {
	return partition.Offsets{}, replication.ErrNotLeader
}

func (f *follower) Watch(w chan<- struct{}) func() {
	done := make(chan struct{})
	go func() {
		select {
		case <-f.heard:
			w <- struct{}{}
		case <-done:
		}
	}()
	return func() { close(done) }
}

func (f *follower) Read(r partition.ReadRequest) (fetch.Read, error) {
	high := batch.Offset(f.high.Load())
	out := fetch.Read{Offsets: partition.Offsets{LastStable: high, HighWatermark: high, LogEnd: 9}}
	if r.Offset < high {
		frame, err := batch.Build(batch.BuildOptions{}, batch.Record{Value: []byte("a")})
		batch.Stamp(frame, r.Offset, 1)
		out.Records = kept(frame)
		return out, err
	}
	return out, nil
}

type kept []byte

func (k kept) Len() int                            { return len(k) }
func (k kept) Pieces() ([]fetch.Piece, bool)       { return nil, false }
func (k kept) AppendTo(dst []byte) ([]byte, error) { return append(dst, k...), nil }
func (k kept) Release()                            {}

// Who was told by the leader where to read need not wait for more, but may ask a replica that has not heard as much as the leader.
func TestConsumeWaitsForTheWatermark(t *testing.T) {
	for name, c := range map[string]struct {
		offset int64
		wait   time.Duration
		hears  time.Duration // when the watermark moves on; 0 for never
		took   time.Duration
		count  int
	}{
		"below the watermark":      {1, 0, 0, 0, 1},
		"at the watermark":         {2, 0, time.Second, 0, 0},
		"above it":                 {3, 0, 100 * time.Millisecond, 100 * time.Millisecond, 1},
		"above it, and for ever":   {3, 0, 0, lagWait, 0},
		"above it, for a while":    {3, time.Second, 2 * time.Second, 2 * time.Second, 1},
		"above it, for ever again": {3, time.Second, 0, lagWait, 0},
		"above it, patient":        {3, 2 * lagWait, 0, 2 * lagWait, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &follower{heard: make(chan struct{})}
				f.high.Store(2)
				s := &records{core: &core{
					auth: broker.Everyone{}, memory: newMemory(), ctx: t.Context(),
					o: Options{Fetch: fetch.New(fetch.Options{Partitions: f}), Turns: turns.New(), Now: time.Now, Reason: reasons},
				}}
				if c.hears > 0 {
					time.AfterFunc(c.hears, func() {
						f.high.Store(9)
						close(f.heard)
					})
				}
				began := time.Now()
				out, err := s.Consume(t.Context(), &quorlogv1.ConsumeRequest{
					Topic: "t", Start: &quorlogv1.ConsumeRequest_Offset{Offset: c.offset}, MaxWaitMs: int32(c.wait.Milliseconds()),
				})
				if took := time.Since(began); err != nil || len(out.GetRecords()) != c.count || took != c.took {
					t.Errorf("%d records after %v, %v", len(out.GetRecords()), took, err)
				}
			})
		})
	}
}
