package auth

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/replication/controller"
)

const (
	everybody    = "User:*" // principals of every type
	wildcard     = "*"      // every resource of a type, or every host
	resourceKind = 8        // resource types are below
)

// who is somebody at some address. In rules, everybody stands for all and the zero address for everywhere.
type who struct {
	principal broker.Principal
	host      netip.Addr
}

// question is what an authorizer is asked.
type question struct {
	who      who
	op       broker.Operation
	resource broker.Resource
	some     bool // whether there is any resource of the type; it has no name then
}

func newQuestion(c broker.Caller, op broker.Operation, r broker.Resource) question {
	return question{who: who{c.Principal, c.Host.Unmap().WithZone("")}, op: op, resource: r}
}

// candidates are the ways in which a rule may name who.
func (w who) candidates() [4]who {
	return [4]who{w, {w.principal, netip.Addr{}}, {everybody, w.host}, {everybody, netip.Addr{}}}
}

// operations is a set of operations, the bit 1<<op for each.
type operations uint32

const allOperations operations = 1<<(broker.TwoPhaseCommit+1) - 1

func setOf(ops ...broker.Operation) (set operations) {
	for _, op := range ops {
		set |= 1 << op
	}
	return set
}

// allowedBy is what a rule that allows op allows: who may change something may see it.
func allowedBy(op broker.Operation) operations {
	switch op {
	case broker.AllOperations:
		return allOperations
	case broker.Read, broker.Write, broker.Delete, broker.Alter:
		return setOf(op, broker.Describe)
	case broker.AlterConfigs:
		return setOf(op, broker.DescribeConfigs)
	}
	return setOf(op)
}

// deniedBy is what a rule that denies op denies: nothing but that.
func deniedBy(op broker.Operation) operations {
	if op == broker.AllOperations {
		return allOperations
	}
	return setOf(op)
}

// rights are what rules say together.
type rights struct{ allow, deny operations }

func (r *rights) add(other rights) { r.allow, r.deny = r.allow|other.allow, r.deny|other.deny }

// index finds what rules say of a resource in a few steps, however many rules there are. It never changes.
type index struct {
	// held is what rules say, by the type of resource and by whom they are about.
	held [resourceKind]map[who]*holding
	// named are the resources that there is a rule about, whoever it is for.
	named [resourceKind]holding
}

// holding is what the rules about one who, or about all, say of the resources of one type.
type holding struct {
	names    map[string]rights // of literal patterns
	prefixes []prefix          // of prefixed ones, sorted by name, each once
}

// prefix is a prefixed pattern.
type prefix struct {
	name    string
	rights  rights // by this pattern and by all shorter ones that name begins with
	shorter int    // index of the longest of those; -1 if there is none
}

// newIndex compiles rules.
func newIndex(rules *controller.ACLs) *index {
	x := &index{}
	if rules == nil {
		return x
	}
	for i := range rules.Rules {
		x.add(&rules.Rules[i])
	}
	for t := range x.held {
		x.named[t].settle()
		for _, h := range x.held[t] {
			h.settle()
		}
	}
	return x
}

// add takes a rule in. The controller lets only rules pass that can be matched; should another come from a newer version, it
// must not allow more than was meant. So one that allows is left out, and one that denies at a host that is no address denies
// everywhere. Operations and types of resources that this version does not know it never asks about.
func (x *index) add(a *controller.ACL) {
	if a.ResourceType <= 0 || a.ResourceType >= resourceKind || a.Operation < 0 || a.Operation > int8(broker.TwoPhaseCommit) {
		return
	}
	w, r := who{principal: broker.Principal(a.Principal)}, rights{}
	if op := broker.Operation(a.Operation); a.Permission == controller.Allow {
		r.allow = allowedBy(op)
	} else {
		r.deny = deniedBy(op)
	}
	x.named[a.ResourceType].add(a, rights{})
	if host, err := netip.ParseAddr(a.Host); err == nil {
		w.host = host.Unmap().WithZone("")
	} else if a.Host != wildcard && a.Permission == controller.Allow {
		return
	}
	by := x.held[a.ResourceType]
	if by == nil {
		by = map[who]*holding{}
		x.held[a.ResourceType] = by
	}
	if by[w] == nil {
		by[w] = &holding{}
	}
	by[w].add(a, r)
}

