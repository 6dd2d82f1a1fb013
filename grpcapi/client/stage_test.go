package client

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// Target is the cluster of the examples: one node, started by the first of them.
var Target = sync.OnceValue(func() string {
	return Scheme + ":///" + testcluster.Start(&stage, testcluster.Options{}).Addr
})

// stage stands in for the test that an example does not have.
var stage theatre

type theatre struct {
	testing.TB
	ends []func()
}

// Helper implements testing.TB.
func (s *theatre) Helper() {}

// Failed implements testing.TB: an example tells by its output.
func (s *theatre) Failed() bool { return false }

// Cleanup implements testing.TB.
func (s *theatre) Cleanup(f func()) { s.ends = append(s.ends, f) }

// TempDir implements testing.TB.
func (s *theatre) TempDir() string {
	dir, err := os.MkdirTemp("", "quorlog-example")
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = os.RemoveAll(dir) }) // the system clears what is left
	return dir
}

// Fatal implements testing.TB.
func (s *theatre) Fatal(args ...any) {
	fmt.Fprintln(os.Stderr, args...)
	s.end()
	os.Exit(1)
}

// Fatalf implements testing.TB.
func (s *theatre) Fatalf(format string, args ...any) { s.Fatal(fmt.Sprintf(format, args...)) }

// Errorf implements testing.TB.
func (s *theatre) Errorf(format string, args ...any) { s.Fatal(fmt.Sprintf(format, args...)) }

func (s *theatre) end() {
	ends := s.ends
	s.ends = nil // one that finds a fault ends the stage
	for _, f := range slices.Backward(ends) {
		f()
	}
}

// examples is the tests and examples, and the end of the examples' cluster.
type examples struct{ *testing.M }

// Run implements goleak.TestingM.
func (e *examples) Run() int {
	defer stage.end()
	return e.M.Run()
}
