package group

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/replication"
)

// topicMap is the topics of a script.
type topicMap map[string]coordinator.Topic

func (t topicMap) Topic(name string) (coordinator.Topic, bool) {
	topic, ok := t[name]
	return topic, ok
}

func (t topicMap) TopicByID(id replication.TopicID) (coordinator.Topic, bool) {
	for _, topic := range t {
		if topic.ID == id {
			return topic, true
		}
	}
	return coordinator.Topic{}, false
}

// named gives every topic id the name that topicID made it of.
type named struct{ topicMap }

func (named) TopicByID(id replication.TopicID) (coordinator.Topic, bool) {
	return coordinator.Topic{Name: strings.TrimRight(string(id[:]), "\x00")}, true
}

func (s *script) view() View { return View{Topics: s.topics, Version: s.version} }

// topicID is the topic's name, so that ids can be read in scripts.
func topicID(name string) (id replication.TopicID) {
	copy(id[:], name)
	return id
}

// topics NAME/PARTITIONS... says which topics there are from now on.
func (s *script) setTopics(words []string) {
	s.topics = topicMap{}
	s.version++
	for _, w := range words {
		k := offsetKey(w)
		s.topics[k.Topic] = coordinator.Topic{Name: k.Topic, ID: topicID(k.Topic), Partitions: k.Partition}
	}
}

// member ID EPOCH [topics=a,b] [regex=R] [owned=a/0,a/1|none] [instance=I] [assignor=A] [rebalance=10s]
// Words that are not there are "as before". With EPOCH 0 topics is t, owned is none and rebalance is a minute unless said.
func (s *script) member(pos []string, named map[string]string, share bool) {
	r := MemberRequest{Group: "g", Member: pos[0], Epoch: MemberEpoch(number(pos[1])), Instance: named["instance"], ClientID: "c", ClientHost: "/10.0.0.1", Rebalance: -1}
	if r.Epoch == EpochJoin {
		r.Topics, r.Owned, r.Rebalance = []string{"t"}, []TopicPartition{}, time.Minute
	}
	for k, v := range named {
		switch k {
		case "topics":
			r.Topics = strings.FieldsFunc(v, func(c rune) bool { return c == ',' })
		case "regex":
			r.Regex = &v
		case "assignor":
			r.Assignor = &v
		case "rebalance":
			r.Rebalance = duration(v)
		case "owned":
			r.Owned = parsePartitions(v)
		}
	}
	kind := "member"
	if share {
		kind = "sharer"
	}
	e := MemberHeartbeat{Call: s.call(kind + " " + pos[0]), Request: r, Share: share, Times: s.memberTimes("g", share), View: s.view()}
	e.Resolved = s.resolve(&r)
	s.step(e)
}

func parsePartitions(v string) []TopicPartition {
	out := []TopicPartition{}
	if v == "none" {
		return out
	}
	for w := range strings.SplitSeq(v, ",") {
		k := offsetKey(w)
		out = append(out, TopicPartition{topicID(k.Topic), k.Partition})
	}
	return out
}

// resolve does what Service.resolve does.
func (s *script) resolve(r *MemberRequest) map[string][]string {
	var all []string
	if r.Regex != nil && *r.Regex != "" {
		all = append(all, *r.Regex)
	}
	if s.machine.modern != nil {
		all = s.machine.modern.unresolved(all, s.version)
	}
	out := map[string][]string{}
	for _, text := range all {
		out[text] = []string{}
		for name := range s.topics {
			if regexp.MustCompile("^(?:" + text + ")$").MatchString(name) {
				out[text] = append(out[text], name)
			}
		}
		slices.Sort(out[text])
	}
	return out
}

func partitionsProse(list []TopicPartition) string {
	var words []string
	for i, p := range list {
		name := strings.TrimRight(string(p.Topic[:]), "\x00")
		if i > 0 && list[i-1].Topic == p.Topic {
			words[len(words)-1] += fmt.Sprint(",", p.Partition)
		} else {
			words = append(words, fmt.Sprint(name, "/", p.Partition))
		}
	}
	if len(words) == 0 {
		return "nothing"
	}
	return strings.Join(words, " ")
}

