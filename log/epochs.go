package log

import "sort"

// epochList is the history of terms: where each began. It grows at the end, is cut by truncations, and loses its front
// when the log start moves. Elements are never changed in place, so a reader may keep a copy of the slice.
type epochList []EpochStart

// add notes an entry's term; only the first entry of a term makes a difference.
func (l epochList) add(e Epoch, i Index, o Offset) epochList {
	if n := len(l); n > 0 && l[n-1].Epoch >= e {
		return l
	}
	return append(l, EpochStart{Epoch: e, Index: i, Offset: o})
}

// at returns the term of an index, -1 below the first known.
func (l epochList) at(i Index) Epoch {
	n := sort.Search(len(l), func(k int) bool { return l[k].Index > i })
	if n == 0 {
		return -1
	}
	return l[n-1].Epoch
}

// atOffset returns the epoch of the record at an offset, -1 below the first known.
func (l epochList) atOffset(o Offset) Epoch {
	n := sort.Search(len(l), func(k int) bool { return l[k].Offset > o })
	if n == 0 {
		return -1
	}
	return l[n-1].Epoch
}

// end answers OffsetForLeaderEpoch: the largest known epoch at or below e, and where it ends. An epoch newer than all known
// is undefined (-1, -1); one older than all known ends where the first known begins (KIP-101, KIP-279).
func (l epochList) end(e Epoch, logEnd Offset) (Epoch, Offset) {
	if e < 0 || len(l) == 0 || e > l[len(l)-1].Epoch {
		return -1, -1
	}
	n := sort.Search(len(l), func(k int) bool { return l[k].Epoch > e })
	end := logEnd
	if n < len(l) {
		end = l[n].Offset
	}
	if n == 0 {
		return e, end
	}
	return l[n-1].Epoch, end
}

// trim drops epochs that end at or before index i, and keeps the one that i lies in.
func (l epochList) trim(i Index) epochList {
	n := sort.Search(len(l), func(k int) bool { return l[k].Index > i })
	if n <= 1 {
		return l
	}
	return l[n-1:]
}

const epochSize = 20

func (l epochList) encode(e *encoder) {
	e.u32(uint32(len(l)))
	for _, s := range l {
		e.epoch(s.Epoch)
		e.index(s.Index)
		e.offset(s.Offset)
	}
}

func decodeEpochs(d *decoder) epochList {
	n := d.count(epochSize)
	if n == 0 {
		return nil
	}
	l := make(epochList, n)
	for i := range l {
		l[i] = EpochStart{Epoch: d.epoch(), Index: d.index(), Offset: d.offset()}
	}
	return l
}