func (h *holding) add(a *controller.ACL, r rights) {
	if a.Pattern == controller.PrefixedPattern {
		h.prefixes = append(h.prefixes, prefix{name: a.Name, rights: r})
		return
	}
	if h.names == nil {
		h.names = map[string]rights{}
	}
	r.add(h.names[a.Name])
	h.names[a.Name] = r
}

// settle sorts the prefixes and adds up what those say that begin alike.
func (h *holding) settle() {
	slices.SortFunc(h.prefixes, func(a, b prefix) int { return strings.Compare(a.name, b.name) })
	kept := h.prefixes[:0]
	for _, p := range h.prefixes {
		last := len(kept) - 1
		if last >= 0 && kept[last].name == p.name {
			kept[last].rights.add(p.rights)
			continue
		}
		// Whatever p begins with, the one before it begins with or is.
		for p.shorter = last; p.shorter >= 0 && !strings.HasPrefix(p.name, kept[p.shorter].name); {
			p.shorter = kept[p.shorter].shorter
		}
		if p.shorter >= 0 {
			p.rights.add(kept[p.shorter].rights)
		}
		kept = append(kept, p)
	}
	h.prefixes = kept
}

// longest is the longest of the prefixes that name begins with; nil if there is none.
func (h *holding) longest(name string) *prefix {
	i, same := slices.BinarySearchFunc(h.prefixes, name, func(p prefix, name string) int { return strings.Compare(p.name, name) })
	if !same {
		i--
	}
	if i < 0 {
		return nil
	}
	// Whatever name begins with, the last one that sorts before it begins with or is.
	common := commonLength(h.prefixes[i].name, name)
	for i >= 0 && len(h.prefixes[i].name) > common {
		i = h.prefixes[i].shorter
	}
	if i < 0 {
		return nil
	}
	return &h.prefixes[i]
}

func commonLength(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// has tells whether any pattern stands for a name.
func (h *holding) has(name string) bool {
	_, literally := h.names[name]
	_, all := h.names[wildcard]
	return literally || all || h.longest(name) != nil
}

// wide is what the patterns say together that stand for a name and for others, too.
func (h *holding) wide(name string) rights {
	r := h.names[wildcard]
	if p := h.longest(name); p != nil {
		r.add(p.rights)
	}
	return r
}

// heldBy is what rules say about the one who asks.
func (x *index) heldBy(q question) (list [4]*holding) {
	for i, w := range q.who.candidates() {
		if list[i] = x.held[q.resource.Type][w]; list[i] == nil {
			list[i] = &nothing
		}
	}
	return list
}

var nothing holding

// allows answers a question. open is the answer for resources that no rule is about.
func (x *index) allows(q question, open bool) bool {
	t, name := q.resource.Type, q.resource.Name
	if t <= 0 || t >= resourceKind {
		return false
	}
	var sum rights
	for _, h := range x.heldBy(q) {
		sum.add(h.wide(name))
		sum.add(h.names[name])
	}
	bit := operations(1) << q.op
	switch {
	case sum.deny&bit != 0:
		return false
	case sum.allow&bit != 0:
		return true
	}
	return open && !x.named[t].has(name)
}

// anyName is a resource that no rule is likely to be about but by a wildcard; Kafka asks about one of this name.
const anyName = "hardcode"

// allowsSome tells whether there may be a resource of the question's type that rules allow and do not deny, as the default
// method of Kafka's Authorizer does.
func (x *index) allowsSome(q question, open bool) bool {
	if q.resource.Name = anyName; x.allows(q, open) {
		return true
	}
	if q.resource.Type <= 0 || q.resource.Type >= resourceKind {
		return false
	}
	held, bit := x.heldBy(q), operations(1)<<q.op
	denied := func(name string) bool {
		for _, h := range held {
			if h.wide(name).deny&bit != 0 {
				return true
			}
		}
		return false
	}
	for _, h := range held {
		if h.names[wildcard].deny&bit != 0 {
			return false
		}
	}
	for _, h := range held {
		for name, r := range h.names {
			q.resource.Name = name
			// All but what prefixes deny still leaves some.
			if r.allow&bit != 0 && (name == wildcard || x.allows(q, false)) {
				return true
			}
		}
		for i := range h.prefixes {
			if p := &h.prefixes[i]; p.rights.allow&bit != 0 && !denied(p.name) {
				return true
			}
		}
	}
	return false
}
