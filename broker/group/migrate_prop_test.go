package group

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/internal/invariant"
)

// elder is a member that speaks the classic protocol, as a program that obeys it. One that is not careful gives up everything
// before it joins; a careful one keeps using what it has, and says so.
type elder struct {
	name, id, instance string
	careful            bool
	generation         Generation
	stage              stage
	using, wants       partitionSet
	call               CallID       // what it waits for
	leads              []JoinMember // it is to assign to these
}

type stage int

const (
	outside stage = iota // has to join
	joining
	toSync
	syncing
	settling // has its share, and makes it its own
	settled
)

// party is a crowd of which some speak the classic protocol.
type party struct {
	*crowd
	elders []*elder
	ids    int
	// seen counts what the histories came by, so that they can be seen to be worth something.
	upgrades, downgrades int
	wasModern, calm      bool
}

func newParty(t *testing.T, seed uint64) *party {
	p := &party{crowd: newCrowd(t, seed)}
	p.clients = p.clients[:3]
	for i := range 4 {
		e := &elder{name: fmt.Sprint("e", i), careful: i%2 == 0, using: partitionSet{}}
		if i == 3 {
			e.instance = "i3" // no client of the consumer protocol has this one
		}
		p.elders = append(p.elders, e)
	}
	p.heard, p.again = p.answered, p.takeOver
	return p
}

// lose is what a member does that was told that it is none any more.
func (e *elder) lose() { e.stage, e.using, e.wants = outside, partitionSet{}, nil }

func (p *party) join(e *elder) {
	if !e.careful {
		e.using = partitionSet{}
	}
	metadata := withOwned(subscribe("t"), e.using.sorted())
	r := JoinRequest{
		Group: "g", Member: e.id, Instance: e.instance, ClientID: e.name, ProtocolType: ConsumerProtocol, RequireMemberID: true,
		Protocols: []Protocol{{Name: "p", Metadata: metadata}}, SessionTimeout: 30 * time.Second, RebalanceTimeout: time.Minute,
	}
	p.ids++
	p.calls++
	e.stage, e.call, e.wants, e.leads = joining, p.calls, nil, nil
	p.told = append(p.told, fmt.Sprintf("%s %s joins with %s", e.name, e.id, partitionsProse(e.using.sorted())))
	p.step(Join{View: p.view(), Call: e.call, Request: r, NewMember: fmt.Sprint(e.name, "-", p.ids)})
}

// sync fetches the member's share, and brings those of all if it leads: each partition to one that claims it, or else to anybody.
func (p *party) sync(e *elder) {
	r := SyncRequest{Group: "g", Member: e.id, Instance: e.instance, Generation: e.generation}
	if len(e.leads) > 0 {
		claims := map[OffsetKey]string{}
		for _, m := range e.leads {
			sub, ok := readSubscription(m.Metadata)
			if !ok {
				p.t.Fatalf("%x", m.Metadata)
			}
			for _, k := range sub.owned {
				claims[k] = m.Member
			}
		}
		sets := make([]partitionSet, len(e.leads))
		for i := range sets {
			sets[i] = partitionSet{}
		}
		for n := range p.topics["t"].Partitions {
			to := int(n) % len(e.leads)
			if owner, claimed := claims[OffsetKey{"t", n}]; !claimed || owner == e.leads[to].Member {
				sets[to][TopicPartition{topicID("t"), n}] = struct{}{}
			} // else its owner gives it up first, and all join once more
		}
		for i, m := range e.leads {
			r.Assignments = append(r.Assignments, Assignment{Member: m.Member, Data: appendAssignment(1, p.topics, sets[i])})
		}
	}
	p.calls++
	e.stage, e.call = syncing, p.calls
	p.step(Sync{View: p.view(), Call: e.call, Request: r})
}

func (p *party) beat(e *elder) {
	p.calls++
	e.call = p.calls
	p.step(Heartbeat{View: p.view(), Call: e.call, Request: HeartbeatRequest{Group: "g", Member: e.id, Instance: e.instance, Generation: e.generation}})
}

