package share

//quorlog:bubble run runs every test of this file in one

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// result is the answer for a partition.
func (w *world) result(out *FetchResponse, tp TopicPartition) FetchResult {
	w.t.Helper()
	i := slices.IndexFunc(out.Results, func(r FetchResult) bool { return r.TopicPartition == tp })
	if out.Err != nil || i < 0 {
		w.t.Fatalf("nothing of %v in %+v", tp, out)
	}
	return out.Results[i]
}

// poll sends a fetch that waits up to a minute, in the background.
func (w *world) poll(id string, add ...Wanted) <-chan *FetchResponse {
	r := w.request(id)
	r.MaxWait, r.Partitions = time.Minute, append(r.Partitions, add...)
	got := make(chan *FetchResponse, 1)
	go func() { got <- w.do(r) }()
	synctest.Wait()
	return got
}

// A share-partition that is being loaded holds up neither the records of others nor acknowledgements. Its own records come as
// soon as it is there.
func TestFetchBesideALoad(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.log.produce(t, 4, batch.BuildOptions{})
		w.other.produce(t, 2, batch.BuildOptions{})
		loading := make(chan struct{})
		w.store.slow = map[Key]chan struct{}{theKey: loading}
		begin := time.Now()
		out := <-w.poll("a", Wanted{TopicPartition: otherPart})
		w.want(w.result(out, otherPart).Acquired, 0, 1)
		if got := w.result(out, thePart); got.Err != nil || len(got.Acquired) > 0 {
			t.Errorf("%+v", got)
		}
		if err := w.ack("a", 0, 0, Accept); !errors.Is(err, ErrInvalidRecordState) {
			t.Errorf("an acknowledgement of what nobody has: %v", err)
		}
		got := w.poll("a")
		close(loading)
		w.want(w.result(<-got, thePart).Acquired, 0, 3)
		if d := time.Since(begin); d != 0 {
			t.Errorf("it took %v", d)
		}
	})
}

// What can't be loaded is told to whoever waits for it, at once and once; the next request tries again.
func TestLoadFails(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		loading := make(chan struct{})
		w.store.slow, w.store.leader[theKey] = map[Key]chan struct{}{theKey: loading}, 99
		got := w.poll("a")
		close(loading)
		if r := w.result(<-got, thePart); !errors.Is(r.Err, replication.ErrNotLeader) {
			t.Errorf("%+v", r)
		}
		w.store.mu.Lock()
		w.store.leader[theKey] = 0
		w.store.mu.Unlock()
		w.log.produce(t, 1, batch.BuildOptions{})
		w.want(w.fetch("a"), 0, 0)
	})
}

// loaded counts the share-partitions in memory.
func (w *world) loaded() int {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	return len(w.s.mu.tracked)
}

// A group whose last session has ended leaves nothing in memory, however it ended.
func TestGroupsAreForgotten(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.log.produce(t, 4, batch.BuildOptions{})
		ctx, hangUp := context.WithCancel(t.Context())
		w.doOn(ctx, w.request("a"))
		hangUp()
		synctest.Wait()
		if n := w.loaded(); n != 0 {
			t.Errorf("a lost connection leaves %d", n)
		}
		w.epochs["a"] = 0
		w.want(w.fetch("a"), 0, 3)
		w.fetch("b")
		end := func(id string, acks ...Ack) {
			r := &AckRequest{Member: Member{Group: "g", ID: id, Epoch: FinalSession}, Partitions: []Wanted{{thePart, acks}}}
			if out, err := w.s.Acknowledge(t.Context(), r); err != nil || out.Err != nil {
				t.Fatalf("%+v, %v", out, err)
			}
		}
		end("b")
		if n := w.loaded(); n != 1 {
			t.Errorf("%d while a member is there", n)
		}
		end("a", Ack{First: 0, Last: 1, Types: []AckType{Accept}})
		if n := w.loaded(); n != 0 {
			t.Errorf("the end of its session leaves %d", n)
		}
	})
}

// When as many share-partitions are in memory as may be, what is idle makes room.
func TestRoomForSharePartitions(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.s.most = 1
		w.log.produce(t, 1, batch.BuildOptions{})
		w.other.produce(t, 1, batch.BuildOptions{})
		w.want(w.fetch("a"), 0, 0)
		r := w.request("a")
		r.Partitions = []Wanted{{TopicPartition: otherPart}}
		if got := w.result(w.do(r), otherPart); !errors.Is(got.Err, replication.ErrOffsetNotAvailable) {
			t.Errorf("%+v", got)
		}
		if err := w.ack("a", 0, 0, Accept); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Second)
		r = w.request("a")
		r.Forgotten = []TopicPartition{thePart}
		w.want(w.result(w.do(r), otherPart).Acquired, 0, 0)
	})
}
