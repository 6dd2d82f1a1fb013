package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rate := 1000.0
		p := pace{rate: func() float64 { return rate }}
		began := time.Now()
		move := func(n int, at time.Duration) {
			t.Helper()
			if err := p.wait(t.Context(), n); err != nil {
				t.Fatal(err)
			}
			if got := time.Since(began); got != at {
				t.Errorf("after %v, want %v", got, at)
			}
		}
		move(2000, 0)
		move(500, 2*time.Second)
		rate = 100
		move(100, 2500*time.Millisecond)
		ended, end := context.WithCancel(t.Context())
		end()
		if err := p.wait(ended, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("it waited, and returned %v", err)
		}
		<-time.After(time.Minute)
		move(1, 2500*time.Millisecond+time.Minute) // what was not used meanwhile is lost
		move(1, 2510*time.Millisecond+time.Minute)
	})
}
