package log

import (
	"sync"
	"sync/atomic"
)

// verified remembers which frames of a segment had their CRCs checked since the process started. Frames from slot `from` on
// were: this process wrote them, or recovery read them. Of those before, bit i tells; the bits are made at first use,
// because most restarts touch few old segments. A bit is only ever set.
type verified struct {
	from atomic.Int64 // slots at or above it are verified
	once sync.Once
	bits []atomic.Uint64
}

// unverifiedBelow declares that slots below n were not checked yet. It is called before readers can see the segment.
func (v *verified) unverifiedBelow(n int) { v.from.Store(int64(n)) }

// unknown declares that no slot was checked, when the number of slots is not known yet.
func (v *verified) unknown() { v.from.Store(1 << 62) }

func (v *verified) setAll() { v.from.Store(0) }

// load returns the bits of the slots that need one, of n there are.
func (v *verified) load(n int) []atomic.Uint64 {
	v.once.Do(func() { v.bits = make([]atomic.Uint64, (min(int64(n), v.from.Load())+63)/64) })
	return v.bits
}

// has reports whether slot i of n was checked.
func (v *verified) has(i, n int) bool {
	if int64(i) >= v.from.Load() {
		return true
	}
	bits := v.load(n)
	return i/64 < len(bits) && bits[i/64].Load()&(1<<(i%64)) != 0
}

// set records that slot i of n was checked.
func (v *verified) set(i, n int) {
	if int64(i) >= v.from.Load() {
		return
	}
	if bits := v.load(n); i/64 < len(bits) {
		bits[i/64].Or(1 << (i % 64))
	}
}
