package group

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/internal/scripts"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// TestScripts plays testdata/*.txt. The commands are told in script.run.
func TestScripts(t *testing.T) {
	scripts.Blocks(t, "testdata/*.txt", func(t *testing.T, out *strings.Builder) func([]string) { return newScript(t, out).run })
}

// script is a machine with the world around it.
type script struct {
	t       *testing.T
	limits  Limits
	machine *Machine
	now     time.Time
	calls   CallID
	kinds   map[CallID]string
	ids     int
	held    bool // writes wait for "written" or "refused"
	writes  []Write
	state   State
	topics  topicMap
	version uint64
	times   Times   // that the group has set itself; zero: as the limits say
	log     *loaded // what was written
	out     *strings.Builder
}

func (s *script) memberTimes(group string, share bool) Times {
	if s.times != (Times{}) {
		return s.times
	}
	return s.limits.times(group, share)
}

var scriptStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newScript(t *testing.T, out *strings.Builder) *script {
	s := &script{t: t, out: out, limits: DefaultLimits(), now: scriptStart, kinds: map[CallID]string{}, version: 1, log: &loaded{txns: transactions{}}}
	s.machine = NewMachine("g", &s.limits)
	return s
}

// args are "key=value" words; others are positional.
func args(words []string) (positional []string, named map[string]string) {
	named = map[string]string{}
	for _, w := range words {
		if k, v, ok := strings.Cut(w, "="); ok && !strings.Contains(k, "/") {
			named[k] = v
		} else {
			positional = append(positional, w)
		}
	}
	return positional, named
}

func (s *script) run(words []string) {
	pos, named := args(words[1:])
	switch words[0] {
	case "limits":
		s.setLimits(named)
	case "times":
		s.times = Times{Session: duration(named["session"]), Heartbeat: duration(named["heartbeat"])}
	case "hold":
		s.held = true
	case "join":
		s.join(pos, named)
	case "sync":
		s.step(Sync{View: s.view(), Call: s.call("SyncGroup"), Request: s.syncRequest(pos, named)})
	case "heartbeat":
		s.step(Heartbeat{View: s.view(), Call: s.call("Heartbeat"), Request: HeartbeatRequest{Member: pos[0], Instance: named["instance"], Generation: generation(named)}})
	case "leave":
		s.step(Leave{View: s.view(), Call: s.call("LeaveGroup"), Members: leavers(pos)})
	case "commit":
		s.step(s.commit(pos, named))
	case "txn-commit":
		s.step(s.txnCommit(pos, named))
	case "txn-end":
		s.step(TxnEnded{Producer: producer(pos[0]), Commit: pos[1] == "commit"})
	case "stable":
		s.stable(pos)
	case "delete-offsets":
		s.step(DeleteOffsets{Call: s.call("OffsetDelete"), Topics: deletions(pos)})
	case "topics":
		s.setTopics(pos)
	case "member":
		s.member(pos, named, false)
	case "sharer":
		s.member(pos, named, true)
	case "ensure-share":
		s.step(EnsureShare{Call: s.call("EnsureShare")})
	case "members":
		s.members()
	case "delete":
		s.step(Delete{Call: s.call("DeleteGroups")})
	case "topic-deleted":
		s.step(TopicDeleted{Topic: pos[0], ID: idWord(named), Just: !slices.Contains(pos, "long-ago")})
	case "sweep":
		s.step(Sweep{})
	case "written":
		s.settle(nil)
	case "refused":
		s.settle(broker.ErrCoordinatorNotAvailable)
	case "advance":
		s.advance(pos[0])
	case "reload":
		s.reload()
	case "show":
		s.show()
	default:
		s.t.Fatalf("unknown command %q", words[0])
	}
}

func (s *script) setLimits(named map[string]string) {
	for k, v := range named {
		switch k {
		case "initial-delay":
			s.limits.InitialRebalanceDelay = duration(v)
		case "max-size":
			s.limits.MaxSize = number(v)
		case "regexes":
			s.limits.MaxRegexes = number(v)
		case "members":
			s.limits.Consumer.MaxSize = number(v)
		case "max-bytes":
			s.limits.MaxGroupBytes = number(v)
		case "max-pending":
			s.limits.MaxPendingMembers = number(v)
		case "migration":
			s.limits.Migration = Migration(v)
		case "retention":
			s.limits.OffsetsRetention = duration(v)
		default:
			s.t.Fatalf("unknown limit %q", k)
		}
	}
}

// number is -1000 for what is no number: a script is part of the test's source, and its output would be plainly wrong.
func number(v string) int {
	n, err := strconv.Atoi(v)
	if err != nil {
		return -1000
	}
	return n
}

func duration(v string) time.Duration {
	d, err := time.ParseDuration(v)
	if err != nil {
		return -time.Hour
	}
	return d
}

