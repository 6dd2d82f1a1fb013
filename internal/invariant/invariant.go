// Package invariant is the one place that may panic. It is for what only a bug of ours can break, where going on would
// put data at risk; bytes from clients, peers and disks get errors instead, never a panic.
package invariant

import (
	"cmp"
	"fmt"
	"strings"
)

// Broken is what a broken invariant panics with.
type Broken struct {
	// What says which invariant, with the values that break it.
	What string
}

// Error implements error, so that a recover at the top of a goroutine can log it and end the process.
func (b *Broken) Error() string { return "broken invariant: " + b.What }

// Check panics with a [*Broken] unless cond holds. The arguments are formatted only then, but they are evaluated always:
// pass values, not the results of work. Checks that cost more than a comparison belong behind [Enabled].
func Check(cond bool, format string, args ...any) {
	if !cond {
		fail(format, args...)
	}
}

// fail is apart from Check so that Check can be inlined.
func fail(format string, args ...any) {
	panic(&Broken{What: fmt.Sprintf(format, args...)})
}

// Unreachable panics: the code that calls it can't be reached.
func Unreachable(format string, args ...any) {
	fail("unreachable: "+format, args...)
}

// Term is a named value of a formula.
type Term[T cmp.Ordered] struct {
	Name  string
	Value T
}

// T names a value.
func T[V cmp.Ordered](name string, value V) Term[V] { return Term[V]{name, value} }

// Holds checks that the values never go down, such as LogStart <= LSO <= HW <= LEO. It returns nil, or an error that
// shows the whole formula with the values and marks each step that fails.
func Holds[V cmp.Ordered](terms ...Term[V]) error {
	var formula strings.Builder
	broken := false
	for i, t := range terms {
		if i > 0 {
			if terms[i-1].Value <= t.Value {
				formula.WriteString(" <= ")
			} else {
				formula.WriteString(" <=! ")
				broken = true
			}
		}
		fmt.Fprintf(&formula, "%s(%v)", t.Name, t.Value)
	}
	if !broken {
		return nil
	}
	return &Broken{What: formula.String()}
}

// Ordered is Holds for code that can't go on: it panics where Holds returns an error.
func Ordered[V cmp.Ordered](terms ...Term[V]) {
	for i := 1; i < len(terms); i++ {
		if inOrder := terms[i-1].Value <= terms[i].Value; !inOrder {
			fail("%s", Holds(terms...).(*Broken).What)
		}
	}
}
