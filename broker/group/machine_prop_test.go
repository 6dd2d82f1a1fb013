package group

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker"

	"pgregory.net/rapid"
)

// world plays clients of one group against its machine, in any order, with writes that fail or are late, and holds:
//
//   - generations only grow, and each has one leader that is told the members;
//   - within a generation no share is given to two members that are both alive;
//   - every request is answered once, at the latest when time has passed;
//   - an offset is visible only if its commit was written.
type world struct {
	t          *rapid.T
	limits     Limits
	m          *Machine
	now        time.Time
	calls      CallID
	open       map[CallID]string // requests without an answer -> what they are
	ids        int
	writes     []Write
	generation Generation
	leaders    map[Generation]string
	owners     map[Generation]map[string]string // share -> member, or instance of a static one
	clients    []*modelClient
	byCall     map[CallID]*modelClient
}

// modelClient is a client that may or may not follow the protocol.
type modelClient struct {
	name, instance string
	id             string
	generation     Generation
	leads          []JoinMember
}

func newWorld(t *rapid.T) *world {
	w := &world{
		t: t, limits: DefaultLimits(), now: scriptStart, open: map[CallID]string{}, leaders: map[Generation]string{},
		owners: map[Generation]map[string]string{}, byCall: map[CallID]*modelClient{},
	}
	w.limits.InitialRebalanceDelay = rapid.SampledFrom([]time.Duration{0, 3 * time.Second}).Draw(t, "delay")
	w.limits.MaxSize = rapid.SampledFrom([]int{2, 100}).Draw(t, "max size")
	w.m = NewMachine("g", &w.limits)
	for i := range 4 {
		c := &modelClient{name: fmt.Sprint("c", i)}
		if i%2 == 1 {
			c.instance = fmt.Sprint("s", i)
		}
		w.clients = append(w.clients, c)
	}
	return w
}

func (w *world) call(what string, c *modelClient) CallID {
	w.calls++
	w.open[w.calls] = what
	w.byCall[w.calls] = c
	return w.calls
}

func (w *world) step(ev Event) {
	for _, f := range slices.Clone(w.m.Step(w.now, ev)) {
		w.see(f)
	}
	checkMachine(w.t, w.m)
	if w.m.generation < w.generation {
		w.t.Fatalf("generation %d after %d", w.m.generation, w.generation)
	}
	w.generation = w.m.generation
}

func (w *world) answered(call CallID) *modelClient {
	if _, ok := w.open[call]; !ok {
		w.t.Fatalf("call %d is answered twice, or was never made", call)
	}
	delete(w.open, call)
	return w.byCall[call]
}

func (w *world) see(f Effect) {
	switch f := f.(type) {
	case ReplyJoin:
		w.joined(w.answered(f.Call), &f.Response)
	case ReplySync:
		w.synced(w.answered(f.Call), &f.Response)
	case Reply:
		w.answered(f.Call)
	case Write:
		w.writes = append(w.writes, f)
	case Forget:
		w.m = NewMachine("g", &w.limits)
		w.generation = 0
		clear(w.leaders)
		clear(w.owners)
		w.writes = nil
	}
}

func (w *world) joined(c *modelClient, r *JoinResponse) {
	c.leads = nil
	if r.Err != nil {
		c.generation = NoGeneration
		if r.Err == broker.ErrMemberIDRequired {
			c.id = r.Member
		} else if r.Err == broker.ErrUnknownMember || r.Err == broker.ErrFencedInstanceID {
			c.id = ""
		}
		return
	}
	if r.Generation != w.m.generation {
		w.t.Fatalf("%s is told generation %d in generation %d", c.name, r.Generation, w.m.generation)
	}
	c.id, c.generation = r.Member, r.Generation
	if len(r.Members) > 0 && !r.SkipAssignment {
		if other, ok := w.leaders[r.Generation]; ok && other != r.Member {
			w.t.Fatalf("generation %d is led by %s and %s", r.Generation, other, r.Member)
		}
		w.leaders[r.Generation] = r.Member
		c.leads = r.Members
	}
}

func (w *world) synced(c *modelClient, r *SyncResponse) {
	if r.Err != nil || len(r.Assignment) == 0 {
		return
	}
	owners := w.owners[w.m.generation]
	if owners == nil {
		owners = map[string]string{}
		w.owners[w.m.generation] = owners
	}
	owner := c.id
	if c.instance != "" {
		owner = c.instance // who replaces a static member takes its share over
	}
	if other, ok := owners[string(r.Assignment)]; ok && other != owner {
		w.t.Fatalf("generation %d: %q belongs to %s and %s", w.m.generation, r.Assignment, other, owner)
	}
	owners[string(r.Assignment)] = owner
}

