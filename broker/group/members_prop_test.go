package group

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// client is a member as a program that obeys the protocol: it uses what it was given until it has given it up.
type client struct {
	id, instance string
	epoch        MemberEpoch
	joined       bool
	lost         bool // its last answer was lost: it tells everything
	using        partitionSet
	wants        partitionSet // its last assignment
	topics       []string
}

// crowd is a machine with clients, and the log.
type crowd struct {
	t       *testing.T
	rnd     *rand.Rand
	limits  Limits
	machine *Machine
	loader  *loader
	now     time.Time
	clients []*client
	topics  topicMap
	version uint64
	calls   CallID
	told    []string
	heard   func(Effect) // is told of answers to the classic protocol
	again   func()       // another coordinator takes over
}

func newCrowd(t *testing.T, seed uint64) *crowd {
	w := &crowd{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), limits: DefaultLimits(), now: scriptStart, topics: topicMap{}, version: 1}
	w.machine = NewMachine("g", &w.limits)
	w.loader = newLoader(&w.limits, w.limits.times)
	w.again = w.reload
	for i := range 6 {
		c := &client{id: fmt.Sprint("m", i), using: partitionSet{}, topics: []string{"t"}}
		if i%3 == 0 {
			c.instance = fmt.Sprint("i", i)
		}
		w.clients = append(w.clients, c)
	}
	w.setTopic("t", 5)
	w.setTopic("u", 3)
	return w
}

func (w *crowd) view() View { return View{Topics: w.topics, Version: w.version} }

func (w *crowd) setTopic(name string, n int32) {
	w.version++
	w.topics[name] = coordinator.Topic{Name: name, ID: topicID(name), Partitions: n}
}

// step gives an event, commits what is to be written, and returns the answer.
func (w *crowd) step(ev Event) (r MemberResponse) {
	effects := slices.Clone(w.machine.Step(w.now, ev))
	for len(effects) > 0 {
		f := effects[0]
		effects = effects[1:]
		switch f := f.(type) {
		case ReplyMember:
			r = f.Response
		case ReplyJoin, ReplySync, Reply:
			if w.heard != nil {
				w.heard(f)
			}
		case Write:
			frame := w.frame(&f)
			if _, err := coordinator.Replay(w.loader, frame); err != nil {
				w.t.Fatal(err)
			}
			effects = append(effects, slices.Clone(w.machine.Step(w.now, Written{Seq: f.Seq}))...)
		}
	}
	checkMachine(w.t, w.machine)
	return r
}

// frame takes a write through its bytes.
func (w *crowd) frame(f *Write) []byte {
	b := batch.NewBuilder(batch.BuildOptions{})
	f.asked().Records(func(key, value []byte) { b.Add(batch.Record{Key: key, Value: value}) })
	frame, err := b.Build()
	if err != nil {
		w.t.Fatal(err)
	}
	return frame
}

func (w *crowd) heartbeat(c *client, share bool) {
	r := MemberRequest{Group: "g", Member: c.id, Epoch: c.epoch, Instance: c.instance, Owned: c.using.sorted(), Rebalance: -1}
	if share {
		r.Instance, r.Owned = "", nil
	}
	if c.epoch == EpochJoin || c.lost {
		r.Topics, r.Rebalance = c.topics, time.Minute
	} else if w.rnd.IntN(5) == 0 {
		c.topics = [][]string{{"t"}, {"t", "u"}, {"u"}}[w.rnd.IntN(3)]
		r.Topics = c.topics
	}
	c.lost = false
	if share {
		r.Rebalance = -1
	}
	w.calls++
	got := w.step(MemberHeartbeat{Call: w.calls, Request: r, Share: share, Times: w.limits.times("g", share), View: w.view()})
	w.told = append(w.told, fmt.Sprintf("%s %d owns %s: %s", c.id, r.Epoch, partitionsProse(r.Owned), memberProse(&got)))
	switch {
	case errors.Is(got.Err, broker.ErrUnreleasedInstanceID):
	case w.rnd.IntN(10) == 0 && (c.instance == "" || c.epoch != EpochJoin):
		// What it said that it owns not was taken for given up: it may begin to use nothing of an assignment before.
		c.lost, c.wants = true, nil
		return
	case got.Err != nil:
		c.joined, c.epoch, c.using, c.wants = false, EpochJoin, partitionSet{}, nil
	default:
		c.joined, c.epoch = true, got.Epoch
		if got.HasAssignment {
			c.wants = setOf(got.Assigned)
		}
	}
}

