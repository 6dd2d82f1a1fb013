package raftgroup

import (
	"testing"
	"time"
)

// A patrol that overslept gives the others time to be heard, and one that always does looks nevertheless.
func TestWatchman(t *testing.T) {
	const pause = int64(patrolPause)
	w := watchman{last: 1000}
	now := w.last
	looks := func(every int64, times int) (n int) {
		for range times {
			if now += every; w.awake(now) {
				n++
			}
		}
		return n
	}
	if n := looks(pause, 100); n != 100 {
		t.Errorf("on time it looks %d times in 100", n)
	}
	if n := looks(5*int64(time.Second), 1) + looks(pause, int(int64(tenseTime)/pause)-1); n != 0 {
		t.Errorf("it looks %d times within a second after five seconds of sleep", n)
	}
	if n := looks(pause, 2); n != 2 {
		t.Errorf("it looks %d times afterwards", n)
	}
	for _, every := range []int64{3 * pause, 10 * pause, 40 * pause} {
		if n := looks(every, 100); n < 40 {
			t.Errorf("always late, %v apart, it looks %d times in 100", time.Duration(every), n)
		}
	}
}
