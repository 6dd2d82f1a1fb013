package controller

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller/metapb"
)

// commandGen draws commands over few names and ids, so that they often meet the same things. Many are wrong.
type commandGen struct{ ids uint64 }

func (g *commandGen) topicID(t *rapid.T) []byte {
	id := numbered(rapid.Uint64Range(0, g.ids+1).Draw(t, "id"))
	return id[:rapid.SampledFrom([]int{16, 16, 16, 3}).Draw(t, "id length")]
}

func (g *commandGen) freshID() []byte {
	g.ids++
	id := numbered(g.ids)
	return id[:]
}

func name(t *rapid.T) string {
	return rapid.SampledFrom([]string{"a", "b", "c.d", "c_d", "..", "", "x/y", "e"}).Draw(t, "name")
}

func placements(t *rapid.T) []*metapb.Placement {
	node := rapid.Int32Range(1, 4)
	one := rapid.Custom(func(t *rapid.T) *metapb.Placement {
		return &metapb.Placement{Nodes: rapid.SliceOfN(node, 0, 3).Draw(t, "nodes")}
	})
	return rapid.SliceOfN(one, 0, 3).Draw(t, "partitions")
}

var settingNames = []string{"cleanup.policy", "retention.ms", "log.retention.ms", "num.partitions", "nonsense", "min.compaction.lag.ms", "max.compaction.lag.ms"}

func setting(t *rapid.T) (name, value string) {
	return rapid.SampledFrom(settingNames).Draw(t, "setting"), rapid.SampledFrom([]string{"1", "5", "compact", "delete", "", "-1"}).Draw(t, "value")
}

func settings(t *rapid.T) []*metapb.Setting {
	values := map[string]string{}
	for range rapid.IntRange(0, 2).Draw(t, "settings") {
		name, value := setting(t)
		values[name] = value
	}
	return toSettings(values)
}

func changes(t *rapid.T) []*metapb.ConfigChange {
	var out []*metapb.ConfigChange
	for range rapid.IntRange(0, 3).Draw(t, "changes") {
		name, value := setting(t)
		c := &metapb.ConfigChange{Name: name}
		if rapid.Bool().Draw(t, "set") {
			c.Value = &value
		}
		if rapid.IntRange(0, 3).Draw(t, "expects") == 0 {
			c.Expected = &metapb.Expected{}
		}
		out = append(out, c)
	}
	return out
}

func (g *commandGen) command(t *rapid.T) *metapb.Command {
	c := &metapb.Command{Level: rapid.Uint32Range(1, metadataLevel).Draw(t, "level"), Rules: rapid.SampledFrom([]uint32{rulesVersion, rulesVersion, rulesVersion + 1}).Draw(t, "rules"), TimeMs: 7}
	most := rapid.Int64Range(5, 50).Draw(t, "most")
	switch rapid.IntRange(0, 16).Draw(t, "kind") {
	case 16:
		c.Kind = &metapb.Command_ChangeAcls{ChangeAcls: &metapb.ChangeACLs{Add: acls(t), Remove: acls(t), MaxRules: rapid.Int32Range(0, 5).Draw(t, "rules at most")}}
	case 15:
		c.Kind = &metapb.Command_AlterUsers{AlterUsers: users(t)}
	case 0:
		c.Kind = &metapb.Command_SetClusterId{SetClusterId: &metapb.SetClusterID{ClusterId: name(t)}}
	case 1, 2:
		c.Kind = &metapb.Command_RegisterNode{RegisterNode: &metapb.RegisterNode{Node: &metapb.Node{
			Id: rapid.Int32Range(0, 4).Draw(t, "node"), Host: name(t), Port: rapid.Int32Range(0, 2).Draw(t, "port"), Directory: g.topicID(t),
		}}}
	case 11, 12, 13, 14:
		g.clusterCommand(t, c)
	case 3, 4, 5:
		topics := &metapb.CreateTopics{MaxPartitions: most}
		for range rapid.IntRange(0, 3).Draw(t, "topics") {
			topics.Topics = append(topics.Topics, &metapb.NewTopic{Name: name(t), Id: g.freshID(), Partitions: placements(t), Config: settings(t)})
		}
		c.Kind = &metapb.Command_CreateTopics{CreateTopics: topics}
	case 6:
		c.Kind = &metapb.Command_DeleteTopics{DeleteTopics: &metapb.DeleteTopics{Ids: [][]byte{g.topicID(t), g.topicID(t)}}}
	case 7:
		c.Kind = &metapb.Command_CreatePartitions{CreatePartitions: &metapb.CreatePartitions{
			TopicId: g.topicID(t), From: rapid.Int32Range(0, 3).Draw(t, "from"), Added: placements(t), MaxPartitions: most,
		}}
	case 8, 9:
		c.Kind = &metapb.Command_ChangeConfigs{ChangeConfigs: &metapb.ChangeConfigs{
			Kind: metapb.ChangeConfigs_Kind(rapid.Int32Range(0, 5).Draw(t, "resource")), TopicId: g.topicID(t),
			Node: rapid.Int32Range(0, 4).Draw(t, "node"), Group: name(t), Changes: changes(t), Replace: rapid.Bool().Draw(t, "replace"),
		}}
	case 10:
		c.Kind = &metapb.Command_AllocateProducerIds{AllocateProducerIds: &metapb.AllocateProducerIDs{Node: rapid.Int32Range(0, 4).Draw(t, "node"), Count: rapid.Int32Range(-1, 5).Draw(t, "count")}}
		if rapid.Bool().Draw(t, "feature") {
			c.Kind = &metapb.Command_SetFeature{SetFeature: &metapb.SetFeature{Name: name(t), Level: rapid.Int32Range(-1, 2).Draw(t, "level")}}
		}
	}
	return c
}