// settle has a client give up what is not its any more, and then use what it was given.
func (c *client) settle(rnd *rand.Rand) {
	if c.wants == nil {
		return
	}
	if p, ok := drawSurplus(rnd, c.using, c.wants); ok {
		delete(c.using, p)
		return // one at a time: others may look meanwhile
	}
	maps.Copy(c.using, c.wants)
}

// drawSurplus draws one that is used and not wanted. A map's own order would be another whenever a seed is played again.
func drawSurplus(rnd *rand.Rand, using, wants partitionSet) (p TopicPartition, ok bool) {
	surplus := slices.DeleteFunc(using.sorted(), wants.has)
	if len(surplus) == 0 {
		return p, false
	}
	return surplus[rnd.Uint64()%uint64(len(surplus))], true // IntN may draw from steady for ever
}

// random does something.
func (w *crowd) random(share bool) {
	c := w.clients[w.rnd.IntN(len(w.clients))]
	switch n := w.rnd.IntN(100); {
	case n < 60:
		w.heartbeat(c, share)
	case n < 85:
		c.settle(w.rnd)
	case n < 90:
		w.pass(time.Duration(w.rnd.IntN(50)) * time.Second)
	case n < 94 && c.joined:
		epoch := EpochLeave
		if c.instance != "" && !share && w.rnd.IntN(2) == 0 {
			epoch = EpochStaticLeave
		}
		w.calls++
		r := MemberRequest{Group: "g", Member: c.id, Epoch: epoch, Instance: c.instance}
		if share {
			r.Instance = ""
		}
		w.step(MemberHeartbeat{Call: w.calls, Request: r, Share: share, Times: w.limits.times("g", share), View: w.view()})
		c.joined, c.epoch, c.using, c.wants = false, EpochJoin, partitionSet{}, nil
		if c.instance != "" {
			c.id += "x" // another process of the instance
		}
		w.told = append(w.told, fmt.Sprint(r.Member, " leaves with ", epoch))
	case n < 96:
		w.setTopic([]string{"t", "u"}[w.rnd.IntN(2)], int32(1+w.rnd.IntN(7)))
	case n < 98:
		w.again()
	}
}

// pass lets time go by.
func (w *crowd) pass(d time.Duration) {
	until := w.now.Add(d)
	for at := w.machine.Deadline(); !at.IsZero() && !at.After(until); at = w.machine.Deadline() {
		if at.After(w.now) {
			w.now = at
		}
		w.step(Tick{w.view()})
	}
	w.now = until
}

// reload compares the machine with what its records make, and goes on with that.
func (w *crowd) reload() {
	m := w.loader.Machines(w.now)["g"]
	if m == nil {
		m = NewMachine("g", &w.limits)
	}
	before, after := durable(w.machine), durable(m)
	if !reflect.DeepEqual(before, after) {
		w.t.Fatalf("in memory %+v\nfrom the log %+v\n%s", before, after, strings.Join(w.told, "\n"))
	}
	w.machine = m
}

// durable is what must be the same after a reload.
func durable(m *Machine) any {
	if m.modern == nil {
		return m.Listing()
	}
	owners := map[TopicPartition]string{}
	for p, id := range m.modern.owners {
		owners[p] = id
	}
	states := map[string]string{}
	for id, s := range m.modern.members {
		states[id] = fmt.Sprint(s.epoch, s.previous, s.state, s.assigned.sorted(), s.revoking.sorted(), s.topics, s.rebalance)
		if s.classic != nil {
			states[id] += fmt.Sprint(s.classic.session, s.classic.protocols)
		}
	}
	return []any{m.DescribeMembers(AssignorUniform), owners, states, m.modern.hash}
}

// isDisjoint holds the promise: no partition is used by two members.
func (w *crowd) isDisjoint() {
	users := map[TopicPartition]string{}
	for _, c := range w.clients {
		if w.machine.modern == nil || w.machine.modern.members[c.id] == nil {
			continue // fenced, though it has not heard of it yet
		}
		for p := range c.using {
			if other, ok := users[p]; ok {
				w.t.Fatalf("%v is used by %s and %s\n%s", p, c.id, other, strings.Join(w.told, "\n"))
			}
			users[p] = c.id
		}
	}
}

