// Package allocs measures in tests what is allocated: bad input must not make a node allocate more than it is worth.
package allocs

import "runtime"

// Bytes is how many bytes the process allocates while f runs.
func Bytes(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
