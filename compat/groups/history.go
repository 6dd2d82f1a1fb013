package groups

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// history is what a group's members and its committed offsets have shown.
type history struct {
	mu        sync.Mutex
	processed map[string]int      // value: how often
	owners    map[ownership]int   // who had a partition in a generation: the member's number
	spans     []*span             // who had a partition from when to when, as members of KIP-848 tell
	shown     int                 // answers of the coordinator in which somebody has a partition
	doubled   bool                // one of them had somebody's partition twice
	committed map[int32]int64     // the highest seen
	wrong     []string            // what no correct group shows
	where     map[position]string // what each offset holds
}

type ownership struct {
	generation int
	partition  int32
}

// span is for how long a member of KIP-848 has had a partition, in nanoseconds since 1970. Both ends are moments at the member itself:
// it was told of the partition before the one, and the coordinator was told that it has given it up after the other.
type span struct {
	member    int
	partition int32
	from, to  int64
}

// lasting is the end of a span that has none yet.
const lasting = math.MaxInt64

type position struct {
	partition int32
	offset    int64
}

func newHistory() *history {
	return &history{processed: map[string]int{}, owners: map[ownership]int{}, committed: map[int32]int64{}, where: map[position]string{}}
}

// line takes one line of a member, as compat/clients/README.md has it. Other lines are a client's own chatter.
func (h *history) line(member int, line string) {
	verb, rest, _ := strings.Cut(line, " ")
	h.mu.Lock()
	defer h.mu.Unlock()
	var err error
	switch verb {
	case "assigned":
		err = h.assignedLocked(member, rest)
	case "gained", "ceded", "lost":
		err = h.changedLocked(member, verb, rest)
	case "record":
		err = h.recordLocked(rest)
	}
	if err != nil {
		h.wrong = append(h.wrong, fmt.Sprintf("member %d printed %q: %v", member, line, err))
	}
}

func (h *history) assignedLocked(member int, text string) error {
	number, list, _ := strings.Cut(text, " ")
	generation, err := strconv.Atoi(number)
	if err != nil || generation < 0 {
		return err
	}
	all, err := partitionsOf(list)
	for _, p := range all {
		at := ownership{generation, p}
		if owner, taken := h.owners[at]; taken && owner != member {
			return fmt.Errorf("partition %d has two owners in generation %d, members %d and %d", p, generation, owner, member)
		}
		h.owners[at] = member
	}
	return err
}

func partitionsOf(list string) (all []int32, err error) {
	if list == "" {
		return nil, nil
	}
	for p := range strings.SplitSeq(list, ",") {
		partition, err := strconv.ParseInt(p, 10, 32)
		if err != nil {
			return nil, err
		}
		all = append(all, int32(partition))
	}
	return all, nil
}

func (h *history) changedLocked(member int, verb, text string) error {
	number, list, _ := strings.Cut(text, " ")
	at, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return err
	}
	all, err := partitionsOf(list)
	for _, p := range all {
		if verb != "gained" {
			h.endLocked(member, p, at, verb == "lost")
		} else if h.openLocked(member, p) == nil {
			h.spans = append(h.spans, &span{member, p, at, lasting})
		}
	}
	return err
}

// openLocked is the span of a partition that a member has now.
func (h *history) openLocked(member int, partition int32) *span {
	for _, s := range h.spans {
		if s.member == member && s.partition == partition && s.to == lasting {
			return s
		}
	}
	return nil
}

// endLocked ends a span. Of a partition that was taken from a member because it was too late with its heartbeats nobody knows since when
// it was another's: it counts as having had it for a moment only.
func (h *history) endLocked(member int, partition int32, at int64, lost bool) {
	s := h.openLocked(member, partition)
	if s == nil {
		return
	}
	if s.to = at; lost {
		s.to = s.from
	}
}

// killed ends all that a member has. Its last line is known.
func (h *history) killed(member int, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.spans {
		if s.member == member && s.to == lasting {
			s.to = at.UnixNano()
		}
	}
}

// overlapsLocked tells which partitions two members have had at the same time.
func (h *history) overlapsLocked() (wrong []string) {
	spans := slices.SortedFunc(slices.Values(h.spans), func(a, b *span) int {
		return cmp.Or(cmp.Compare(a.partition, b.partition), cmp.Compare(a.from, b.from))
	})
	var before *span // of the same partition, the one that ends last
	for _, s := range spans {
		switch {
		case before == nil || before.partition != s.partition:
			before = s
			continue
		case s.member != before.member && s.from < before.to:
			wrong = append(wrong, fmt.Sprintf("partition %d has two owners, members %d and %d, from %d on, until %d and %d",
				s.partition, before.member, s.member, s.from, before.to, s.to))
		}
		if s.to >= before.to {
			before = s
		}
	}
	return wrong
}

// described takes the members' partitions as the coordinator tells them in one answer.
func (h *history) described(shares [][]int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := slices.Sorted(slices.Values(slices.Concat(shares...)))
	if len(all) > 0 {
		h.shown++
	}
	if len(slices.Compact(slices.Clone(all))) < len(all) && !h.doubled { // it will say so again and again
		h.doubled = true
		h.wrong = append(h.wrong, fmt.Sprintf("the coordinator says that its members have %v", shares))
	}
}

// assignments are how many partitions members have told that they have, and how many answers of the coordinator said who has one.
func (h *history) assignments() (told, shown int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.owners) + len(h.spans), h.shown
}

func (h *history) recordLocked(text string) error {
	fields := strings.SplitN(text, " ", 3)
	if len(fields) != 3 {
		return fmt.Errorf("a record has a partition, an offset and a value")
	}
	partition, err := strconv.ParseInt(fields[0], 10, 32)
	if err != nil {
		return err
	}
	offset, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return err
	}
	at := position{int32(partition), offset}
	if before, seen := h.where[at]; seen && before != fields[2] {
		return fmt.Errorf("the offset held %q before", before)
	}
	h.where[at] = fields[2]
	h.processed[fields[2]]++
	return nil
}

// answered takes all committed offsets that the coordinator tells in one answer without an error; -1 is none. One that was there before
// must still be.
func (h *history) answered(all map[int32]int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range slices.Sorted(maps.Keys(h.committed)) {
		at, listed := all[p]
		switch before := h.committed[p]; {
		case !listed || at < 0:
			h.wrong = append(h.wrong, fmt.Sprintf("partition %d has no committed offset any more, it was %d", p, before))
		case at < before:
			h.wrong = append(h.wrong, fmt.Sprintf("the committed offset of partition %d went back from %d to %d", p, before, at))
		}
	}
	for p, at := range all {
		if before, seen := h.committed[p]; at >= 0 && (!seen || at > before) {
			h.committed[p] = at
		}
	}
}

// count is how many different values were processed.
func (h *history) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.processed)
}

// behind tells which partition is not committed up to its end yet; "" is none.
func (h *history) behind(ends map[int32]int64) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range slices.Sorted(maps.Keys(ends)) {
		if h.committed[p] < ends[p] {
			return fmt.Sprintf("partition %d is committed up to %d, its end is %d", p, h.committed[p], ends[p])
		}
	}
	return ""
}

// verdict is all that is wrong, given the values that the log acknowledged; again counts the values processed more than
// once, which a group may do.
func (h *history) verdict(acknowledged []string) (wrong []string, again int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	wrong = append(h.overlapsLocked(), h.wrong...)
	for _, v := range acknowledged {
		switch h.processed[v] {
		case 0:
			wrong = append(wrong, fmt.Sprintf("%q was never processed", v))
		case 1:
		default:
			again++
		}
	}
	return wrong, again
}
