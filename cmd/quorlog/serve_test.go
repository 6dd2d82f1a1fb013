package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A stop that hangs, on a disk that does not answer, say, does not keep the process.
func TestStopThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		began := time.Now()
		err := stopWithin(func(context.Context) error { <-release; return nil })
		if took := time.Since(began); !errors.Is(err, errStop) || took != stopPatience+closePatience {
			t.Errorf("after %v: %v", took, err)
		}
		// What waits for others has its time, and then there is some left to write checkpoints.
		err = stopWithin(func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(closePatience / 2)
			return nil
		})
		if err != nil {
			t.Errorf("a stop that clients hold up: %v", err)
		}
	})
}

func TestStop(t *testing.T) {
	want := errors.New("the log was not closed")
	if err := stopWithin(func(context.Context) error { return want }); !errors.Is(err, want) {
		t.Error(err)
	}
	if err := stopWithin(func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
}
