package turns

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Some processors are always left to others; whoever gives up waiting is let go, with the reason, and takes nothing.
func TestTurns(t *testing.T) {
	turns := New()
	most := int64(max(1, runtime.GOMAXPROCS(0)/2))
	var working, highest atomic.Int64
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			_ = turns.Do(t.Context(), func() error {
				n := working.Add(1)
				for h := highest.Load(); n > h && !highest.CompareAndSwap(h, n); h = highest.Load() {
				}
				runtime.Gosched()
				working.Add(-1)
				return nil
			})
		})
	}
	all.Wait()
	if highest.Load() > most {
		t.Errorf("%d at the same time, at most %d wanted", highest.Load(), most)
	}

	release := make(chan struct{})
	for range most {
		begun := make(chan struct{})
		all.Go(func() {
			_ = turns.Do(t.Context(), func() error {
				close(begun)
				<-release
				return nil
			})
		})
		<-begun
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the client has gone")
	cancel(why)
	if err := turns.Do(ctx, func() error { t.Error("it was not its turn"); return nil }); !errors.Is(err, why) {
		t.Error(err)
	}
	close(release)
	all.Wait()
	if err := turns.Do(t.Context(), func() error { return why }); !errors.Is(err, why) {
		t.Error(err)
	}
}

// However many wait in one line, who comes into another has few before him.
func TestLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := New()
		long, short := turns.Line(), turns.Line()
		most := max(1, runtime.GOMAXPROCS(0)/2)
		var all sync.WaitGroup
		for range 50 * most {
			all.Go(func() {
				_ = long.Do(t.Context(), func() error {
					time.Sleep(time.Second)
					return nil
				})
			})
		}
		synctest.Wait()
		began := time.Now()
		if err := short.Do(t.Context(), func() error { return nil }); err != nil {
			t.Error(err)
		}
		if waited := time.Since(began); waited > 2*time.Second {
			t.Errorf("waited for %v", waited)
		}
		all.Wait()
	})
}
