package agent

import (
	"testing"

	"go.uber.org/goleak"
)

// A probe of memberlist that is under way when its node stops ends within a second, and nobody can wait for it.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode"))
}