func generation(named map[string]string) Generation { return Generation(number(named["gen"])) }

func (s *script) call(kind string) CallID {
	s.calls++
	s.kinds[s.calls] = kind
	return s.calls
}

// join CLIENT [id=MEMBER] [instance=I] [protocols=range:t1,t2;sticky:t1] [type=consumer] [session=10s] [rebalance=1m] [v3] [v9]
// v3: no member id is required; v9: skipping assignments is understood.
func (s *script) join(pos []string, named map[string]string) {
	r := JoinRequest{
		Group: "g", Member: named["id"], Instance: named["instance"], ClientID: pos[0], ClientHost: "/10.0.0.1",
		ProtocolType: "consumer", SessionTimeout: 10 * time.Second, RebalanceTimeout: time.Minute,
		RequireMemberID: !slices.Contains(pos, "v3"), SkipAssignment: slices.Contains(pos, "v9"),
	}
	if v, ok := named["type"]; ok {
		r.ProtocolType = v
	}
	if v, ok := named["session"]; ok {
		r.SessionTimeout = duration(v)
	}
	if v, ok := named["rebalance"]; ok {
		r.RebalanceTimeout = duration(v)
	}
	protocols, ok := named["protocols"]
	if !ok {
		protocols = "range:t"
	}
	for p := range strings.SplitSeq(protocols, ";") {
		name, topics, _ := strings.Cut(p, ":")
		metadata := subscribe(strings.Split(topics, ",")...)
		if v, ok := named["owned"]; ok {
			metadata = withOwned(metadata, parsePartitions(v))
		}
		r.Protocols = append(r.Protocols, Protocol{Name: name, Metadata: metadata})
	}
	e := Join{View: s.view(), Call: s.call("JoinGroup"), Request: r}
	if r.Member == "" {
		s.ids++
		e.NewMember = fmt.Sprintf("%s-%d", cmp.Or(r.Instance, r.ClientID), s.ids)
	}
	s.step(e)
}

// subscribe encodes a ConsumerProtocolSubscription of version 0.
func subscribe(topics ...string) []byte {
	b := []byte{0, 0, 0, 0, 0, byte(len(topics))}
	for _, t := range topics {
		b = append(append(b, 0, byte(len(t))), t...)
	}
	return append(b, 0xff, 0xff, 0xff, 0xff)
}

func (s *script) syncRequest(pos []string, named map[string]string) SyncRequest {
	r := SyncRequest{Member: pos[0], Instance: named["instance"], Generation: generation(named)}
	if v, ok := named["protocol"]; ok {
		r.Protocol = &v
	}
	for _, w := range pos[1:] {
		m, share, _ := strings.Cut(w, "/")
		data := []byte(share)
		if list, ok := strings.CutPrefix(share, "@"); ok {
			data = appendAssignment(1, s.topics, setOf(parsePartitions(list)))
		}
		r.Assignments = append(r.Assignments, Assignment{Member: m, Data: data})
	}
	return r
}

// withOwned makes version 1 of a subscription of version 0: with the partitions that the member still has.
func withOwned(b []byte, owned []TopicPartition) []byte {
	b[1] = 1
	list := appendAssignment(1, named{}, setOf(owned))
	return append(b, list[2:len(list)-4]...) // as in an assignment, between the version and the user data
}

// leave MEMBER[/INSTANCE]...; MEMBER may be "-".
func leavers(words []string) []LeaveMember {
	var out []LeaveMember
	for _, w := range words {
		m, i, _ := strings.Cut(w, "/")
		out = append(out, LeaveMember{Member: strings.TrimPrefix(m, "-"), Instance: i})
	}
	return out
}

// idWord is the topic id of a word id=N: zero without one.
func idWord(named map[string]string) (id replication.TopicID) {
	if v, ok := named["id"]; ok {
		id[0] = byte(number(v))
	}
	return id
}

// commit MEMBER gen=N [id=N] TOPIC/PARTITION=OFFSET...; a MEMBER "-" stands for none, id is the topic's.
func (s *script) commit(pos []string, named map[string]string) Commit {
	e := Commit{Call: s.call("OffsetCommit"), Member: strings.TrimPrefix(pos[0], "-"), Instance: named["instance"], Generation: generation(named), Old: named["by"] == "old"}
	for _, w := range pos[1:] {
		k, v, _ := strings.Cut(w, "=")
		e.Offsets = append(e.Offsets, CommitEntry{Key: offsetKey(k), Value: Committed{Offset: batch.Offset(number(v)), At: s.now, TopicID: idWord(named)}})
	}
	return e
}

// txn-commit PRODUCER/EPOCH MEMBER gen=N TOPIC/PARTITION=OFFSET...
func (s *script) txnCommit(pos []string, named map[string]string) Commit {
	e := s.commit(pos[1:], named)
	p := producer(pos[0])
	e.Producer = &p
	return e
}