// acls draws rules, good and bad ones.
func acls(t *rapid.T) []*metapb.ACL {
	one := rapid.Custom(func(t *rapid.T) *metapb.ACL {
		return &metapb.ACL{
			ResourceType: rapid.Int32Range(1, 5).Draw(t, "resource type"), Name: name(t), PatternType: rapid.Int32Range(3, 5).Draw(t, "pattern"),
			Principal: rapid.SampledFrom([]string{"User:alice", "User:*", "bob"}).Draw(t, "principal"), Host: rapid.SampledFrom([]string{"*", ""}).Draw(t, "host"),
			Operation: rapid.SampledFrom([]int32{2, 3, 259}).Draw(t, "operation"), Permission: rapid.Int32Range(2, 4).Draw(t, "permission"),
		}
	})
	return rapid.SliceOfN(one, 0, 3).Draw(t, "rules")
}

// users draws changes of users, good and bad ones.
func users(t *rapid.T) *metapb.AlterUsers {
	out := &metapb.AlterUsers{First: rapid.Bool().Draw(t, "first"), Secret: make([]byte, rapid.SampledFrom([]int{usersSecretSize, usersSecretSize, 0, 1}).Draw(t, "secret"))}
	for range rapid.IntRange(0, 3).Draw(t, "credentials") {
		change := &metapb.CredentialChange{User: rapid.SampledFrom([]string{"alice", "bob", "", "e\x00"}).Draw(t, "user"), Mechanism: metapb.Mechanism(rapid.Int32Range(0, 3).Draw(t, "mechanism"))}
		if rapid.Bool().Draw(t, "sets") {
			change.Credential = sampleCredential(rapid.SampledFrom([]int{32, 64, 0}).Draw(t, "size"))
			change.Credential.Iterations = rapid.SampledFrom([]int32{MinIterations, MaxIterations, 1}).Draw(t, "iterations")
		}
		out.Changes = append(out.Changes, change)
	}
	return out
}

// clusterCommand draws what only clusters of several nodes do.
func (g *commandGen) clusterCommand(t *rapid.T, c *metapb.Command) {
	partition := rapid.Int32Range(-1, 2).Draw(t, "partition")
	replica := func() *metapb.Replica {
		return &metapb.Replica{Node: rapid.Int32Range(1, 4).Draw(t, "replica"), Incarnation: rapid.Uint32Range(0, 5).Draw(t, "incarnation")}
	}
	switch rapid.IntRange(0, 5).Draw(t, "cluster kind") {
	case 0:
		directory, known := g.topicID(t), g.topicID(t)
		register := &metapb.RegisterNode{Renew: true, KnownDirectory: known, Node: &metapb.Node{Id: rapid.Int32Range(1, 4).Draw(t, "node"), Host: "h", Port: 1, Directory: directory}}
		if rapid.Bool().Draw(t, "runs") {
			running := rapid.SampledFrom([]uint32{0, 1, 1 << 31, 1<<32 - 1}).Draw(t, "running")
			register.Running = &running
		}
		c.Kind = &metapb.Command_RegisterNode{RegisterNode: register}
	case 1:
		c.Kind = &metapb.Command_UnregisterNode{UnregisterNode: &metapb.UnregisterNode{Node: rapid.Int32Range(0, 5).Draw(t, "node")}}
	case 2, 3:
		items := &metapb.ReassignPartitions{}
		for range rapid.IntRange(0, 3).Draw(t, "items") {
			item := &metapb.PartitionReassignment{TopicId: g.topicID(t), Partition: partition}
			if rapid.IntRange(0, 3).Draw(t, "moves") > 0 {
				item.Target = &metapb.Placement{Nodes: rapid.SliceOfN(rapid.Int32Range(1, 4), 0, 3).Draw(t, "target")}
			}
			items.Partitions = append(items.Partitions, item)
		}
		c.Kind = &metapb.Command_ReassignPartitions{ReassignPartitions: items}
	case 4:
		finish := &metapb.FinishReassignment{TopicId: g.topicID(t), Partition: partition}
		for range rapid.IntRange(0, 2).Draw(t, "voters") {
			finish.Voters = append(finish.Voters, replica())
		}
		c.Kind = &metapb.Command_FinishReassignment{FinishReassignment: finish}
	case 5:
		c.Kind = &metapb.Command_RenewReplica{RenewReplica: &metapb.RenewReplica{TopicId: g.topicID(t), Partition: partition, Old: replica()}}
	}
}

