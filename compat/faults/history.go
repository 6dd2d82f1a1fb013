package faults

import (
	"fmt"
	"sync"
)

// Kind names what can be wrong with a history. Each has a planted history in verdict_test.go that shows it.
type Kind string

// The kinds. A run is good when none was found.
const (
	Lost          Kind = "lost"           // acknowledged, at or above the log start, and not in the log
	Vanished      Kind = "vanished"       // a reader saw it, and it is not in the log
	Duplicate     Kind = "duplicate"      // an idempotent writer's value at two offsets
	Reordered     Kind = "reordered"      // an idempotent writer's values in another order than they were sent
	Inconsistent  Kind = "inconsistent"   // one offset, two values, or a value elsewhere than its acknowledgement says
	TimeTravel    Kind = "time travel"    // sent after another was acknowledged, and stands before it
	Damaged       Kind = "damaged"        // bytes that nobody sent
	Stranger      Kind = "stranger"       // a value that was never sent, or to another partition
	RefusedRead   Kind = "refused read"   // answered "not done", and in the log all the same
	Skipped       Kind = "skipped"        // a reader got an offset beyond the next one
	Reread        Kind = "reread"         // a reader got an offset again
	Unseen        Kind = "unseen"         // a reader never reached the end of the log
	Hole          Kind = "hole"           // the log has no record at an offset between its start and its end
	WatermarkBack Kind = "watermark back" // the high watermark went back, within an epoch or to a later one
	LogStartBack  Kind = "log start back" // the same for the log start
	TwoLeaders    Kind = "two leaders"    // one leader epoch, two leaders
	Divergent     Kind = "divergent"      // two replicas that should be equal are not
	ClientError   Kind = "client error"   // an error reached a client that should not see one
)

// state of a sent value.
type state uint8

const (
	pending state = iota // no answer yet: as unknown
	acked
	refused // definitely not done
	unknown
)

// outcome is all that is known of one value.
type outcome struct {
	state  state
	final  bool  // the final read saw it
	offset int64 // as acknowledged; -1: not told
	read   int64 // where a reader saw it first; -1: nowhere
	floor  int64 // the highest offset of the partition that was acknowledged before this value was sent; -1: none
}

// track is the history of one partition.
type track struct {
	sent      map[int][]outcome // writer -> its values by sequence number
	at        []Value           // the value at each offset, by acknowledgement or reading; Writer 0: not known
	top       int64             // highest acknowledged offset, -1: none
	epoch     int32             // highest leader epoch seen with a watermark
	watermark int64             // highest seen in epoch
	logStart  int64
	leaders   map[int32]int // epoch -> leader
	final     finalRead
}

// finalRead is what the read at the end has found so far.
type finalRead struct {
	done       bool
	start, end int64
	next       int64       // the offset that must come next
	last       map[int]int // strict writer -> its last sequence number
	found      int         // this read's part of Counts.Found
	repeated   int         // and of Counts.Repeated
}

// History collects what all clients of one topic see. All methods may be called at once.
type History struct {
	mu struct {
		sync.Mutex
		strict  []bool // by writer-1: idempotent, in order
		tracks  []*track
		readers []*Reader
		found   map[Kind]int
		first   []string // the first few violations, in words
		counts  Counts
	}
}

// Counts are the figures of a history.
type Counts struct {
	Sent, Acked, Refused, Unknown int
	Reads                         int // records that readers got
	Found                         int // records of the final read
	Repeated                      int // values of writers without idempotence that are in the log more than once, which is allowed
}

// NewHistory is the empty history of a topic.
func NewHistory(partitions int32) *History {
	h := &History{}
	h.mu.found = map[Kind]int{}
	for range partitions {
		h.mu.tracks = append(h.mu.tracks, &track{sent: map[int][]outcome{}, top: -1, leaders: map[int32]int{}})
	}
	return h
}