func producer(w string) Producer {
	id, epoch, _ := strings.Cut(w, "/")
	return Producer{ID: int64(number(id)), Epoch: int16(number(epoch))}
}

// stable TOPIC/PARTITION... tells which offsets a transaction would change.
func (s *script) stable(words []string) {
	for _, w := range words {
		word := "stable"
		if s.machine.unstable(offsetKey(w)) {
			word = "unstable"
		}
		fmt.Fprintf(s.out, "%s is %s\n", w, word)
	}
}

func offsetKey(w string) OffsetKey {
	topic, p, _ := strings.Cut(w, "/")
	return OffsetKey{Topic: topic, Partition: int32(number(p))}
}

func deletions(words []string) []DeleteOffsetsTopic {
	var out []DeleteOffsetsTopic
	for _, w := range words {
		k := offsetKey(w)
		out = append(out, DeleteOffsetsTopic{Name: k.Topic, Partitions: []int32{k.Partition}})
	}
	return out
}

func (s *script) step(ev Event) {
	for _, f := range slices.Clone(s.machine.Step(s.now, ev)) {
		s.tell(f)
	}
	if s.machine.state != s.state {
		fmt.Fprintf(s.out, "  the group is %v now\n", s.machine.state)
		s.state = s.machine.state
	}
	checkMachine(s.t, s.machine)
	for !s.held && len(s.writes) > 0 {
		s.settle(nil)
	}
}

func (s *script) settle(err error) {
	if len(s.writes) == 0 {
		s.t.Fatalf("nothing is being written; so far:\n%s", s.out.String())
	}
	w := s.writes[0]
	s.writes = s.writes[1:]
	for i := range w.Records {
		switch r := &w.Records[i]; {
		case err != nil:
		case r.Entry != nil:
			s.log.entry(r.Entry)
		case r.Key == nil:
			s.log.metadata = r.Metadata
		}
	}
	s.step(Written{Seq: w.Seq, Err: err})
}

// advance lets time pass, with a tick whenever the machine wants one.
func (s *script) advance(v string) {
	until := s.now.Add(duration(v))
	for {
		d := s.machine.Deadline()
		if d.IsZero() || d.After(until) {
			break
		}
		if d.After(s.now) {
			s.now = d
		}
		before := s.out.Len()
		s.step(Tick{s.view()})
		if s.out.Len() > before {
			all := s.out.String()
			s.out.Reset()
			fmt.Fprintf(s.out, "%s  (at %v)\n%s", all[:before], s.now.Sub(scriptStart), all[before:])
		}
	}
	s.now = until
}

// reload takes the group through its stored form to a new coordinator.
func (s *script) reload() {
	g := loaded{offsets: s.machine.offsets, txns: s.machine.txns, place: s.machine.place}
	g.consumer, g.share, g.metadata = s.log.consumer, s.log.share, s.log.metadata
	s.machine = g.machine("g", s.now, newLoader(&s.limits, s.memberTimes))
	s.writes = nil
	s.step(Tick{s.view()})
}

func (s *script) tell(f Effect) {
	switch f := f.(type) {
	case ReplyJoin:
		fmt.Fprintf(s.out, "JoinGroup %d: %s\n", f.Call, joinProse(&f.Response))
	case ReplySync:
		if f.Response.Err != nil {
			fmt.Fprintf(s.out, "SyncGroup %d: %v\n", f.Call, f.Response.Err)
		} else {
			fmt.Fprintf(s.out, "SyncGroup %d: your share under %s is %s\n", f.Call, f.Response.Protocol, s.shareProse(f.Response.Assignment))
		}
	case Reply:
		fmt.Fprintf(s.out, "%s %d: %s\n", s.kinds[f.Call], f.Call, replyProse(f))
	case Write:
		s.writes = append(s.writes, f)
		if f.Producer != nil {
			fmt.Fprintf(s.out, "  in the transaction of producer %d of epoch %d:\n", f.Producer.ID, f.Producer.Epoch)
		}
		for i := range f.Records {
			fmt.Fprintf(s.out, "  writes %s\n", s.recordProse(&f.Records[i]))
		}
	case ReplyMember:
		fmt.Fprintf(s.out, "%s: %s\n", s.kinds[f.Call], memberProse(&f.Response))
	case Reload:
		s.out.WriteString("  the group is to be read again\n")
	case Forget:
		s.out.WriteString("  the group is forgotten\n")
		s.machine = NewMachine("g", &s.limits)
	}
}