// TestImagesAreImmutableAndRestorable: whatever the commands, every image keeps its invariants and never changes again, a
// snapshot restores exactly it, and a refused command changes nothing.
func TestImagesAreImmutableAndRestorable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := &commandGen{}
		l := &local{node: 1}
		type past struct {
			image *Image
			bytes []byte
		}
		im := emptyImage(l)
		var history []past
		for index := range uint64(rapid.IntRange(1, 30).Draw(t, "commands")) {
			c := g.command(t)
			before := proto.Clone(c)
			next, result := step(im, index+1, c)
			if !proto.Equal(before, c) {
				t.Fatal("the step changed its command")
			}
			if next != im && next.Index != index+1 {
				t.Fatalf("the image of entry %d says %d", index+1, next.Index)
			}
			if result.Err != nil && next != im {
				t.Fatalf("refused with %v, and yet changed", result.Err)
			}
			if err := checkImage(next); err != nil {
				t.Fatal(err)
			}
			im = next
			data, err := encodeImage(im)
			if err != nil {
				t.Fatal(err)
			}
			history = append(history, past{im, data})
			restored, err := decodeImage(data, l)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(im, restored) {
				t.Fatalf("restored\n%+v\nof\n%+v", restored, im)
			}
		}
		for i, p := range history {
			if data, err := encodeImage(p.image); err != nil || !bytes.Equal(data, p.bytes) {
				t.Fatalf("image %d changed later (%v)", i, err)
			}
		}
	})
}

// TestNodesAgree: nodes that apply the same commands have the same metadata, also one that went through a snapshot.
func TestNodesAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := &commandGen{}
		a, b := NewMachine(MachineOptions{Node: 1}), NewMachine(MachineOptions{Node: 2, Static: map[string]string{"num.partitions": "9"}})
		for index := range uint64(rapid.IntRange(1, 30).Draw(t, "commands")) {
			c := g.command(t)
			data, err := seal(c)
			if err != nil {
				t.Fatal(err)
			}
			x, y := a.Apply(index+1, data), b.Apply(index+1, data)
			if rx, ry := fmt.Sprint(x.(*Result).Err), fmt.Sprint(y.(*Result).Err); rx != ry {
				t.Fatalf("one node says %s, the other %s", rx, ry)
			}
			if rapid.IntRange(0, 5).Draw(t, "restart") == 0 {
				data, err := b.Snapshot()
				if err != nil || b.Restore(data) != nil {
					t.Fatal("no restart")
				}
			}
		}
		x, errA := a.Snapshot()
		y, errB := b.Snapshot()
		if errA != nil || errB != nil || !bytes.Equal(x, y) {
			t.Fatalf("the nodes differ (%v, %v)", errA, errB)
		}
	})
}

// TestPlacement: replicas of a partition are on different nodes, in as many racks as possible, and nodes are filled evenly.
func TestPlacement(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := rapid.IntRange(1, 12).Draw(t, "nodes")
		racks := rapid.IntRange(1, nodes).Draw(t, "racks")
		factor := rapid.IntRange(1, nodes).Draw(t, "factor")
		p := &placer{}
		for i := range nodes {
			p.nodes = append(p.nodes, load{id: replication.NodeID(i + 1), rack: string(rune('a' + i%racks))})
		}
		partitions := rapid.IntRange(1, 60).Draw(t, "partitions")
		for i, chosen := range p.placeAll(partitions, factor) {
			seen, used := map[replication.NodeID]bool{}, map[int]bool{}
			for _, id := range chosen {
				seen[id], used[(int(id)-1)%racks] = true, true
			}
			if len(seen) != factor || len(used) != min(racks, factor) {
				t.Fatalf("partition %d is on %v: %d racks of %d", i, chosen, len(used), racks)
			}
		}
		leaders, replicas := spread(p.nodes)
		if leaders > 1 {
			t.Errorf("one node leads %d partitions more than another: %+v", leaders, p.nodes)
		}
		// Racks of unequal size must be filled unevenly; else nodes differ by little.
		if nodes%racks == 0 && replicas > 2 {
			t.Errorf("one node has %d replicas more than another: %+v", replicas, p.nodes)
		}
	})
}

