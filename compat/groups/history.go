package groups

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// history is what a group's members and its committed offsets have shown.
type history struct {
	mu        sync.Mutex
	processed map[string]int      // value: how often
	owners    map[ownership]int   // who had a partition in a generation: the member's number
	committed map[int32]int64     // the highest seen
	wrong     []string            // what no correct group shows
	where     map[position]string // what each offset holds
}

type ownership struct {
	generation int
	partition  int32
}

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
	if err != nil || generation < 0 || list == "" {
		return err
	}
	for p := range strings.SplitSeq(list, ",") {
		partition, err := strconv.ParseInt(p, 10, 32)
		if err != nil {
			return err
		}
		at := ownership{generation, int32(partition)}
		if owner, taken := h.owners[at]; taken && owner != member {
			return fmt.Errorf("partition %d has two owners in generation %d, members %d and %d", partition, generation, owner, member)
		}
		h.owners[at] = member
	}
	return nil
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

// commit takes a committed offset as the coordinator tells it.
func (h *history) commit(partition int32, at int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if before := h.committed[partition]; at < before {
		h.wrong = append(h.wrong, fmt.Sprintf("the committed offset of partition %d went back from %d to %d", partition, before, at))
	}
	h.committed[partition] = max(h.committed[partition], at)
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
	wrong = slices.Clone(h.wrong)
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