func joinProse(r *JoinResponse) string {
	if errors.Is(r.Err, broker.ErrMemberIDRequired) {
		return "come back with the id " + r.Member
	}
	if r.Err != nil {
		return r.Err.Error()
	}
	out := fmt.Sprintf("%s is in generation %d under %s, led by %s", r.Member, r.Generation, r.Protocol, cmp.Or(r.Leader, "nobody"))
	if r.SkipAssignment {
		out += " who need not assign"
	}
	var list []string
	for _, m := range r.Members {
		name := m.Member
		if m.Instance != "" {
			name += " as " + m.Instance
		}
		list = append(list, fmt.Sprintf("%s (%s)", name, topicsOf(m.Metadata)))
	}
	if len(list) > 0 {
		out += "; members are " + strings.Join(list, ", ")
	}
	return out
}

func topicsOf(metadata []byte) string {
	s := subscription{topics: map[string]struct{}{}}
	s.add(metadata)
	var names []string
	for t := range s.topics {
		names = append(names, t)
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}

func replyProse(r Reply) string {
	if r.Err != nil {
		return r.Err.Error()
	}
	if r.Each == nil {
		return "fine"
	}
	var each []string
	for _, err := range r.Each {
		if err == nil {
			each = append(each, "fine")
		} else {
			each = append(each, err.Error())
		}
	}
	return strings.Join(each, "; ")
}

// shareProse tells an assignment: the partitions, or the bytes of one that is none of a consumer.
func (s *script) shareProse(b []byte) string {
	named, ok := readAssignment(b)
	if !ok || len(b) == 0 {
		return fmt.Sprintf("%q", b)
	}
	return partitionsProse(byID(s.topics, named))
}

func (s *script) recordProse(r *Record) string {
	switch {
	case r.Entry != nil:
		return entryProse(r.Entry)
	case r.Offset != nil:
		return fmt.Sprintf("offset %s/%d = %d", r.Key.Topic, r.Key.Partition, r.Offset.Offset)
	case r.Key != nil:
		return fmt.Sprintf("a tombstone for the offset of %s/%d", r.Key.Topic, r.Key.Partition)
	case r.Metadata == nil:
		return "a tombstone for the group"
	case len(r.Metadata.Members) == 0:
		return fmt.Sprintf("generation %d, without members", r.Metadata.Generation)
	}
	var list []string
	for _, m := range r.Metadata.Members {
		list = append(list, fmt.Sprintf("%s has %s", m.Member, s.shareProse(m.Assignment)))
	}
	return fmt.Sprintf("generation %d under %s, led by %s: %s", r.Metadata.Generation, r.Metadata.Protocol, cmp.Or(r.Metadata.Leader, "nobody"), strings.Join(list, ", "))
}

func (s *script) show() {
	d := s.machine.Describe()
	fmt.Fprintf(s.out, "%v in generation %d", d.State, s.machine.generation)
	for _, m := range d.Members {
		fmt.Fprintf(s.out, "; %s %s", m.Member, s.shareProse(m.Assignment))
	}
	for _, k := range s.machine.offsets.keys("") {
		c, _ := s.machine.offsets.get(k)
		fmt.Fprintf(s.out, "; %s/%d at %d", k.Topic, k.Partition, c.Offset)
	}
	s.out.WriteString("\n")
}

// checkMachine holds the invariants that Machine's comment states.
func checkMachine(t interface{ Fatalf(string, ...any) }, m *Machine) {
	joining, owing, held := 0, 0, 0
	support := map[string]int{}
	for id, s := range m.members {
		if s.id != id {
			t.Fatalf("member %s is kept as %s", s.id, id)
		}
		if s.join != 0 {
			joining++
		}
		if s.owesSync {
			owing++
		}
		if _, ok := m.pending[id]; ok {
			t.Fatalf("member %s is pending too", id)
		}
		if s.instance != "" && m.static[s.instance] != id {
			t.Fatalf("instance %s is %s, not %s", s.instance, m.static[s.instance], id)
		}
		held += s.bytes()
		for _, p := range s.protocols {
			support[p.Name]++
		}
	}
	if joining != m.joining || owing != m.owing || held != m.heldBytes {
		t.Fatalf("joining %d, counted %d; owing %d, counted %d; held %d, counted %d", m.joining, joining, m.owing, owing, m.heldBytes, held)
	}
	for name, n := range m.support {
		if support[name] != n {
			t.Fatalf("support of %s is %d, counted %d", name, n, support[name])
		}
	}
	for instance, id := range m.static {
		if m.members[id] == nil {
			t.Fatalf("instance %s is %s, who is no member", instance, id)
		}
	}
	if m.leader != "" && m.members[m.leader] == nil {
		t.Fatalf("the leader %s is no member", m.leader)
	}
	checkMembers(t, m.modern)
	if (m.state == Empty || m.state == Dead) && len(m.members) > 0 {
		t.Fatalf("%v with %d members", m.state, len(m.members))
	}
	if (m.state == Stable || m.state == CompletingRebalance) && len(m.members) == 0 {
		t.Fatalf("%v without members", m.state)
	}
}
