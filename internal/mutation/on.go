//go:build quorlog_mutations

package mutation

import "sync/atomic"

// Possible tells whether bugs can be planted in this build.
const Possible = true

var planted atomic.Pointer[Name]

// On reports whether a bug is planted.
func On(n Name) bool {
	p := planted.Load()
	return p != nil && *p == n
}

// Plant plants a bug, instead of the one before.
func Plant(n Name) { planted.Store(&n) }
