package vfs

import (
	"iter"
	"math/bits"
)

// SectorSize is what a disk writes as a whole, in bytes: a torn write tears between sectors.
const SectorSize = 512

// sectorSet is a set of sector numbers. A bitmap, because writes come in long runs, with bounds, because they come at the
// end of long files.
type sectorSet struct {
	words  []uint64
	lo, hi int // only words[lo:hi] may hold bits
}

func (s *sectorSet) has(sector int64) bool {
	w := int(sector / 64)
	return w >= s.lo && w < s.hi && s.words[w]&(1<<(sector%64)) != 0
}

// add puts in the sectors that the bytes [from, to) touch.
func (s *sectorSet) add(from, to int64) {
	if from >= to {
		return
	}
	first, last := from/SectorSize, (to-1)/SectorSize
	lo, hi := int(first/64), int(last/64)+1
	for len(s.words) < hi {
		s.words = append(s.words, 0)
	}
	if s.lo == s.hi {
		s.lo, s.hi = lo, hi
	}
	s.lo, s.hi = min(s.lo, lo), max(s.hi, hi)
	for sector := first; sector <= last; sector++ {
		s.words[sector/64] |= 1 << (sector % 64)
	}
}

// drop takes out the sectors that the bytes [from, to) touch.
func (s *sectorSet) drop(from, to int64) {
	if from >= to || s.lo == s.hi {
		return
	}
	for sector := from / SectorSize; sector <= (to-1)/SectorSize; sector++ {
		if w := int(sector / 64); w >= s.lo && w < s.hi {
			s.words[w] &^= 1 << (sector % 64)
		}
	}
}

// merge puts in all sectors of another set.
func (s *sectorSet) merge(other *sectorSet) {
	for sector := range other.all() {
		s.add(sector*SectorSize, (sector+1)*SectorSize)
	}
}

// clear empties the set and keeps its memory.
func (s *sectorSet) clear() {
	clear(s.words[s.lo:s.hi])
	s.lo, s.hi = 0, 0
}

// all yields the sectors in ascending order.
func (s *sectorSet) all() iter.Seq[int64] {
	return func(yield func(int64) bool) {
		for w := s.lo; w < s.hi; w++ {
			for word := s.words[w]; word != 0; word &= word - 1 {
				if !yield(int64(w)*64 + int64(bits.TrailingZeros64(word))) {
					return
				}
			}
		}
	}
}

func (s *sectorSet) empty() bool {
	for range s.all() {
		return false
	}
	return true
}