// answered hands an answer to whom it is for. Some get lost.
func (p *party) answered(f Effect) {
	for _, e := range p.elders {
		switch f := f.(type) {
		case ReplyJoin:
			if f.Call == e.call && e.stage == joining {
				p.joined(e, &f.Response)
			}
		case ReplySync:
			if f.Call == e.call && e.stage == syncing {
				p.synced(e, &f.Response)
			}
		case Reply:
			if f.Call == e.call && e.stage == settled {
				e.failed(f.Err)
			}
		}
	}
}

func (p *party) joined(e *elder, r *JoinResponse) {
	p.told = append(p.told, fmt.Sprintf("%s joined: %s", e.name, joinProse(r)))
	lost := !p.calm && p.rnd.IntN(12) == 0
	switch {
	case lost && e.id == "":
		e.lose()
	case lost:
		e.stage = outside
	case errors.Is(r.Err, broker.ErrMemberIDRequired):
		e.id, e.stage = r.Member, outside
	case r.Err != nil:
		e.failed(r.Err)
	default:
		e.id, e.generation, e.stage = r.Member, r.Generation, toSync
		if r.Leader == e.id {
			e.leads = r.Members
		}
	}
}

func (p *party) synced(e *elder, r *SyncResponse) {
	if r.Err != nil {
		e.failed(r.Err)
		return
	}
	named, ok := readAssignment(r.Assignment)
	if !ok {
		p.t.Fatalf("%x", r.Assignment)
	}
	e.stage, e.wants = settling, setOf(byID(p.topics, named))
	p.told = append(p.told, fmt.Sprintf("%s %s in %d is to have %s", e.name, e.id, e.generation, partitionsProse(e.wants.sorted())))
}

func (e *elder) failed(err error) {
	switch {
	case err == nil:
	case errors.Is(err, broker.ErrRebalanceInProgress):
		e.stage = outside
	case errors.Is(err, broker.ErrIllegalGeneration):
		e.lose()
	default:
		e.lose()
		e.id = ""
	}
}

// settleShare gives up what is not the member's any more, one at a time, and then uses the rest. Having given something up it joins
// once more, so that another gets it.
func (e *elder) settleShare(rnd *rand.Rand) {
	if tp, ok := drawSurplus(rnd, e.using, e.wants); ok {
		delete(e.using, tp)
		if !e.stays() {
			e.stage = outside
			maps.Copy(e.using, e.wants)
		}
		return
	}
	maps.Copy(e.using, e.wants)
	e.stage = settled
}

func (e *elder) stays() bool {
	for tp := range e.using {
		if !e.wants.has(tp) {
			return true
		}
	}
	return false
}

// act has a classic member do what is next.
func (p *party) act(e *elder) {
	switch e.stage {
	case outside:
		p.join(e)
	case toSync:
		p.sync(e)
	case settling:
		e.settleShare(p.rnd)
	case settled:
		p.beat(e)
	}
}

func (p *party) random() {
	e := p.elders[p.rnd.IntN(len(p.elders))]
	switch n := p.rnd.IntN(100); {
	case n < 55:
		p.act(e)
	case n < 57 && e.id != "":
		p.calls++
		p.step(Leave{View: p.view(), Call: p.calls, Members: []LeaveMember{{Member: e.id, Instance: e.instance}}})
		e.lose()
		e.id = ""
	case n < 59:
		e.lose() // its process is gone, and another one comes
		e.id, e.call = "", 0
	case n < 64:
		for _, c := range p.clients { // those of the consumer protocol leave, one after the other
			if c.joined {
				p.calls++
				p.step(MemberHeartbeat{View: p.view(), Call: p.calls, Request: MemberRequest{Group: "g", Member: c.id, Epoch: EpochLeave, Instance: c.instance}})
				c.joined, c.epoch, c.using, c.wants = false, EpochJoin, partitionSet{}, nil
				if c.instance != "" {
					c.id += "x"
				}
				break
			}
		}
	case n < 66:
		p.pass(time.Duration(p.rnd.IntN(20)) * time.Second)
	case n < 67:
		p.setTopic("t", int32(1+p.rnd.IntN(7)))
	default:
		p.crowd.random(false)
	}
	p.note()
}

// takeOver is another coordinator, which knows what was written. Requests that wait are not answered.
func (p *party) takeOver() {
	if p.machine.modern != nil {
		p.reload()
	} else if m := p.loader.Machines(p.now)["g"]; m != nil {
		p.machine = m
	} else {
		p.machine = NewMachine("g", &p.limits)
	}
	for _, e := range p.elders {
		if e.stage == joining || e.stage == syncing {
			e.stage, e.call = outside, 0
		}
	}
}

