package txn

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/internal/scripts"
)

// TestScripts plays testdata/*.txt. The commands are told in script.run.
func TestScripts(t *testing.T) {
	scripts.Blocks(t, "testdata/*.txt", func(t *testing.T, out *strings.Builder) func([]string) { return newScript(t, out).run })
}

// script is a machine with the world around it.
type script struct {
	t       *testing.T
	limits  Limits
	machine *Machine
	now     time.Time
	calls   CallID
	again   map[CallID]func(fresh ProducerID) Event // a request once more, with a producer id
	fresh   ProducerID
	held    bool // writes wait for "written" or "refused"
	writes  []Write
	marks   []Mark // markers wait for "marked"
	out     *strings.Builder
}

var scriptStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newScript(t *testing.T, out *strings.Builder) *script {
	s := &script{t: t, out: out, limits: DefaultLimits(), now: scriptStart, again: map[CallID]func(ProducerID) Event{}, fresh: 100}
	s.machine = NewMachine("id", &s.limits)
	return s
}

// run plays one command. A producer is named ID:EPOCH; "v1" makes a request one of a client of before KIP-890.
//
//	init [ID:EPOCH] [timeout=1m]      add ID:EPOCH TOPIC/N...      commit|abort ID:EPOCH      verify ID:EPOCH TOPIC/N...
//	marked [TOPIC/N...]               written | refused | hold     advance 1m | reload | show
//	jump EPOCH makes it the epoch: 32,766 transactions later
func (s *script) run(words []string) {
	v := V2
	if i := slices.Index(words, "v1"); i > 0 {
		v, words = V1, slices.Delete(words, i, i+1)
	}
	switch words[0] {
	case "limits":
		s.limits.MaxPartitions = number(strings.TrimPrefix(words[1], "partitions="))
	case "hold":
		s.held = true
	case "init":
		s.init(words[1:])
	case "add":
		s.call(func(c CallID, _ ProducerID) Event {
			return AddPartitions{Call: c, Identity: identity(words[1]), Partitions: partitionsOf(words[2:]), Version: v}
		})
	case "commit", "abort":
		s.call(func(c CallID, fresh ProducerID) Event {
			return End{Call: c, Identity: identity(words[1]), Commit: words[0] == "commit", Version: v, Fresh: fresh}
		})
	case "verify":
		s.verify(identity(words[1]), partitionsOf(words[2:]))
	case "marked":
		s.marked(partitionsOf(words[1:]))
	case "written":
		s.settle(nil)
	case "refused":
		s.settle(broker.ErrNotCoordinator)
	case "advance":
		s.advance(words[1])
	case "reload":
		s.reload()
	case "jump":
		s.jump(Epoch(number(words[1])))
	case "show":
		s.show()
	default:
		s.t.Fatalf("unknown command %q", words[0])
	}
}

func (s *script) init(words []string) {
	expected, timeout := noIdentity, time.Minute
	for _, w := range words {
		if v, ok := strings.CutPrefix(w, "timeout="); ok {
			timeout = duration(v)
		} else {
			expected = identity(w)
		}
	}
	s.call(func(c CallID, fresh ProducerID) Event {
		return InitProducer{Call: c, Expected: expected, Timeout: timeout, Fresh: fresh}
	})
}

// call makes a request, without a fresh producer id at first.
func (s *script) call(event func(CallID, ProducerID) Event) {
	s.calls++
	c := s.calls
	s.again[c] = func(fresh ProducerID) Event { return event(c, fresh) }
	s.step(event(c, None))
}

// number is -1000 for what is no number: a script is part of the test's source, and its output would be plainly wrong.
func number(v string) int {
	n, err := strconv.Atoi(v)
	if err != nil {
		return -1000
	}
	return n
}

func duration(v string) time.Duration {
	d, err := time.ParseDuration(v)
	if err != nil {
		return -time.Hour
	}
	return d
}

func identity(w string) Identity {
	id, epoch, _ := strings.Cut(w, ":")
	return Identity{ProducerID(number(id)), Epoch(number(epoch))}
}

func partitionsOf(words []string) []Partition {
	var all []Partition
	for _, w := range words {
		topic, n, _ := strings.Cut(w, "/")
		all = append(all, Partition{Topic: topic, Index: int32(number(n))})
	}
	return all
}

func (s *script) step(ev Event) {
	for _, f := range slices.Clone(s.machine.Step(s.now, ev)) {
		s.tell(f)
	}
	checkMachine(s.t, s.machine)
	for !s.held && len(s.writes) > 0 {
		s.settle(nil)
	}
}

func (s *script) settle(err error) {
	if len(s.writes) == 0 {
		s.t.Fatalf("nothing is being written; so far:\n%s", s.out.String())
	}
	w := s.writes[0]
	s.writes = s.writes[1:]
	s.step(Written{Seq: w.Seq, Err: err})
}

// marked tells that markers are written: those named, or all.
func (s *script) marked(named []Partition) {
	marks := s.marks
	for i, m := range marks {
		for _, p := range m.Partitions {
			if named == nil || slices.Contains(named, p) {
				s.step(Marked{Identity: Identity{m.ProducerID, m.Epoch}, Partition: p})
			}
		}
		if named == nil && i == len(marks)-1 {
			s.marks = s.marks[len(marks):]
		}
	}
}