func (w *world) client() *modelClient { return rapid.SampledFrom(w.clients).Draw(w.t, "client") }

func (w *world) join(*rapid.T) {
	c := w.client()
	topics := rapid.SampledFrom([]string{"t", "u"}).Draw(w.t, "topics")
	r := JoinRequest{
		Group: "g", Member: c.id, Instance: c.instance, ClientID: c.name, ProtocolType: "consumer",
		Protocols:      []Protocol{{Name: "range", Metadata: subscribe(topics)}},
		SessionTimeout: 10 * time.Second, RebalanceTimeout: rapid.SampledFrom([]time.Duration{5 * time.Second, 30 * time.Second}).Draw(w.t, "rebalance"),
		RequireMemberID: rapid.Bool().Draw(w.t, "v4"), SkipAssignment: rapid.Bool().Draw(w.t, "v9"),
	}
	w.ids++
	w.step(Join{Call: w.call("JoinGroup", c), Request: r, NewMember: fmt.Sprint(c.name, "-", w.ids)})
}

func (w *world) sync(*rapid.T) {
	c := w.client()
	r := SyncRequest{Member: c.id, Instance: c.instance, Generation: c.generation}
	for i, m := range c.leads {
		r.Assignments = append(r.Assignments, Assignment{Member: m.Member, Data: fmt.Appendf(nil, "share %d", i)})
	}
	w.step(Sync{Call: w.call("SyncGroup", c), Request: r})
}

func (w *world) restart(*rapid.T) {
	c := w.client()
	c.id, c.generation, c.leads = "", NoGeneration, nil
}

func (w *world) other(*rapid.T) {
	c := w.client()
	switch rapid.SampledFrom([]string{"heartbeat", "leave", "commit", "simple", "delete", "sweep", "topic"}).Draw(w.t, "request") {
	case "heartbeat":
		w.step(Heartbeat{Call: w.call("Heartbeat", c), Request: HeartbeatRequest{Member: c.id, Instance: c.instance, Generation: c.generation}})
	case "leave":
		w.step(Leave{Call: w.call("LeaveGroup", c), Members: []LeaveMember{{Member: c.id, Instance: c.instance}}})
	case "commit":
		w.commit(c, c.id, c.generation)
	case "simple":
		w.commit(c, "", NoGeneration)
	case "delete":
		w.step(Delete{Call: w.call("DeleteGroups", c)})
	case "sweep":
		w.step(Sweep{})
	case "topic":
		w.step(TopicDeleted{Topic: "t", Just: true})
	}
}

func (w *world) commit(c *modelClient, id string, g Generation) {
	k := OffsetKey{Topic: "t", Partition: rapid.Int32Range(0, 2).Draw(w.t, "partition")}
	w.step(Commit{
		Call: w.call("OffsetCommit", c), Member: id, Generation: g,
		Offsets: []CommitEntry{{Key: k, Value: Committed{Offset: 1, At: w.now}}},
	})
}

func (w *world) settle(*rapid.T) {
	if len(w.writes) > 0 {
		w.settleOne(rapid.Bool().Draw(w.t, "written"))
	}
}

func (w *world) settleOne(ok bool) {
	next := w.writes[0]
	w.writes = w.writes[1:]
	ev := Written{Seq: next.Seq}
	if !ok {
		ev.Err = broker.ErrCoordinatorNotAvailable
	}
	w.step(ev)
}

func (w *world) pass(*rapid.T) {
	w.wait(time.Duration(rapid.IntRange(1, 20).Draw(w.t, "seconds")) * time.Second)
}

func (w *world) wait(d time.Duration) {
	until := w.now.Add(d)
	for {
		next := w.m.Deadline()
		if next.IsZero() || next.After(until) {
			break
		}
		if next.After(w.now) {
			w.now = next
		}
		w.step(Tick{})
	}
	w.now = until
}

// TestMachineProperties lets clients do anything in any order.
func TestMachineProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		t.Repeat(map[string]func(*rapid.T){
			"join": w.join, "sync": w.sync, "restart": w.restart, "other": w.other, "settle": w.settle, "pass": w.pass,
			"": func(*rapid.T) {},
		})
		for range 100 {
			for len(w.writes) > 0 {
				w.settleOne(true)
			}
			w.wait(10 * time.Minute)
		}
		if len(w.open) > 0 {
			t.Fatalf("never answered: %v", w.open)
		}
		if len(w.m.members) > 0 || w.m.heldBytes != 0 || len(w.m.support) > 0 || len(w.m.pending) > 0 {
			t.Fatalf("after an hour of silence something is left: %d members, %d bytes", len(w.m.members), w.m.heldBytes)
		}
	})
}
