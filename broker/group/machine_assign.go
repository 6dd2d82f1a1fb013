package group

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/quorlog/quorlog/replication"
)

// The assignors that a broker has. Uniform spreads partitions evenly over the members and moves few; range gives each member
// neighbouring partitions of every topic, so that topics of one size are divided alike; simple is for share groups.
const (
	AssignorUniform = "uniform"
	AssignorRange   = "range"
	AssignorSimple  = "simple"
)

// plan is what an assignor is asked.
type plan struct {
	topics  map[replication.TopicID]int32 // partitions of each
	members []planMember                  // sorted by id
}

type planMember struct {
	id, instance string
	topics       []replication.TopicID // that exist
	before       partitionSet          // what it was assigned last
}

// assign computes a target. Only topics that somebody reads are assigned, each of their partitions to one member, or, by simple,
// to one at least.
func (p *plan) assign(assignor string) map[string]partitionSet {
	out := make(map[string]partitionSet, len(p.members))
	for i := range p.members {
		out[p.members[i].id] = partitionSet{}
	}
	switch assignor {
	case AssignorRange:
		p.byRange(out)
	case AssignorSimple:
		p.simply(out)
	default:
		p.uniformly(out)
	}
	return out
}

// readers returns the members of each topic, and the topics sorted.
func (p *plan) readers() (map[replication.TopicID][]int, []replication.TopicID) {
	readers := map[replication.TopicID][]int{}
	for i := range p.members {
		for _, t := range p.members[i].topics {
			readers[t] = append(readers[t], i)
		}
	}
	topics := make([]replication.TopicID, 0, len(readers))
	for t := range readers {
		topics = append(topics, t)
	}
	slices.SortFunc(topics, func(a, b replication.TopicID) int { return slices.Compare(a[:], b[:]) })
	return readers, topics
}

func (p *plan) byRange(out map[string]partitionSet) {
	readers, topics := p.readers()
	for _, t := range topics {
		members := readers[t]
		// A static member keeps its place among the others when its process, and with it its id, changes.
		slices.SortStableFunc(members, func(a, b int) int {
			return cmp.Compare(cmp.Or(p.members[a].instance, p.members[a].id), cmp.Or(p.members[b].instance, p.members[b].id))
		})
		n, each, more := int32(0), p.topics[t]/int32(len(members)), p.topics[t]%int32(len(members))
		for i, m := range members {
			last := n + each
			if int32(i) < more {
				last++
			}
			for ; n < last; n++ {
				out[p.members[m].id][TopicPartition{t, n}] = struct{}{}
			}
		}
	}
}

// simply gives every partition to as many readers as there are more of them than partitions, and one at least.
func (p *plan) simply(out map[string]partitionSet) {
	readers, topics := p.readers()
	for _, t := range topics {
		members, n := readers[t], p.topics[t]
		if n == 0 {
			continue
		}
		for i := range max(n, int32(len(members))) {
			out[p.members[members[int(i)%len(members)]].id][TopicPartition{t, i % n}] = struct{}{}
		}
	}
}

// class is a set of topics that the same members read: among these their partitions may move freely.
type class struct {
	members    []int
	partitions []TopicPartition
	held       map[int][]TopicPartition
}

// uniformly keeps what members have, as far as it is fair, hands out the rest to those that have least, and then evens out.
func (p *plan) uniformly(out map[string]partitionSet) {
	classes := p.classes()
	load := make([]int, len(p.members))
	for _, c := range classes {
		p.keep(c, load)
	}
	for _, c := range classes {
		p.handOut(c, load)
	}
	// A move takes from one that has at least two more, so the sum of squares falls with each: this ends. The bound is for
	// what could still be called fair long before.
	for pass := 0; pass < maxEvenings; pass++ {
		moved := false
		for _, c := range classes {
			moved = c.even(load) || moved
		}
		if !moved {
			break
		}
	}
	for _, c := range classes {
		for m, list := range c.held {
			for _, tp := range list {
				out[p.members[m].id][tp] = struct{}{}
			}
		}
	}
}

// maxEvenings bounds the passes over all classes of topics; a few are enough but for subscriptions made up to need more.
const maxEvenings = 100

func (p *plan) classes() []*class {
	readers, topics := p.readers()
	byKey := map[string]*class{}
	var out []*class
	for _, t := range topics {
		key := make([]byte, 0, 4*len(readers[t]))
		for _, m := range readers[t] {
			key = binary.BigEndian.AppendUint32(key, uint32(m))
		}
		c := byKey[string(key)]
		if c == nil {
			c = &class{members: readers[t], held: map[int][]TopicPartition{}}
			byKey[string(key)] = c
			out = append(out, c)
		}
		for n := range p.topics[t] {
			c.partitions = append(c.partitions, TopicPartition{t, n})
		}
	}
	// Topics with few readers first: theirs have the least choice.
	slices.SortStableFunc(out, func(a, b *class) int { return cmp.Compare(len(a.members), len(b.members)) })
	return out
}

// keep leaves partitions with those that have them.
func (p *plan) keep(c *class, load []int) {
	owner := map[TopicPartition]int{}
	for _, m := range c.members {
		for tp := range p.members[m].before {
			owner[tp] = m
		}
	}
	rest := c.partitions[:0]
	for _, tp := range c.partitions {
		if m, ok := owner[tp]; ok {
			c.give(m, tp, load)
		} else {
			rest = append(rest, tp)
		}
	}
	c.partitions = rest
}

func (c *class) give(m int, tp TopicPartition, load []int) {
	c.held[m] = append(c.held[m], tp)
	load[m]++
}

// handOut gives what nobody has to those with the least load.
func (p *plan) handOut(c *class, load []int) {
	h := loadHeap{members: slices.Clone(c.members), load: load}
	h.init()
	for _, tp := range c.partitions {
		c.give(h.members[0], tp, load)
		h.sink(0)
	}
	c.partitions = nil
}

// even moves partitions from members with a high load to those with a low one, and tells whether any moved.
func (c *class) even(load []int) (moved bool) {
	low := loadHeap{members: slices.Clone(c.members), load: load}
	low.init()
	// Who gives comes in the order of load; having given, it has at least as much as who received.
	givers := slices.Clone(c.members)
	slices.SortStableFunc(givers, func(a, b int) int { return cmp.Compare(load[b], load[a]) })
	for _, from := range givers {
		for len(c.held[from]) > 0 {
			to := low.members[0]
			if load[from]-load[to] < 2 {
				break
			}
			list := c.held[from]
			tp := list[len(list)-1]
			c.held[from] = list[:len(list)-1]
			load[from]--
			c.give(to, tp, load)
			low.sink(0)
			moved = true
		}
		low.init() // the giver's load fell, but not below that of those it gave to
	}
	return moved
}

// loadHeap has the member with the least load first, by a heap's rule.
type loadHeap struct {
	members []int
	load    []int
}

func (h *loadHeap) less(i, j int) bool {
	a, b := h.members[i], h.members[j]
	return h.load[a] < h.load[b] || h.load[a] == h.load[b] && a < b
}

func (h *loadHeap) init() {
	for i := len(h.members)/2 - 1; i >= 0; i-- {
		h.sink(i)
	}
}

func (h *loadHeap) sink(i int) {
	for {
		least := i
		for _, child := range []int{2*i + 1, 2*i + 2} {
			if child < len(h.members) && h.less(child, least) {
				least = child
			}
		}
		if least == i {
			return
		}
		h.members[i], h.members[least] = h.members[least], h.members[i]
		i = least
	}
}
