package keeper

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/broker/share"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"

	"github.com/quorlog/quorlog/internal/scripts"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestScripts plays testdata/*.txt. The commands are told in script.run.
func TestScripts(t *testing.T) {
	scripts.Blocks(t, "testdata/*.txt", func(t *testing.T, out *strings.Builder) func([]string) {
		return (&script{t: t, m: NewMachine(testKey, nil), out: out}).run
	})
}

var testKey = share.Key{Group: "g", Topic: replication.TopicID{7}, Partition: 1}

// stateEpoch0 is what the script's clock gives the first state; scripts tell epochs from there.
const stateEpoch0 = 1000

type script struct {
	t     *testing.T
	m     *Machine
	calls coordinator.CallID
	held  bool
	flown []Store
	out   *strings.Builder
}

// run understands, with LE a leader epoch, SE a state epoch counted from the first, and V a version:
//
//	read LE, write LE SE V start=N, look, set N, delete, sweep gone|there
//	hold                         writes wait
//	written, refused             end the oldest one that waits
//	reload                       another node takes over
func (s *script) run(words []string) {
	n := func(i int) int64 {
		v, err := strconv.ParseInt(strings.TrimPrefix(words[i], "start="), 10, 64)
		if err != nil {
			s.t.Fatal(err)
		}
		return v
	}
	switch words[0] {
	case "read":
		s.call(&Request{Op: Read, LeaderEpoch: batch.Epoch(n(1))})
	case "write":
		d := &share.Durable{StateEpoch: stateEpoch0 + int32(n(2)), Version: int32(n(3)), Start: batch.Offset(n(4))}
		s.call(&Request{Op: Write, LeaderEpoch: batch.Epoch(n(1)), State: d})
	case "large":
		d := &share.Durable{StateEpoch: stateEpoch0, Runs: make([]share.Run, share.MaxRuns+1)}
		s.call(&Request{Op: Write, LeaderEpoch: 1, State: d})
	case "look":
		s.call(&Request{Op: Look})
	case "set":
		s.call(&Request{Op: Set, Start: batch.Offset(n(1))})
	case "delete":
		s.call(&Request{Op: Delete})
	case "strange":
		s.call(&Request{Op: 9})
	case "sweep":
		s.step(Sweep{Gone: func(replication.TopicID) bool { return words[1] == "gone" }})
	case "hold":
		s.held = true
	case "written", "refused":
		w := s.flown[0]
		s.flown = s.flown[1:]
		s.end(w, words[0] == "written")
	case "reload":
		s.m = NewMachine(testKey, s.m.stored)
		s.flown = nil
	default:
		s.t.Fatalf("unknown command %q", words[0])
	}
}

func (s *script) call(q *Request) {
	s.calls++
	s.step(Call{ID: s.calls, Request: q})
}

func (s *script) end(w Store, ok bool) {
	var err error
	if !ok {
		err = replication.ErrNotEnoughReplicas
	}
	s.step(Written{Seq: w.Seq, Err: err})
}

func (s *script) step(ev Event) {
	// The machine's memory is used again by the next step.
	for _, f := range append([]Effect(nil), s.m.Step(time.Unix(stateEpoch0, 0), ev)...) {
		switch f := f.(type) {
		case Reply:
			fmt.Fprintf(s.out, "%d: %s\n", f.Call, answerText(f))
		case Store:
			fmt.Fprintf(s.out, "  writes %s\n", storedText(f.Record.State))
			if s.held {
				s.flown = append(s.flown, f)
			} else {
				s.end(f, true)
			}
		}
	}
	if s.m.Blank() {
		s.out.WriteString("  nothing is known\n")
	}
}

func answerText(r Reply) string {
	for _, known := range []error{share.ErrFencedStateEpoch, replication.ErrFencedLeaderEpoch, replication.ErrInvalidRequest,
		replication.ErrNotEnoughReplicas, broker.ErrCoordinatorLoading} {
		if errors.Is(r.Err, known) {
			return known.Error()
		}
	}
	if r.Err != nil {
		return "an error without a meaning"
	}
	if r.State == nil {
		return "nothing"
	}
	return fmt.Sprintf("start %d, state epoch +%d, version %d", r.State.Start, r.State.StateEpoch-stateEpoch0, r.State.Version)
}

func storedText(s *Stored) string {
	if s == nil {
		return "a tombstone"
	}
	return fmt.Sprintf("start %d, state epoch +%d, leader epoch %d, version %d", s.Start, s.StateEpoch-stateEpoch0, s.LeaderEpoch, s.Version)
}
