package faults

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// FinalRecord notes a record of the final read, which goes from the log start to the log end of each partition in order.
func (h *History) FinalRecord(partition int32, offset int64, raw []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.mu.tracks[partition]
	h.mu.counts.Found++
	t.final.found++
	if offset != t.final.next {
		h.reportLocked(Hole, "partition %d: offset %d follows %d", partition, offset, t.final.next-1)
	}
	t.final.next = offset + 1
	v, o := h.sawLocked(partition, offset, raw, "the final read")
	if o == nil {
		return
	}
	if offset <= o.floor {
		h.reportLocked(TimeTravel, "%v stands at %d, but %d was acknowledged before it was sent", v, offset, o.floor)
	}
	if o.final {
		h.mu.counts.Repeated++
		t.final.repeated++
	}
	o.final = true
	if !h.mu.strict[v.Writer-1] {
		return
	}
	if last, ok := t.final.last[v.Writer]; ok && v.Seq < last {
		h.reportLocked(Reordered, "%v at %d comes after number %d of the same writer", v, offset, last)
	}
	t.final.last[v.Writer] = max(t.final.last[v.Writer], v.Seq)
}

// BeginFinal tells where a partition's final read starts and ends: its log start and its high watermark, asked when all
// writers have stopped. A read that begins again takes the place of the one before.
func (h *History) BeginFinal(partition int32, start, end int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.mu.tracks[partition]
	h.mu.counts.Found -= t.final.found
	h.mu.counts.Repeated -= t.final.repeated
	for _, values := range t.sent {
		for i := range values {
			values[i].final = false
		}
	}
	t.final = finalRead{done: true, start: start, end: end, next: start, last: map[int]int{}}
	if end < t.watermark {
		h.reportLocked(WatermarkBack, "partition %d ends at %d, and its watermark was at %d", partition, end, t.watermark)
	}
	if start < t.logStart {
		h.reportLocked(LogStartBack, "partition %d starts at %d, and had started at %d", partition, start, t.logStart)
	}
}

// Verdict is what became of a history.
type Verdict struct {
	Counts
	Found map[Kind]int
	First []string // the first violations in words
}

// Verdict compares everything. It is called once, after the final read.
func (h *History) Verdict() Verdict {
	h.mu.Lock()
	defer h.mu.Unlock()
	for p, t := range h.mu.tracks {
		if !t.final.done {
			h.reportLocked(Unseen, "partition %d was not read at the end", p)
			continue
		}
		if t.final.next < t.final.end {
			h.reportLocked(Hole, "partition %d: the final read ends before %d, the log at %d", p, t.final.next, t.final.end)
		}
		for _, w := range slices.Sorted(maps.Keys(t.sent)) {
			for seq := range t.sent[w] {
				h.missingLocked(t, Value{w, int32(p), seq}, &t.sent[w][seq])
			}
		}
		for _, r := range h.mu.readers {
			if r.next[int32(p)] < t.final.end {
				h.reportLocked(Unseen, "%s is at %d of partition %d, whose end is %d", r.name, r.next[int32(p)], p, t.final.end)
			}
		}
	}
	return Verdict{h.mu.counts, maps.Clone(h.mu.found), slices.Clone(h.mu.first)}
}

// missingLocked reports a value that must be in the log and is not.
func (h *History) missingLocked(t *track, v Value, o *outcome) {
	if o.final {
		return
	}
	if o.state == acked && (o.offset < 0 && o.read < 0 && t.final.start == 0 || o.offset >= t.final.start) {
		h.reportLocked(Lost, "%v was acknowledged at %d", v, o.offset)
	}
	if o.read >= t.final.start {
		h.reportLocked(Vanished, "%v was read at %d", v, o.read)
	}
}

// Good tells that nothing is wrong and that there was something to check.
func (v Verdict) Good() bool { return len(v.Found) == 0 && v.Acked > 0 }

// String is the verdict in a few lines.
func (v Verdict) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "sent %d, acknowledged %d, refused %d, unknown %d, read %d, in the log %d, repeated by writers without idempotence %d",
		v.Sent, v.Acked, v.Refused, v.Unknown, v.Reads, v.Counts.Found, v.Repeated)
	for _, k := range []Kind{Lost, Duplicate, Reordered, Inconsistent} {
		fmt.Fprintf(&b, "; %s %d", k, v.Found[k])
	}
	for _, k := range slices.Sorted(maps.Keys(v.Found)) {
		if !slices.Contains([]Kind{Lost, Duplicate, Reordered, Inconsistent}, k) {
			fmt.Fprintf(&b, "; %s %d", k, v.Found[k])
		}
	}
	if v.Acked == 0 {
		b.WriteString("; nothing was acknowledged: this has shown nothing")
	}
	for _, text := range v.First {
		b.WriteString("\n  " + text)
	}
	return b.String()
}
