package controller

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/quorlog/quorlog/internal/scripts"
	"github.com/quorlog/quorlog/replication"
)

// TestScripts plays testdata/*.txt. The commands are told in script.do.
func TestScripts(t *testing.T) {
	scripts.Lines(t, "testdata/*.txt", func(t *testing.T) func([]string) []string {
		s := newScript(t)
		t.Cleanup(func() {
			if err := checkImage(s.c.Image()); err != nil {
				t.Error(err)
			}
		})
		return s.do
	})
}

// script is a cluster under a script.
type script struct {
	t     *testing.T
	c     *Controller
	g     *group
	alive []replication.NodeID // nil: nobody knows
}

func newScript(t *testing.T) *script {
	s := &script{t: t}
	s.c, s.g = newTestController(t, map[string]string{})
	s.c.router.around.aliveAs = func(id replication.NodeID, dir DirectoryID) bool {
		return slices.Contains(s.alive, id) && s.c.Image().Registrations[id].Directory == dir
	}
	return s
}

// arguments sorts words into plain ones and name=value pairs; the options that this runner knows are taken out of these.
type arguments struct {
	words  []string
	config map[string]string
	option map[string]string
}

var optionNames = []string{"partitions", "replicas", "assign", "rack", "dir", "check", "internal"}

func parse(words []string) arguments {
	a := arguments{config: map[string]string{}, option: map[string]string{}}
	for _, w := range words {
		name, value, pair := strings.Cut(w, "=")
		switch {
		case slices.Contains(optionNames, name):
			a.option[name] = value
		case pair:
			a.config[name] = value
		default:
			a.words = append(a.words, w)
		}
	}
	return a
}

func (a arguments) has(option string) bool { _, ok := a.option[option]; return ok }

func (a arguments) number(option string) int {
	n, err := strconv.Atoi(a.option[option])
	if err != nil {
		return -1
	}
	return n
}

// nodes reads assign=1,2;2,1
func (a arguments) nodes() [][]replication.NodeID {
	var out [][]replication.NodeID
	for _, one := range strings.FieldsFunc(a.option["assign"], func(r rune) bool { return r == ';' }) {
		var nodes []replication.NodeID
		for _, id := range strings.Split(one, ",") {
			n, _ := strconv.Atoi(id)
			nodes = append(nodes, replication.NodeID(n))
		}
		out = append(out, nodes)
	}
	return out
}

func (s *script) do(words []string) []string {
	if s.c.router.around.live = nil; s.alive != nil {
		s.c.router.around.live = func() []replication.NodeID { return s.alive }
	}
	verb, a := words[0], parse(words[1:])
	switch verb {
	case "name":
		if err := s.c.EnsureClusterID(s.t.Context()); err != nil {
			return []string{err.Error()}
		}
		return []string{fmt.Sprintf("the cluster has a name of %d characters", len(s.c.Image().ClusterID))}
	case "node":
		return s.node(a)
	case "create":
		return s.create(a)
	case "delete":
		return s.delete(a)
	case "grow":
		n, _ := strconv.Atoi(a.words[1])
		return said(s.c.CreatePartitions(s.t.Context(), a.words[0], int32(n), a.nodes(), a.has("check")))
	case "alter":
		return said(s.c.AlterConfigs(s.t.Context(), resourceOf(a.words[0]), ops(words[2:]), a.has("check")))
	case "replace":
		return said(s.c.ReplaceConfigs(s.t.Context(), resourceOf(a.words[0]), a.config, a.has("check")))
	case "producer-ids":
		first, count, err := s.c.AllocateProducerIDs(s.t.Context())
		if err != nil {
			return []string{err.Error()}
		}
		return []string{fmt.Sprintf("%d to %d", first, first+int64(count)-1)}
	case "join":
		return s.join(a)
	case "unregister":
		return said(s.c.UnregisterNode(s.t.Context(), nodeID(a.words[0])))
	case "alive":
		s.alive = nil
		for _, w := range a.words {
			s.alive = append(s.alive, nodeID(w))
		}
		return nil
	case "reassign":
		return s.reassign(a)
	case "finish":
		return said(s.c.FinishReassignment(s.t.Context(), s.partition(a.words[0]), replicas(a.words[1:])))
	case "renew":
		r, err := s.c.RenewReplica(s.t.Context(), s.partition(a.words[0]), replicas(a.words[1:])[0])
		if err != nil {
			return said(err)
		}
		return []string{"as " + r.String()}
	case "moving":
		var out []string
		for _, m := range s.c.ListReassignments() {
			out = append(out, fmt.Sprintf("%s-%d: adding %v, removing %v", m.Topic, m.ID.Partition, m.Assignment.Adding, m.Assignment.Removing))
		}
		return out
	case "feature":
		level, _ := strconv.Atoi(a.words[1])
		return said(s.c.SetFeature(s.t.Context(), a.words[0], int32(level)))
	case "effective":
		return []string{fmt.Sprintf("%+v", s.c.Image().TopicConfig(a.words[0]))}
	case "image":
		return s.image()
	case "restart":
		return s.restart()
	}
	return []string{"unknown command " + verb}
}