func memberProse(r *MemberResponse) string {
	if r.Err != nil {
		return r.Err.Error()
	}
	out := fmt.Sprintf("epoch %d", r.Epoch)
	if usual := DefaultLimits().Consumer.Heartbeat; r.Interval != 0 && r.Interval != usual {
		out += fmt.Sprintf(", heartbeats every %v", r.Interval)
	}
	if r.HasAssignment {
		out += ", you have " + partitionsProse(r.Assigned)
	}
	return out
}

func entryProse(e *Entry) string {
	switch v := e.Value.(type) {
	case groupValue:
		return fmt.Sprintf("group epoch %d", v.Epoch)
	case assignmentValue:
		return fmt.Sprintf("assignment epoch %d", v.Epoch)
	case memberValue:
		out := fmt.Sprintf("member %s reads %s", e.Name, strings.Join(append(slices.Clone(v.Topics), v.Regex), ","))
		if v.Instance != "" {
			out += " as " + v.Instance
		}
		if v.Classic != nil {
			out += fmt.Sprintf(", classic, %d protocols", len(v.Classic.Protocols))
		}
		return out
	case targetValue:
		return fmt.Sprintf("target of %s: %s", e.Name, partitionsProse(v.Partitions))
	case currentValue:
		out := fmt.Sprintf("%s in epoch %d has %s", e.Name, v.Epoch, partitionsProse(v.Assigned))
		if v.State == stateUnreleased {
			out += ", waits for more"
		}
		if len(v.Revoking) > 0 {
			out += ", gives up " + partitionsProse(v.Revoking)
		}
		return out
	case regexValue:
		return fmt.Sprintf("%s matches %s", e.Name, strings.Join(v.Topics, ","))
	}
	return fmt.Sprintf("a tombstone of kind %d for %q", e.Kind, e.Name)
}

// members shows the group and its members.
func (s *script) members() {
	l := s.machine.Listing()
	fmt.Fprintf(s.out, "%s group, %s\n", l.Type, l.State)
	if s.machine.modern == nil {
		return
	}
	d := s.machine.DescribeMembers(s.limits.preferredAssignor())
	for _, m := range d.Members {
		classic := ""
		if m.Classic {
			classic = ", classic"
		}
		fmt.Fprintf(s.out, "  %s in epoch %d has %s of %s%s\n", m.Member, m.Epoch, partitionsProse(m.Assigned), partitionsProse(m.Target), classic)
	}
}

// checkMembers holds the invariants that modern's comment states.
func checkMembers(t interface{ Fatalf(string, ...any) }, g *modern) {
	if g == nil {
		return
	}
	owned, held := 0, 0
	for id, s := range g.members {
		held += s.bytes()
		if s.epoch > g.assignmentEpoch || g.assignmentEpoch > g.groupEpoch {
			t.Fatalf("%s is in epoch %d; the assignment is of %d, the group of %d", id, s.epoch, g.assignmentEpoch, g.groupEpoch)
		}
		if s.instance != "" && g.static[s.instance] != id {
			t.Fatalf("instance %s is %s, not %s", s.instance, g.static[s.instance], id)
		}
		if g.share {
			continue
		}
		for _, set := range []partitionSet{s.assigned, s.revoking} {
			for p := range set {
				owned++
				if g.owners[p] != id {
					t.Fatalf("%v is with %s, and with %s", p, id, g.owners[p])
				}
			}
		}
	}
	if owned != len(g.owners) || held != g.heldBytes {
		t.Fatalf("%d partitions are with members, %d with owners; held %d, counted %d", owned, len(g.owners), g.heldBytes, held)
	}
	for instance, id := range g.static {
		if g.members[id] == nil {
			t.Fatalf("instance %s is %s, who is no member", instance, id)
		}
	}
}