func (p *party) note() {
	g := p.machine.modern
	modern := g != nil && len(g.members) > 0
	switch {
	case modern && !p.wasModern:
		p.upgrades++
	case p.wasModern && g == nil && len(p.machine.members) > 0:
		p.downgrades++
	}
	p.wasModern = modern
}

// holds wants no partition used by two members.
func (p *party) holds() {
	p.t.Helper()
	users := map[TopicPartition]string{}
	use := func(id string, known bool, using partitionSet) {
		if !known {
			return // it is none any more, though it has not heard of it
		}
		for tp := range using {
			if other, ok := users[tp]; ok {
				p.t.Fatalf("%v is used by %s and %s\n%s", tp, id, other, strings.Join(p.told[max(0, len(p.told)-60):], "\n"))
			}
			users[tp] = id
		}
	}
	for _, c := range p.clients {
		use(c.id, p.machine.modern != nil && p.machine.modern.members[c.id] != nil, c.using)
	}
	for _, e := range p.elders {
		known := p.machine.members[e.id] != nil
		if g := p.machine.modern; g != nil {
			known = g.members[e.id] != nil
		}
		use(e.id, known, e.using)
	}
}

// comesToRest has all members go on until nothing changes, and then wants every partition used.
func (p *party) comesToRest(consumers bool) {
	p.rnd, p.calm = rand.New(steady{}), true
	for _, c := range p.clients {
		c.topics = []string{"t"}
		c.lost = true
	}
	for range 60 {
		p.pass(3 * time.Second)
		if consumers {
			for _, c := range p.clients {
				p.heartbeat(c, false)
				for range 10 {
					c.settle(p.rnd)
				}
			}
		}
		for range 3 {
			for _, e := range p.elders {
				p.act(e)
				p.holds()
			}
		}
	}
	used := partitionSet{}
	for _, c := range p.clients {
		maps.Copy(used, c.using)
	}
	for _, e := range p.elders {
		maps.Copy(used, e.using)
		if e.stage != settled {
			p.t.Fatalf("%s is not at rest (%d)\n%s", e.name, e.stage, strings.Join(p.told[max(0, len(p.told)-80):], "\n"))
		}
	}
	for n := range p.topics["t"].Partitions {
		if !used.has(TopicPartition{topicID("t"), n}) {
			p.t.Fatalf("t/%d is used by nobody\n%s", n, strings.Join(p.told[max(0, len(p.told)-80):], "\n"))
		}
	}
}

// TestMigrationProperty plays random histories of groups with members of both protocols, which change from the one to the other:
// no partition is ever used by two members, all are used in the end, by both kinds or by classic members alone, and what
// the records say is what the machine holds.
func TestMigrationProperty(t *testing.T) {
	upgrades, downgrades := 0, 0
	histories := 40
	if invariant.Enabled {
		histories = 8 // ten times as slow
	}
	for seed := range uint64(histories) {
		p := newParty(t, seed)
		if seed%8 == 7 {
			p.limits.Migration = []Migration{MigrateNone, MigrateUp, MigrateDown}[seed/8%3]
		}
		for range 500 {
			p.random()
			p.holds()
		}
		if seed%8 != 7 {
			p.comesToRest(true)
			p.takeOver()
			p.comesToRest(true)
		}
		for _, c := range p.clients {
			p.calls++
			p.step(MemberHeartbeat{View: p.view(), Call: p.calls, Request: MemberRequest{Group: "g", Member: c.id, Epoch: EpochLeave, Instance: c.instance}})
			c.joined, c.epoch, c.using, c.wants = false, EpochJoin, partitionSet{}, nil
			p.note()
		}
		p.comesToRest(false)
		p.takeOver()
		p.comesToRest(false)
		upgrades, downgrades = upgrades+p.upgrades, downgrades+p.downgrades
	}
	if upgrades < histories || downgrades < histories {
		t.Errorf("only %d groups became consumer groups, and %d became classic ones", upgrades, downgrades)
	}
	t.Logf("%d groups became consumer groups, %d became classic ones", upgrades, downgrades)
}