func nodeID(word string) replication.NodeID {
	n, _ := strconv.Atoi(word)
	return replication.NodeID(n)
}

// replicas reads 1.1 2.7
func replicas(words []string) []replication.ReplicaID {
	var out []replication.ReplicaID
	for _, w := range words {
		var r replication.ReplicaID
		fmt.Sscanf(w, "%d.%d", &r.Node, &r.Incarnation)
		out = append(out, r)
	}
	return out
}

// partition reads NAME-INDEX.
func (s *script) partition(word string) replication.PartitionID {
	at := strings.LastIndex(word, "-")
	index, _ := strconv.Atoi(word[at+1:])
	id := replication.PartitionID{Topic: numbered(999), Partition: int32(index)}
	if t := s.c.Image().Topics[word[:at]]; t != nil {
		id.Topic = t.ID
	}
	return id
}

// join registers a node that does not run yet, as one does that has found the cluster.
func (s *script) join(a arguments) []string {
	host, port, _ := strings.Cut(a.words[1], ":")
	p, _ := strconv.Atoi(port)
	q := RegisterRequest{Node: replication.Node{ID: nodeID(a.words[0]), Host: host, Port: int32(p), Rack: a.option["rack"]}, Version: "1.0"}
	copy(q.Directory[:], a.option["dir"])
	r, err := s.c.Register(s.t.Context(), q)
	if err != nil {
		return said(err)
	}
	if r.Renewed {
		return []string{fmt.Sprintf("as %s, renewed", r.Meta)}
	}
	return []string{fmt.Sprintf("as %s", r.Meta)}
}

// reassign reads TOPIC-INDEX to=1,2 and TOPIC-INDEX cancel.
func (s *script) reassign(a arguments) []string {
	var moves []Reassignment
	for _, w := range a.words {
		where, to, _ := strings.Cut(w, ":")
		at := strings.LastIndex(where, "-")
		index, _ := strconv.Atoi(where[at+1:])
		m := Reassignment{Topic: where[:at], Partition: int32(index)}
		if to != "cancel" {
			m.Replicas = []replication.NodeID{}
			for _, id := range strings.FieldsFunc(to, func(r rune) bool { return r == ',' }) {
				m.Replicas = append(m.Replicas, nodeID(id))
			}
		}
		moves = append(moves, m)
	}
	before := s.g.index
	var out []string
	for i, err := range s.c.ReassignPartitions(s.t.Context(), moves) {
		out = append(out, a.words[i]+" "+said(err)[0])
	}
	if s.g.index == before {
		out = append(out, "(nothing was written)")
	}
	return out
}

func said(err error) []string {
	if err != nil {
		return []string{"refused: " + err.Error()}
	}
	return []string{"done"}
}

func (s *script) node(a arguments) []string {
	id, _ := strconv.Atoi(a.words[0])
	host, port, _ := strings.Cut(a.words[1], ":")
	p, _ := strconv.Atoi(port)
	s.c.machine.local.node = replication.NodeID(id) // as if that node itself asked
	defer func() { s.c.machine.local.node = 1 }()
	s.c.directory = DirectoryID{}
	copy(s.c.directory[:], a.option["dir"])
	before := s.g.index
	err := s.c.RegisterNode(s.t.Context(), replication.Node{ID: replication.NodeID(id), Host: host, Port: int32(p), Rack: a.option["rack"]})
	if err == nil && s.g.index == before {
		return []string{"nothing to tell"}
	}
	return said(err)
}

func (s *script) create(a arguments) []string {
	topics := make([]NewTopic, len(a.words))
	for i, name := range a.words {
		_, internal := a.option["internal"]
		topics[i] = NewTopic{
			Name: strings.Trim(name, `"`), Partitions: int32(a.number("partitions")), ReplicationFactor: int16(a.number("replicas")),
			Config: a.config, Internal: internal,
		}
		for j, nodes := range a.nodes() {
			if topics[i].Assignments == nil {
				topics[i].Assignments = map[int32][]replication.NodeID{}
			}
			topics[i].Assignments[int32(j)] = nodes
		}
	}
	var out []string
	before := s.g.index
	for i, r := range s.c.CreateTopics(s.t.Context(), topics, a.has("check")) {
		if r.Err != nil {
			out = append(out, fmt.Sprintf("%s refused: %v", topics[i].Name, r.Err))
		} else {
			out = append(out, describeTopic(r.Topic))
		}
	}
	if s.g.index == before {
		out = append(out, "(nothing was written)")
	}
	return out
}

