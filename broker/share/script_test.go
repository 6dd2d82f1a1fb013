package share

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quorlog/quorlog/internal/scripts"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// TestScripts plays testdata/*.txt. The commands are told in script.run.
func TestScripts(t *testing.T) {
	scripts.Blocks(t, "testdata/*.txt", func(t *testing.T, out *strings.Builder) func([]string) {
		s := &script{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), settings: DefaultSettings(), given: map[string][]Run{}, out: out}
		s.load(&Durable{})
		return func(words []string) {
			s.run(words)
			s.limit = max(s.limit, s.settings.DeliveryLimit)
			checkInvariants(s.t, s.p, s.limit)
		}
	})
}

// script is a share-partition with the log and the clock beside it.
type script struct {
	t        *testing.T
	now      time.Time
	settings Settings
	limit    int16 // the largest delivery limit so far
	log      []Offered
	p        *Partition
	given    map[string][]Run // what each member acquired last
	out      *strings.Builder
}

func (s *script) load(d *Durable) { s.p = NewPartition(d, s.settings) }

func (s *script) sayf(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

// run understands:
//
//	settings limit=N lock=D inflight=N
//	log A-B ... skip:A-B ...                     the batches of the log
//	load start=N A-B=state/count ...             what was stored
//	acquire MEMBER [records=N] [exact] [from=N]  reads at Next and acquires
//	ack MEMBER A-B=type[,type...] ... [renew]
//	return MEMBER                                its last acquisition, of which it was not told
//	release MEMBER, expire, advance D, trim N, reload, show
func (s *script) run(words []string) {
	args := words[1:]
	switch words[0] {
	case "settings":
		s.set(args)
	case "log":
		s.log = nil
		for _, w := range args {
			r, skip := strings.CutPrefix(w, "skip:")
			first, last := s.offsets(r)
			s.log = append(s.log, Offered{First: first, Last: last, Skip: skip})
		}
	case "load":
		s.load(s.stored(args))
	case "acquire":
		s.acquire(args[0], args[1:])
	case "ack":
		s.acknowledge(args[0], args[1:])
	case "release":
		s.sayf("available again: %v", s.p.ReleaseMember(args[0]))
	case "return":
		s.sayf("available again: %v", s.p.Return(s.given[args[0]]))
	case "expire":
		s.sayf("available again: %v", s.p.Expire(s.now))
	case "advance":
		s.now = s.now.Add(s.duration(args[0]))
	case "trim":
		s.p.Trim(s.offset(args[0]))
	case "reload":
		s.load(s.p.Durable())
	case "show":
		s.show()
	default:
		s.t.Fatalf("unknown command %q", words[0])
	}
}

func (s *script) set(args []string) {
	for _, w := range args {
		k, v, _ := strings.Cut(w, "=")
		switch k {
		case "limit":
			s.settings.DeliveryLimit = int16(s.offset(v))
		case "lock":
			s.settings.LockDuration = s.duration(v)
		case "inflight":
			s.settings.MaxInFlight = int64(s.offset(v))
		default:
			s.t.Fatalf("unknown setting %q", k)
		}
	}
	s.p.Configure(s.settings)
}

var states = map[string]State{"available": Available, "acquired": Acquired, "acknowledged": Acknowledged, "archived": Archived}

func (s *script) stored(args []string) *Durable {
	d := &Durable{}
	for _, w := range args {
		k, v, _ := strings.Cut(w, "=")
		if k == "start" {
			d.Start = s.offset(v)
			continue
		}
		state, count, _ := strings.Cut(v, "/")
		first, last := s.offsets(k)
		d.Runs = append(d.Runs, Run{First: first, Last: last, State: states[state], Count: int16(s.offset(count))})
	}
	return d
}

func (s *script) acquire(member string, args []string) {
	w := Want{Member: member, Records: 500}
	s.p.Expire(s.now)
	from, ok := s.p.Next()
	for _, a := range args {
		switch k, v, _ := strings.Cut(a, "="); k {
		case "records":
			w.Records = int(s.offset(v))
		case "exact":
			w.Exact = true
		case "from":
			from, ok = s.offset(v), true
		}
	}
	if !ok {
		s.sayf("%s: too much is in flight", member)
		return
	}
	i := slices.IndexFunc(s.log, func(o Offered) bool { return o.Last >= from })
	if i < 0 {
		s.sayf("%s: nothing at %d", member, from)
		return
	}
	got := s.p.Acquire(s.now, from, s.log[i:], w)
	s.given[member] = got
	var list []string
	for _, r := range got {
		list = append(list, fmt.Sprintf("%d-%d for the %d. time", r.First, r.Last, r.Count))
	}
	s.sayf("%s acquires at %d: %s", member, from, cmp(strings.Join(list, ", "), "nothing"))
}

func cmp(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

var ackTypes = map[string]AckType{"gap": Gap, "accept": Accept, "release": Release, "reject": Reject, "renew": Renew}

func (s *script) acknowledge(member string, args []string) {
	var acks []Ack
	mayRenew := false
	for _, w := range args {
		if w == "renew" {
			mayRenew = true
			continue
		}
		r, types, _ := strings.Cut(w, "=")
		var a Ack
		a.First, a.Last = s.offsets(r)
		for t := range strings.SplitSeq(types, ",") {
			n, known := ackTypes[t]
			if !known {
				n = AckType(s.offset(t))
			}
			a.Types = append(a.Types, n)
		}
		acks = append(acks, a)
	}
	err := CheckAcks(acks, mayRenew)
	if err == nil {
		err = s.p.Acknowledge(s.now, member, acks)
	}
	switch {
	case err == nil:
		s.sayf("%s: fine", member)
	case errors.Is(err, ErrInvalidRecordState), errors.Is(err, replication.ErrInvalidRequest):
		s.sayf("%s: %v", member, err)
	default:
		s.t.Errorf("an error without a meaning: %v", err)
	}
}

func (s *script) show() {
	s.sayf("from %d to %d", s.p.Start(), s.p.End())
	for _, r := range s.p.Runs() {
		line := fmt.Sprintf("  %d-%d %v, %d deliveries", r.First, r.Last, r.State, r.Count)
		if r.State == Acquired {
			line += fmt.Sprintf(", by %s for %v", r.Member, r.Until.Sub(s.now))
		}
		s.sayf("%s", line)
	}
}

func (s *script) offset(w string) batch.Offset {
	n, err := strconv.ParseInt(w, 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return batch.Offset(n)
}

func (s *script) offsets(w string) (first, last batch.Offset) {
	a, b, ok := strings.Cut(w, "-")
	if !ok {
		b = a
	}
	return s.offset(a), s.offset(b)
}

func (s *script) duration(w string) time.Duration {
	d, err := time.ParseDuration(w)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// checkInvariants holds a share-partition against the formulas in its doc.
func checkInvariants(t testing.TB, p *Partition, limit int16) {
	t.Helper()
	next := p.Start()
	for i, r := range p.Runs() {
		if r.First != next || r.Last < r.First {
			t.Fatalf("run %d is %d to %d, expected from %d", i, r.First, r.Last, next)
		}
		next = r.Last + 1
		if locked := r.State == Acquired; locked != (r.Member != "") || locked == r.Until.IsZero() {
			t.Fatalf("run %d is %v by %q until %v", i, r.State, r.Member, r.Until)
		}
		if i == 0 && r.State.finished() {
			t.Fatalf("the start %d is behind a finished run", p.Start())
		}
		if r.Count < 0 || r.Count > limit {
			t.Fatalf("run %d was delivered %d times of %d", i, r.Count, limit)
		}
	}
	if next != p.End() {
		t.Fatalf("the end is %d, the runs end at %d", p.End(), next)
	}
}
