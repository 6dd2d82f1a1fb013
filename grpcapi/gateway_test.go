package grpcapi

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A stream by HTTP ends when its caller no longer is who it was, and not before.
func TestWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		began := time.Now()
		ctx, end := while(t.Context(), func() error {
			if looks++; looks > 3 {
				return errors.New("no such user")
			}
			return nil
		})
		defer end()
		<-ctx.Done()
		if d := time.Since(began); d != 4*renewTime {
			t.Errorf("ended after %v, want %v", d, 4*renewTime)
		}
	})
}
