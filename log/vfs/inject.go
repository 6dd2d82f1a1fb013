package vfs

import (
	"fmt"
	"strings"
	"sync"
)

// Rule says when an operation fails, and how.
type Rule struct {
	Op   Op
	Path string // the rule holds for paths that contain it; empty = all
	Nth  int    // the first failing call of those that match, counted from 1; 0 = the first
	Last int    // the last failing call; 0 = only the Nth; negative = every one from the Nth on

	Err error // what the caller gets; nil with Lie or Hang
	// Did makes the operation happen before the error is returned: an fsync that reports an error of a write that did
	// reach the disk.
	Did bool
	// Lie answers nil without doing anything: an fsync of a disk that lies.
	Lie bool
	// Hang blocks until the channel is closed, then goes on as if there were no rule.
	Hang <-chan struct{}

	seen int
}

// Injector is a file system with faults. Rules may be added at any time.
type Injector struct {
	wrapFS
	mu struct {
		sync.Mutex
		rules []*Rule
		trace []string
	}
}

// Inject returns fsys with faults by rule.
func Inject(fsys FS, rules ...Rule) *Injector {
	in := &Injector{}
	in.wrapFS = wrapFS{fsys, in.apply}
	in.Add(rules...)
	return in
}

// Add arms more rules.
func (in *Injector) Add(rules ...Rule) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, r := range rules {
		in.mu.rules = append(in.mu.rules, &r)
	}
}

// Disarm drops all rules.
func (in *Injector) Disarm() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.mu.rules = nil
}

// Trace lists the operations that changed something or failed, in order, as "op path" or "op path: error".
func (in *Injector) Trace() []string {
	in.mu.Lock()
	defer in.mu.Unlock()
	return append([]string(nil), in.mu.trace...)
}

func (in *Injector) match(op Op, path string) *Rule {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, r := range in.mu.rules {
		if r.Op != op || !strings.Contains(path, r.Path) {
			continue
		}
		r.seen++
		first := max(r.Nth, 1)
		last := r.Last
		if last == 0 {
			last = first
		}
		if r.seen >= first && (last < 0 || r.seen <= last) {
			return r
		}
	}
	return nil
}

func (in *Injector) apply(op Op, path string, _ int, do func() error) error {
	r := in.match(op, path)
	var err error
	switch {
	case r == nil:
		err = do()
	case r.Hang != nil:
		<-r.Hang
		err = do()
	case r.Lie:
	default:
		if r.Did {
			_ = do() // the fault is what the caller sees
		}
		err = pathError(op.String(), path, r.Err)
	}
	if op != OpRead && op != OpOpen {
		line := fmt.Sprintf("%v %s", op, path)
		if err != nil {
			line += ": " + err.Error()
		}
		in.mu.Lock()
		in.mu.trace = append(in.mu.trace, line)
		in.mu.Unlock()
	}
	return err
}
