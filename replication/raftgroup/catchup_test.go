package raftgroup

//quorlog:bubble inBubble runs every test of this file in one

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"
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