func (s *script) delete(a arguments) []string {
	refs := make([]TopicRef, len(a.words))
	for i, name := range a.words {
		if n, err := strconv.Atoi(strings.TrimPrefix(name, "id:")); err == nil {
			refs[i].ID = numbered(uint64(n))
		} else {
			refs[i].Name = name
		}
	}
	var out []string
	for i, err := range s.c.DeleteTopics(s.t.Context(), refs) {
		if err != nil {
			out = append(out, fmt.Sprintf("%s refused: %v", a.words[i], err))
		} else {
			out = append(out, a.words[i]+" deleted")
		}
	}
	return out
}

// resourceOf reads topic:NAME, node:ID, cluster and group:NAME.
func resourceOf(s string) Resource {
	kind, name, _ := strings.Cut(s, ":")
	return Resource{Type: map[string]ResourceType{
		"topic": TopicResource, "node": BrokerResource, "cluster": BrokerResource, "group": GroupResource,
	}[kind], Name: name}
}

// ops reads set:NAME=VALUE, unset:NAME, add:NAME=VALUE and take:NAME=VALUE.
func ops(words []string) []ConfigOp {
	kinds := map[string]OpKind{"set": OpSet, "unset": OpDelete, "add": OpAppend, "take": OpSubtract, "odd": 9}
	var out []ConfigOp
	for _, w := range words {
		kind, rest, ok := strings.Cut(w, ":")
		if !ok {
			continue
		}
		name, value, _ := strings.Cut(rest, "=")
		out = append(out, ConfigOp{Name: name, Op: kinds[kind], Value: value})
	}
	return out
}

func describeTopic(t *Topic) string {
	var b strings.Builder
	fmt.Fprintf(&b, "topic %s", t.Name)
	if t.ID != (replication.TopicID{}) {
		fmt.Fprintf(&b, ", id %d", t.ID[15])
	}
	if t.Internal {
		b.WriteString(", internal")
	}
	for i, p := range t.Partitions {
		fmt.Fprintf(&b, "; %d on", i)
		for _, r := range p.Replicas {
			fmt.Fprintf(&b, " %s", r)
			if slices.Contains(p.Adding, r) {
				b.WriteString("+")
			}
			if slices.Contains(p.Removing, r) {
				b.WriteString("-")
			}
		}
		if p.Initial != nil {
			fmt.Fprintf(&b, " (made of %v)", p.Initial)
		}
	}
	if len(t.Config) > 0 {
		fmt.Fprintf(&b, "; %s", describeConfig(t.Config))
	}
	return b.String()
}

func describeConfig(values map[string]string) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		out = append(out, name+"="+values[name])
	}
	return strings.Join(out, " ")
}

func (s *script) image() []string {
	im := s.c.Image()
	var out []string
	for _, id := range slices.Sorted(maps.Keys(im.Nodes)) {
		n, r := im.Nodes[id], im.Registrations[id]
		out = append(out, fmt.Sprintf("node %d at %s:%d rack %q, registered by entry %d, next incarnation %d%s", id, n.Host, n.Port, n.Rack, r.Epoch, r.NextIncarnation, describeMeta(r)))
	}
	for _, name := range slices.Sorted(maps.Keys(im.Topics)) {
		out = append(out, describeTopic(im.Topics[name]))
	}
	if len(im.BrokerConfig) > 0 {
		out = append(out, "all nodes: "+describeConfig(im.BrokerConfig))
	}
	for _, id := range slices.Sorted(maps.Keys(im.NodeConfig)) {
		out = append(out, fmt.Sprintf("node %d: %s", id, describeConfig(im.NodeConfig[id])))
	}
	for _, g := range slices.Sorted(maps.Keys(im.GroupConfig)) {
		out = append(out, fmt.Sprintf("group %s: %s", g, describeConfig(im.GroupConfig[g])))
	}
	for _, f := range slices.Sorted(maps.Keys(im.Features)) {
		out = append(out, fmt.Sprintf("feature %s at level %d", f, im.Features[f]))
	}
	return append(out, fmt.Sprintf("%d topics, %d partitions, next producer id %d, last change by entry %d", len(im.Topics), im.Partitions(), im.NextProducerID, im.Index))
}

func describeMeta(r Registration) string {
	if r.Meta == 0 {
		return ""
	}
	return fmt.Sprintf(", metadata %d", r.Meta)
}

// restart takes a snapshot and goes on with what it restores.
func (s *script) restart() []string {
	before := s.c.Image()
	data, err := s.c.machine.Snapshot()
	if err != nil {
		return []string{err.Error()}
	}
	if err := s.c.machine.Restore(data); err != nil {
		return []string{err.Error()}
	}
	if !reflect.DeepEqual(before, s.c.Image()) {
		return []string{"restored something else"}
	}
	return []string{"restored the same image"}
}
