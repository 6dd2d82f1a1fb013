// Package allocs measures in tests what is allocated: bad input must not make a node allocate more than it is worth.
package allocs

import (
	"runtime"
	"runtime/debug"
)

// Bytes is how many bytes the process allocates while f runs. The collector waits meanwhile: it would empty the pools.
func Bytes(f func()) uint64 {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
