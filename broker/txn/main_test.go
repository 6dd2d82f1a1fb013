package txn

//quorlog:bubble pass is called in bubbles only

import (
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pass lets time go by in a bubble, and everything happen that is due.
func pass(d time.Duration) {
	<-time.After(d + time.Millisecond)
	synctest.Wait()
}