func spread(nodes []load) (leaders, replicas int) {
	least, most := nodes[0], nodes[0]
	for _, n := range nodes {
		least.leaders, most.leaders = min(least.leaders, n.leaders), max(most.leaders, n.leaders)
		least.replicas, most.replicas = min(least.replicas, n.replicas), max(most.replicas, n.replicas)
	}
	return most.leaders - least.leaders, most.replicas - least.replicas
}

// TestMovesEndWhereTheyShould: whatever moves, cancellations, lost disks and damaged replicas come, the founders stay what they
// were, no incarnation comes twice, each node has its last one, and the end of the move is the target alone.
func TestMovesEndWhereTheyShould(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const nodes = 5
		c, _ := newTestControllerOf(t)
		defer c.Close()
		directory := map[replication.NodeID]byte{}
		join := func(id replication.NodeID) {
			directory[id]++
			q := RegisterRequest{Node: replication.Node{ID: id, Host: "h", Port: 1}, Directory: DirectoryID{byte(id), directory[id]}}
			if _, err := c.Register(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		}
		for id := range replication.NodeID(nodes) {
			join(id)
		}
		made := c.CreateTopics(t.Context(), []NewTopic{{Name: "a", Partitions: 1, ReplicationFactor: 3}}, false)[0]
		if made.Err != nil {
			t.Fatal(made.Err)
		}
		id, founders := replication.PartitionID{Topic: made.Topic.ID}, made.Topic.Partitions[0].Replicas
		origin := founders // where a reassignment under way began
		seen := map[replication.ReplicaID]bool{}
		gone := map[replication.ReplicaID]bool{}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			before := c.Image().Topics["a"].Partitions[0]
			if !moving(before) {
				origin = before.Replicas
			}
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0:
				to := rapid.Permutation([]replication.NodeID{0, 1, 2, 3, 4}).Draw(t, "to")[:rapid.IntRange(1, nodes).Draw(t, "factor")]
				if err := c.ReassignPartitions(t.Context(), []Reassignment{{Topic: "a", Replicas: to}})[0]; err != nil {
					t.Fatal(err)
				}
				for i, r := range c.Image().Topics["a"].Partitions[0].Target() {
					if r.Node != to[i] {
						t.Fatalf("asked for %v, is to be %+v", to, c.Image().Topics["a"].Partitions[0])
					}
				}
			case 1:
				err := c.ReassignPartitions(t.Context(), []Reassignment{{Topic: "a"}})[0]
				if now := c.Image().Topics["a"].Partitions[0]; moving(before) && !slices.Equal(onNodes(now.Target()), onNodes(origin)) {
					t.Fatalf("%+v, called off (%v), is not to be on %v but %+v", before, err, origin, now)
				}
			case 2:
				lost := rapid.SampledFrom([]replication.NodeID{0, 1, 2, 3, 4}).Draw(t, "lost")
				join(lost)
				for _, r := range before.Replicas { // it has forgotten how it voted, also where it was to go
					if now, _ := newestOn(c.Image().Topics["a"].Partitions[0], lost); r.Node == lost && now == r {
						t.Fatalf("%s begins again on an empty disk", r)
					}
				}
			case 3:
				old := rapid.SampledFrom(before.Target()).Draw(t, "damaged")
				if r, err := c.RenewReplica(t.Context(), id, old); err == nil && r.Node != old.Node {
					t.Fatalf("%s takes the place of %s", r, old)
				}
			case 4:
				if err := c.FinishReassignment(t.Context(), id, before.Target()); err != nil {
					t.Fatal(err)
				}
				if now := c.Image().Topics["a"].Partitions[0]; moving(now) || !reflect.DeepEqual(now.Replicas, before.Target()) {
					t.Fatalf("%+v ended as %+v", before, now)
				}
			}
			now := c.Image().Topics["a"].Partitions[0]
			if err := checkImage(c.Image()); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(now.Founders(), founders) {
				t.Fatalf("it was made of %v and says %v", founders, now.Founders())
			}
			for _, r := range before.Replicas {
				if !slices.Contains(now.Replicas, r) {
					gone[r] = true
				}
			}
			for _, r := range now.Replicas {
				if seen[r] = true; gone[r] {
					t.Fatalf("%s was gone and is back", r)
				}
			}
		}
	})
}

// onNodes are the nodes of replicas, in order.
func onNodes(replicas []replication.ReplicaID) []replication.NodeID {
	var out []replication.NodeID
	for _, r := range replicas {
		out = append(out, r.Node)
	}
	slices.Sort(out)
	return out
}
