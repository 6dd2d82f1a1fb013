package log

import "time"

// Cleanliness is kept in the footers of the sealed segments: which offset a segment was cleaned up to, against all that
// followed up to there. The clean segments are the front of the log, the last of them perhaps in part; then come dirty ones.

// Dirt tells how much of a log compaction has still to look at, among the segments that may be cleaned: sealed, applied,
// without an open transaction, and older than the least lag.
type Dirt struct {
	CleanBytes int64
	DirtyBytes int64
	// Oldest is about the time of the oldest dirty record, in milliseconds; -1 where that is not known.
	Oldest int64
}

// Ratio is the share of dirty bytes, 0 where nothing may be cleaned: what min.cleanable.dirty.ratio is compared with.
func (d Dirt) Ratio() float64 {
	if d.DirtyBytes == 0 {
		return 0
	}
	return float64(d.DirtyBytes) / float64(d.CleanBytes+d.DirtyBytes)
}

// Dirt looks at the log as it is now. Records younger than minLag are not counted.
func (c *Cleaner) Dirt(now time.Time, minLag time.Duration) (Dirt, error) {
	return again(c.log, func() (Dirt, error) {
		parts, dirty, err := c.cleanable(now, minLag, c.log.AppliedIndex())
		defer releaseParts(parts)
		d := Dirt{Oldest: noTimestamp}
		if err != nil {
			return d, err
		}
		for i := range parts {
			if i < dirty {
				d.CleanBytes += int64(parts[i].end)
			} else {
				d.DirtyBytes += int64(parts[i].end)
			}
		}
		if dirty < len(parts) {
			d.Oldest, err = parts[dirty].oldest()
		}
		return d, err
	})
}

func releaseParts(parts []part) {
	for i := range parts {
		parts[i].release()
	}
}

// cleanable returns the segments up to an applied entry that may be cleaned, oldest first, and the first of them that is dirty. The caller releases.
func (c *Cleaner) cleanable(now time.Time, minLag time.Duration, durable Index) (parts []part, dirty int, err error) {
	l := c.log
	all := l.parts()
	o := l.Offsets()
	n, dirty := 0, -1
	for ; n < len(all); n++ {
		p := &all[n]
		if p.active || p.next.index > durable+1 || p.next.offset > o.LastStable {
			break
		}
		ft, err := p.seg.sealedFooter(p.next)
		if err != nil {
			if p.seg.gone.Load() {
				err = errGone
			}
			releaseParts(all)
			return nil, 0, err
		}
		if dirty < 0 && !ft.cleaned(p.next.offset) {
			dirty = n
		}
		if dirty >= 0 && minLag > 0 && ft.maxTS > now.Add(-minLag).UnixMilli() {
			break
		}
	}
	releaseParts(all[n:])
	if dirty < 0 {
		dirty = n
	}
	return all[:n], min(dirty, n), nil
}

// oldest returns the time of the segment's first batch.
func (p *part) oldest() (int64, error) {
	if err := p.load(); err != nil {
		return noTimestamp, err
	}
	for i := range p.table.n {
		h, ok, err := p.batchHeader(i)
		if err != nil {
			return noTimestamp, err
		}
		if ok && h.MaxTimestamp >= 0 {
			return h.MaxTimestamp, nil
		}
	}
	return noTimestamp, nil
}
