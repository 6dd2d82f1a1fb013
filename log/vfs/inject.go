package vfs

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Rule says which calls go wrong, and how. All conditions must hold; Do, Delay and Hang come first, in this order, then
// the fault. A rule without Err, Short and Lie lets the call go through.
type Rule struct {
	Op    Op                     // OpAny: every kind that changes something
	Path  string                 // the path contains it; empty: any path
	Match func(path string) bool // nil: any path. A regexp's MatchString fits
	Nth   int                    // the first call that goes wrong, of those that match, counted from 1; 0 is 1
	Last  int                    // the last call that does; 0: only the Nth; negative: all from the Nth on

	// Do runs first, on the caller's goroutine: a test crashes the file system there, or notes where it is.
	Do    func(Call)
	Delay time.Duration
	// Hang blocks until the channel is closed.
	Hang <-chan struct{}

	// Err is what the caller gets. The call is not done, unless Did is set: an error about something that did reach the
	// disk. A failed Sync leaves a [Mem] as it leaves a kernel: what was unsynced can be read, but no later Sync that
	// "succeeds" makes it durable.
	Err error
	Did bool
	// Short lets so many bytes of a write through before the error, io.ErrShortWrite unless Err is set; negative: half.
	Short int
	// Lie answers nil without doing anything: the fsync of a disk that lies. It can't be told of Open, Create, Map, Lock.
	Lie bool
}

// maxTrace bounds the calls that an Injector remembers; of more, the newest stay.
const maxTrace = 1 << 16

// Injector is a file system with faults. Rules may be added and dropped at any time.
type Injector struct {
	wrapFS
	mu struct {
		sync.Mutex
		rules []*Armed
		trace []Call
	}
}

// Armed is a rule at work.
type Armed struct {
	in         *Injector
	rule       Rule
	seen, hits int // guarded by in.mu
}

// Inject returns fsys with faults by rule.
func Inject(fsys FS, rules ...Rule) *Injector {
	in := &Injector{}
	in.wrapFS = wrapFS{fsys, in}
	in.Add(rules...)
	return in
}

// Arm adds a rule. Where several fit a call, all count it and the first one that is due decides.
func (in *Injector) Arm(rule Rule) *Armed {
	in.mu.Lock()
	defer in.mu.Unlock()
	a := &Armed{in: in, rule: rule}
	in.mu.rules = append(in.mu.rules, a)
	return a
}

// Add arms several rules.
func (in *Injector) Add(rules ...Rule) {
	for _, r := range rules {
		in.Arm(r)
	}
}

// Disarm drops all rules. Calls that hang go on hanging until their channel is closed.
func (in *Injector) Disarm() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.mu.rules = nil
}

// Disarm drops the rule.
func (a *Armed) Disarm() {
	a.in.mu.Lock()
	defer a.in.mu.Unlock()
	for i, other := range a.in.mu.rules {
		if other == a {
			a.in.mu.rules = append(a.in.mu.rules[:i:i], a.in.mu.rules[i+1:]...)
			return
		}
	}
}

// Hits is how many calls the rule has decided.
func (a *Armed) Hits() int {
	a.in.mu.Lock()
	defer a.in.mu.Unlock()
	return a.hits
}

// Calls lists, in the order in which they ended, the calls that change something and those that a rule made fail.
func (in *Injector) Calls() []Call {
	in.mu.Lock()
	defer in.mu.Unlock()
	return append([]Call(nil), in.mu.trace...)
}

// Trace is Calls as lines: "op path" or "op path: error".
func (in *Injector) Trace() []string {
	calls := in.Calls()
	out := make([]string, len(calls))
	for i, c := range calls {
		out[i] = c.String()
	}
	return out
}

// ResetTrace forgets the calls so far.
func (in *Injector) ResetTrace() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.mu.trace = nil
}

// AfterFailure lists the calls that ended after the first failed write, sync, truncation or sync of a directory: what a
// caller that stops at the first such failure never makes.
func (in *Injector) AfterFailure() []Call {
	calls := in.Calls()
	for i, c := range calls {
		switch c.Op {
		case OpWrite, OpSync, OpTruncate, OpSyncDir:
			if c.Err != nil {
				return calls[i+1:]
			}
		}
	}
	return nil
}

// String is a line of a trace.
func (c Call) String() string {
	if c.Err != nil {
		return fmt.Sprintf("%v %s: %v", c.Op, c.Path, c.Err)
	}
	return fmt.Sprintf("%v %s", c.Op, c.Path)
}

func (r *Rule) fits(c Call) bool {
	return (r.Op == c.Op || r.Op == OpAny && c.Op.Changes()) &&
		strings.Contains(c.Path, r.Path) && (r.Match == nil || r.Match(c.Path))
}

// due tells whether the rule decides the n-th call that fits it.
func (r *Rule) due(n int) bool {
	first := max(r.Nth, 1)
	return n == first || n > first && (r.Last < 0 || n <= r.Last)
}

// decide finds the rule for a call.
func (in *Injector) decide(c Call) (rule Rule, found bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, a := range in.mu.rules {
		if !a.rule.fits(c) {
			continue
		}
		a.seen++
		if !found && a.rule.due(a.seen) {
			a.hits++
			rule, found = a.rule, true
		}
	}
	return rule, found
}

// before implements probe. It waits here, outside any lock, where the rule says so.
func (in *Injector) before(c Call) verdict {
	r, found := in.decide(c)
	if !found {
		return verdict{}
	}
	if r.Do != nil {
		r.Do(c)
	}
	if r.Delay > 0 {
		time.Sleep(r.Delay)
	}
	if r.Hang != nil {
		<-r.Hang
	}
	return r.verdict(c)
}

func (r *Rule) verdict(c Call) verdict {
	v := verdict{}
	if r.Err != nil {
		v = verdict{skip: !r.Did, err: pathError(c.Op.String(), c.Path, r.Err), forget: !r.Did}
	}
	switch {
	case r.Lie:
		v = verdict{skip: true}
	case r.Short != 0 && c.Op == OpWrite:
		v.skip, v.clipped, v.clip = false, true, r.Short
		if r.Short < 0 {
			v.clip = c.Len / 2
		}
		if v.err == nil {
			v.err = pathError(c.Op.String(), c.Path, io.ErrShortWrite)
		}
	}
	return v
}

// after implements probe.
func (in *Injector) after(c Call, v verdict, err error) {
	if !c.Op.Changes() && v.err == nil {
		return
	}
	c.Err = err
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.mu.trace) == maxTrace {
		in.mu.trace = append([]Call(nil), in.mu.trace[maxTrace/2:]...)
	}
	in.mu.trace = append(in.mu.trace, c)
}