// Partitions is how many partitions the topic has.
func (h *History) Partitions() int32 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return int32(len(h.mu.tracks))
}

// NewWriter gives a writer its number. A strict one is idempotent: no duplicates, no other order.
func (h *History) NewWriter(strict bool) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.strict = append(h.mu.strict, strict)
	return len(h.mu.strict)
}

// Sending notes that a writer is about to send its next value to a partition, and returns it.
func (h *History) Sending(writer int, partition int32) Value {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.mu.tracks[partition]
	v := Value{writer, partition, len(t.sent[writer])}
	t.sent[writer] = append(t.sent[writer], outcome{offset: -1, read: -1, floor: t.top})
	h.mu.counts.Sent++
	return v
}

// Acked notes an acknowledgement. An offset of -1 says that the answer named none, as for a retry that was recognised.
func (h *History) Acked(v Value, offset int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t, o := h.outcomeLocked(v)
	if o == nil {
		return
	}
	h.mu.counts.Acked++
	o.state = acked
	if offset < 0 {
		return
	}
	o.offset = offset
	if offset <= o.floor {
		h.reportLocked(TimeTravel, "%v was acknowledged at %d, but %d was acknowledged before it was sent", v, offset, o.floor)
	}
	h.placeLocked(t, v, offset, "an acknowledgement")
	t.top = max(t.top, offset)
}

// Refused notes the answer that a value was definitely not written.
func (h *History) Refused(v Value) { h.end(v, refused) }

// Unknown notes that a writer gives up a value without knowing whether it was written.
func (h *History) Unknown(v Value) { h.end(v, unknown) }

func (h *History) end(v Value, s state) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, o := h.outcomeLocked(v)
	if o == nil {
		return
	}
	o.state = s
	if s == refused {
		h.mu.counts.Refused++
	} else {
		h.mu.counts.Unknown++
	}
}

// outcomeLocked finds a value; nil, reported, when nobody sent it.
func (h *History) outcomeLocked(v Value) (*track, *outcome) {
	if v.Partition < 0 || int(v.Partition) >= len(h.mu.tracks) {
		h.reportLocked(Stranger, "%v: no such partition", v)
		return nil, nil
	}
	t := h.mu.tracks[v.Partition]
	if v.Seq >= len(t.sent[v.Writer]) {
		h.reportLocked(Stranger, "%v was never sent", v)
		return t, nil
	}
	return t, &t.sent[v.Writer][v.Seq]
}

// placeLocked notes which value stands at an offset.
func (h *History) placeLocked(t *track, v Value, offset int64, who string) {
	for int64(len(t.at)) <= offset {
		t.at = append(t.at, Value{})
	}
	switch t.at[offset] {
	case Value{}:
		t.at[offset] = v
	case v:
	default:
		h.reportLocked(Inconsistent, "partition %d offset %d: %v before, and %v by %s", v.Partition, offset, t.at[offset], v, who)
	}
}

// sawLocked notes that a value was read, and returns what is known of it.
func (h *History) sawLocked(partition int32, offset int64, raw []byte, who string) (Value, *outcome) {
	v, err := DecodeValue(raw)
	if err != nil {
		h.reportLocked(Damaged, "partition %d offset %d, read by %s: %v", partition, offset, who, err)
		return v, nil
	}
	if v.Partition != partition {
		h.reportLocked(Stranger, "%v was read by %s from partition %d", v, who, partition)
		return v, nil
	}
	t, o := h.outcomeLocked(v)
	if o == nil {
		return v, nil
	}
	h.placeLocked(t, v, offset, who)
	switch {
	case o.state == refused:
		h.reportLocked(RefusedRead, "%v was refused, and %s read it at %d", v, who, offset)
	case o.read < 0:
		o.read = offset
	case o.read != offset && h.mu.strict[v.Writer-1]:
		h.reportLocked(Duplicate, "%v stands at %d and, read by %s, at %d", v, o.read, who, offset)
	}
	return v, o
}