// isComplete has all clients send heartbeats until nothing changes, and then wants every partition that is read to be used.
func (w *crowd) isComplete(share bool) {
	for range 40 {
		w.pass(3 * time.Second) // whose place a silent process of the same instance still has gets it in the end
		for _, c := range w.clients {
			w.heartbeat(c, share)
			for range 10 {
				c.settle(w.rnd)
			}
			w.isDisjointUnless(share)
		}
	}
	used := partitionSet{}
	reads := map[string]bool{}
	for _, c := range w.clients {
		for p := range c.using {
			used[p] = struct{}{}
		}
		if s := w.machine.modern.members[c.id]; s != nil {
			for _, t := range s.topics {
				reads[t] = true
			}
		}
	}
	for name, topic := range w.topics {
		for n := range topic.Partitions {
			if reads[name] && !used.has(TopicPartition{topic.ID, n}) {
				w.t.Fatalf("%s/%d is used by nobody\n%s", name, n, strings.Join(w.told, "\n"))
			}
		}
	}
}

func (w *crowd) isDisjointUnless(share bool) {
	if !share {
		w.isDisjoint()
	}
}

// TestMembersProperty plays random histories: no partition is ever used by two members, all are used in the end, and what the
// records say is what the machine holds.
func TestMembersProperty(t *testing.T) {
	for seed := range uint64(80) {
		share := seed%4 == 3
		w := newCrowd(t, seed)
		for range 400 {
			w.random(share)
			w.isDisjointUnless(share)
		}
		w.reload()
		w.isCalm(share)
	}
}

// isCalm ends a history: subscriptions no longer change, and no answer is lost.
func (w *crowd) isCalm(share bool) {
	w.rnd = rand.New(steady{})
	w.isComplete(share)
	w.reload()
}

// steady is a source of which IntN(n) is never 0 for the n used here.
type steady struct{}

func (steady) Uint64() uint64 { return 1<<63 + 1<<62 }

// TestAssignors compares what assignors make with what they promise.
func TestAssignors(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		p := randomPlan(rnd)
		for _, a := range []string{AssignorUniform, AssignorRange} {
			out := p.assign(a)
			checkAssignment(t, p, out)
			if a == AssignorUniform {
				checkEven(t, p, out)
				for i := range p.members {
					p.members[i].before = out[p.members[i].id]
				}
				if again := p.assign(a); !reflect.DeepEqual(out, again) {
					t.Fatalf("seed %d: partitions move without a reason", seed)
				}
			}
		}
	}
}

func randomPlan(rnd *rand.Rand) *plan {
	p := &plan{topics: map[replication.TopicID]int32{}}
	var all []string
	for i := range 1 + rnd.IntN(5) {
		name := fmt.Sprint("t", i)
		all = append(all, name)
		p.topics[topicID(name)] = int32(rnd.IntN(9))
	}
	for i := range 1 + rnd.IntN(6) {
		m := planMember{id: fmt.Sprint("m", i), before: partitionSet{}}
		for _, name := range all {
			if rnd.IntN(3) > 0 {
				m.topics = append(m.topics, topicID(name))
				m.before[TopicPartition{topicID(name), int32(rnd.IntN(9))}] = struct{}{}
			}
		}
		p.members = append(p.members, m)
	}
	return p
}

func checkAssignment(t *testing.T, p *plan, out map[string]partitionSet) {
	t.Helper()
	seen := map[TopicPartition]string{}
	read := partitionSet{}
	for _, m := range p.members {
		for _, topic := range m.topics {
			for n := range p.topics[topic] {
				read[TopicPartition{topic, n}] = struct{}{}
			}
		}
		for tp := range out[m.id] {
			if other, ok := seen[tp]; ok {
				t.Fatalf("%v is given to %s and %s", tp, m.id, other)
			}
			if !slices.Contains(m.topics, tp.Topic) {
				t.Fatalf("%s does not read %v", m.id, tp)
			}
			seen[tp] = m.id
		}
	}
	if len(seen) != len(read) {
		t.Fatalf("%d partitions are read, %d given", len(read), len(seen))
	}
}

// checkEven: nobody has two more than another who could have one of them.
func checkEven(t *testing.T, p *plan, out map[string]partitionSet) {
	t.Helper()
	for _, m := range p.members {
		for _, o := range p.members {
			for tp := range out[m.id] {
				if slices.Contains(o.topics, tp.Topic) && len(out[m.id])-len(out[o.id]) > 1 {
					t.Fatalf("%s has %d, and %s, who could have one of them, %d", m.id, len(out[m.id]), o.id, len(out[o.id]))
				}
			}
		}
	}
}
