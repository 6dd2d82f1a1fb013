package raftgroup

//quorlog:bubble inBubble runs every test of this file in one

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/replication/transport"
)

// What a learner is sent of the log before it takes as long as it is to; the voters, and what is produced meanwhile, do not wait.
func TestLearnersAreHeldBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const perByte = time.Millisecond
		var paced atomic.Int64
		s := &sim{t: t, pace: func(ctx context.Context, n int) error {
			paced.Add(int64(n))
			timer := time.NewTimer(time.Duration(n) * perByte)
			defer timer.Stop()
			select {
			case <-timer.C:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		s.begin(3, 1)
		defer s.close()
		l := s.leader()
		l.mustProduce(50)
		s.converge(time.Minute)
		if n := paced.Load(); n != 0 {
			t.Errorf("%d bytes to voters were held back", n)
		}
		size := l.log.Size()
		comes := s.add(4)
		comes.start()
		comes.connect()
		began := time.Now()
		if err := l.group.AddReplica(comes.id, false); err != nil {
			t.Fatal(err)
		}
		l.mustProduce(1)
		if took := time.Since(began); took > time.Second {
			t.Errorf("a producer waited for %v", took)
		}
		s.waitFor("the learner has all", time.Hour, func() bool { return comes.log.LastIndex() == l.log.LastIndex() })
		least := size / 2 // the log's own frames and its first entries aside
		if n := paced.Load(); n < least || time.Since(began) < time.Duration(least)*perByte {
			t.Errorf("%d bytes were held back, for %v; the log had %d", n, time.Since(began), size)
		}
	})
}

// A node that stops does not wait for what it holds back.
func TestHeldBackWhileTheGroupCloses(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		held := make(chan struct{})
		once := sync.OnceFunc(func() { close(held) }) // Raft tries again until it is stopped
		s := &sim{t: t, pace: func(ctx context.Context, _ int) error {
			once()
			<-ctx.Done()
			return ctx.Err()
		}}
		s.begin(1, 1)
		defer s.close()
		l := s.leader()
		l.mustProduce(5)
		comes := s.add(2)
		comes.start()
		comes.connect()
		if err := l.group.AddReplica(comes.id, false); err != nil {
			t.Fatal(err)
		}
		<-held
		l.mustProduce(5)
		began := time.Now()
		l.stop()
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %v to stop", took)
		}
	})
}

// learnerEnd answers as a learner does, or refuses what begins behind an entry.
type learnerEnd struct {
	transport.Endpoint
	got    []string
	refuse uint64
}

func (e *learnerEnd) AppendEntries(_ raft.ServerID, _ raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	first, last := args.Entries[0].Index, args.Entries[len(args.Entries)-1].Index
	e.got = append(e.got, fmt.Sprintf("%d-%d behind %d of term %d", first, last, args.PrevLogEntry, args.PrevLogTerm))
	*resp = raft.AppendEntriesResponse{Term: args.Term, LastLog: last, Success: args.PrevLogEntry != e.refuse}
	return nil
}

func TestCatchUpPieces(t *testing.T) {
	var paced []int
	w := &wire{link: &link{group: &Group{o: Options{Pace: func(_ context.Context, n int) error {
		paced = append(paced, n)
		return nil
	}}}}, in: &instance{life: t.Context()}}
	req := &raft.AppendEntriesRequest{Term: 9, PrevLogEntry: 4, PrevLogTerm: 2}
	for i, size := range []int{600 << 10, 600 << 10, 100, 3 << 20, 10, 20} {
		req.Entries = append(req.Entries, &raft.Log{Index: uint64(5 + i), Term: uint64(3 + i), Data: make([]byte, size)})
	}
	for _, c := range []struct {
		refuse uint64
		want   []string
		last   uint64
	}{
		{0, []string{"5-5 behind 4 of term 2", "6-7 behind 5 of term 3", "8-8 behind 7 of term 5", "9-10 behind 8 of term 6"}, 10},
		{7, []string{"5-5 behind 4 of term 2", "6-7 behind 5 of term 3", "8-8 behind 7 of term 5"}, 8},
	} {
		paced = nil
		end, resp := &learnerEnd{refuse: c.refuse}, &raft.AppendEntriesResponse{}
		if err := w.catchUp(end, raft.Server{}, req, resp); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(end.got, c.want) || resp.LastLog != c.last || resp.Success != (c.refuse == 0) {
			t.Errorf("%q, %+v", end.got, resp)
		}
		if want := []int{600 << 10, 600<<10 + 100, 3 << 20, 30}[:len(c.want)]; !slices.Equal(paced, want) {
			t.Errorf("paced %v", paced)
		}
	}
	if len(req.Entries) != 6 || req.PrevLogEntry != 4 {
		t.Error("the request was changed: Raft goes by it")
	}
}