// Reader follows one consumer's positions.
type Reader struct {
	h    *History
	name string
	next map[int32]int64 // the offset that must come next
}

// NewReader adds a reader that begins at offset 0 of each partition.
func (h *History) NewReader(name string) *Reader {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := &Reader{h: h, name: name, next: map[int32]int64{}}
	h.mu.readers = append(h.mu.readers, r)
	return r
}

// Saw notes the next record that the reader got.
func (r *Reader) Saw(partition int32, offset int64, raw []byte) {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	r.h.mu.counts.Reads++
	switch next := r.next[partition]; {
	case offset > next:
		r.h.reportLocked(Skipped, "%s: partition %d, offset %d instead of %d", r.name, partition, offset, next)
	case offset < next:
		r.h.reportLocked(Reread, "%s: partition %d, offset %d again, %d was next", r.name, partition, offset, next)
	}
	r.next[partition] = offset + 1
	r.h.sawLocked(partition, offset, raw, r.name)
}

// MayJump allows the reader to continue at another offset, as after a change of the log start.
func (r *Reader) MayJump(partition int32, offset int64) {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	r.next[partition] = offset
}

// Position is the offset that the reader wants next.
func (r *Reader) Position(partition int32) int64 {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	return r.next[partition]
}

// Watermark notes a partition's high watermark and log start as a leader told them, with its epoch. Answers must be noted
// in the order in which one client got them; an answer of an older epoch than one seen before comes from a leader that
// does not know yet, and says nothing. -1: not told.
func (h *History) Watermark(partition, epoch int32, watermark, logStart int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.mu.tracks[partition]
	if epoch < t.epoch {
		return
	}
	if watermark >= 0 && watermark < t.watermark {
		h.reportLocked(WatermarkBack, "partition %d: %d in epoch %d after %d in epoch %d", partition, watermark, epoch, t.watermark, t.epoch)
	}
	if logStart >= 0 && logStart < t.logStart {
		h.reportLocked(LogStartBack, "partition %d: %d in epoch %d after %d in epoch %d", partition, logStart, epoch, t.logStart, t.epoch)
	}
	t.epoch, t.watermark, t.logStart = epoch, max(t.watermark, watermark), max(t.logStart, logStart)
}

// Leader notes who leads a partition in an epoch, by whomever told.
func (h *History) Leader(partition, epoch int32, node int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.mu.tracks[partition]
	if known, ok := t.leaders[epoch]; ok && known != node {
		h.reportLocked(TwoLeaders, "partition %d, epoch %d: node %d and node %d", partition, epoch, known, node)
		return
	}
	t.leaders[epoch] = node
}

// Report adds a violation that a client has seen by itself.
func (h *History) Report(kind Kind, format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reportLocked(kind, format, args...)
}

// maxTold bounds the violations that are told in words; the rest is counted.
const maxTold = 40

func (h *History) reportLocked(kind Kind, format string, args ...any) {
	h.mu.found[kind]++
	if len(h.mu.first) < maxTold {
		h.mu.first = append(h.mu.first, string(kind)+": "+fmt.Sprintf(format, args...))
	}
}

// Counts returns the figures so far.
func (h *History) Counts() Counts {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.counts
}

// Elections is how many leader epochs were seen with a leader, beyond the first of each partition.
func (h *History) Elections() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, t := range h.mu.tracks {
		n += max(0, len(t.leaders)-1)
	}
	return n
}

// offsetOf is the offset that a value was acknowledged with; -1: none.
func (h *History) offsetOf(v Value) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, o := h.outcomeLocked(v)
	return o.offset
}

// eachFinal calls fn for each value that the final read has found.
func (h *History) eachFinal(fn func(Value)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for p, t := range h.mu.tracks {
		for w, values := range t.sent {
			for seq, o := range values {
				if o.final {
					fn(Value{w, int32(p), seq})
				}
			}
		}
	}
}