// advance lets time pass, with a tick whenever the machine wants one.
func (s *script) advance(v string) {
	until := s.now.Add(duration(v))
	for {
		d := s.machine.Deadline()
		if d.IsZero() || d.After(until) {
			break
		}
		if d.After(s.now) {
			s.now = d
		}
		before := s.out.Len()
		s.step(Tick{})
		if s.out.Len() > before {
			told := s.out.String()[before:]
			rest := s.out.String()[:before]
			s.out.Reset()
			s.out.WriteString(rest + fmt.Sprintf("  (at %v)\n", s.now.Sub(scriptStart)) + told)
		}
	}
	s.now = until
}

// reload takes the id through its stored form to a new coordinator.
func (s *script) reload() {
	at := s.machine.at
	_, value := Record{ID: "id", Metadata: &at}.Encode()
	key, _ := Record{ID: "id"}.Encode()
	r, err := Decode(key, value)
	if err != nil {
		s.t.Fatal(err)
	}
	s.machine = NewMachine("id", &s.limits)
	s.machine.Restore(*r.Metadata)
	s.writes, s.marks = nil, nil
	s.step(Tick{})
}

func (s *script) jump(e Epoch) {
	s.machine.at.Epoch, s.machine.head.Epoch = e, e
}

func (s *script) verify(id Identity, partitions []Partition) {
	each, err := s.machine.Verify(id.ProducerID, id.Epoch, partitions)
	fmt.Fprintf(s.out, "verify: %s\n", prose(err))
	for i, err := range each {
		fmt.Fprintf(s.out, "  %s/%d: %s\n", partitions[i].Topic, partitions[i].Index, prose(err))
	}
}

func prose(err error) string {
	if err == nil {
		return "fine"
	}
	return err.Error()
}

func (s *script) tell(f Effect) {
	switch f := f.(type) {
	case Reply:
		fmt.Fprintf(s.out, "%d: %s\n", f.Call, prose(f.Err))
	case ReplyIdentity:
		if f.Err != nil {
			fmt.Fprintf(s.out, "%d: %v\n", f.Call, f.Err)
		} else {
			fmt.Fprintf(s.out, "%d: go on as %d:%d\n", f.Call, f.ProducerID, f.Epoch)
			if f.Epoch > lastEpoch {
				s.t.Errorf("a producer is to go on as %d:%d", f.ProducerID, f.Epoch)
			}
		}
	case NeedID:
		s.fresh++
		s.step(s.again[f.Call](s.fresh))
	case Write:
		s.writes = append(s.writes, f)
		fmt.Fprintf(s.out, "  writes %s\n", metadataProse(f.Record.Metadata))
	case Mark:
		s.marks = append(s.marks, f)
		what := "abort"
		if f.Commit {
			what = "commit"
		}
		fmt.Fprintf(s.out, "  wants markers: %s of %d:%d to %s\n", what, f.ProducerID, f.Epoch, list(f.Partitions))
	case Forget:
		s.out.WriteString("  the id is forgotten\n")
		s.machine = NewMachine("id", &s.limits)
	}
}

func list(partitions Partitions) string {
	var out []string
	for _, p := range partitions {
		out = append(out, fmt.Sprintf("%s/%d", p.Topic, p.Index))
	}
	return strings.Join(out, " ")
}

func metadataProse(m *Metadata) string {
	if m == nil {
		return "a tombstone"
	}
	out := fmt.Sprintf("%v as %d:%d", m.State, m.ProducerID, m.Epoch)
	if m.NextID != None {
		out += fmt.Sprintf(", next %d", m.NextID)
	}
	if len(m.Partitions) > 0 {
		out += ", " + list(m.Partitions)
	}
	return out
}

func (s *script) show() {
	if s.machine.Blank() {
		s.out.WriteString("nothing is known\n")
		return
	}
	at := s.machine.Metadata()
	s.out.WriteString(metadataProse(&at) + "\n")
}

// checkMachine holds what must be true between steps.
func checkMachine(t interface{ Fatalf(string, ...any) }, m *Machine) {
	switch {
	case len(m.writes) == 0 && (m.head.State != m.at.State || m.head.Epoch != m.at.Epoch || m.head.ProducerID != m.at.ProducerID):
		t.Fatalf("nothing is being written, but %+v is to become %+v", m.at, m.head)
	case m.at.State == Ongoing && (len(m.at.Partitions) == 0 || m.at.Started.IsZero()):
		t.Fatalf("a transaction without a beginning: %+v", m.at)
	case !m.at.State.prepared() && m.at.State != Ongoing && len(m.at.Partitions) > 0:
		t.Fatalf("partitions without a transaction: %+v", m.at)
	case m.at.NextID != None && !m.at.State.prepared():
		t.Fatalf("a next producer id in state %v", m.at.State)
	case !m.at.State.prepared() && m.at.Epoch > lastEpoch && m.at.State != CompleteAbort:
		t.Fatalf("epoch %d was given out", m.at.Epoch)
	case !slices.IsSortedFunc(m.at.Partitions, comparePartitions):
		t.Fatalf("partitions out of order: %v", m.at.Partitions)
	}
}
