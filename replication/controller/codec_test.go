package controller

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/quorlog/quorlog/internal/scripts"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller/metapb"
)

// samples has one command of each kind, with every field set.
func samples() []*metapb.Command {
	id := numbered(1)
	value := "5"
	at := func(c *metapb.Command) *metapb.Command {
		c.Level, c.Rules, c.TimeMs = metadataLevel, rulesVersion, epoch.UnixMilli()
		return c
	}
	node := &metapb.Node{Id: 1, Host: "localhost", Port: 9092, Rack: "a", Directory: id[:]}
	second := &metapb.Node{Id: 2, Host: "localhost", Port: 9093, Rack: "b", Directory: numberedBytes(2), Version: "1.0", Start: 7}
	running := uint32(4)
	placed := []*metapb.Placement{{Nodes: []int32{1}}, {Nodes: []int32{1}}}
	return []*metapb.Command{
		at(&metapb.Command{Kind: &metapb.Command_SetClusterId{SetClusterId: &metapb.SetClusterID{ClusterId: "cluster", Nodes: 3}}}),
		at(&metapb.Command{Kind: &metapb.Command_RegisterNode{RegisterNode: &metapb.RegisterNode{Node: node}}}),
		at(&metapb.Command{Kind: &metapb.Command_CreateTopics{CreateTopics: &metapb.CreateTopics{MaxPartitions: 100, Topics: []*metapb.NewTopic{
			{Name: "orders", Id: id[:], Partitions: placed, Config: []*metapb.Setting{{Name: "retention.ms", Value: "5"}}, Internal: true},
		}}}}),
		at(&metapb.Command{Kind: &metapb.Command_CreatePartitions{CreatePartitions: &metapb.CreatePartitions{TopicId: id[:], From: 2, Added: placed[:1], MaxPartitions: 100}}}),
		at(&metapb.Command{Kind: &metapb.Command_ChangeConfigs{ChangeConfigs: &metapb.ChangeConfigs{
			Kind: metapb.ChangeConfigs_KIND_TOPIC, TopicId: id[:], Replace: true,
			Changes: []*metapb.ConfigChange{{Name: "retention.ms", Value: &value, Expected: &metapb.Expected{Value: &value}}, {Name: "segment.ms", Value: &value}},
		}}}),
		at(&metapb.Command{Kind: &metapb.Command_ChangeConfigs{ChangeConfigs: &metapb.ChangeConfigs{
			Kind: metapb.ChangeConfigs_KIND_CLUSTER, Changes: []*metapb.ConfigChange{{Name: "num.partitions", Value: &value}},
		}}}),
		at(&metapb.Command{Kind: &metapb.Command_ChangeConfigs{ChangeConfigs: &metapb.ChangeConfigs{
			Kind: metapb.ChangeConfigs_KIND_NODE, Node: 1, Changes: []*metapb.ConfigChange{{Name: "num.partitions", Value: &value}},
		}}}),
		at(&metapb.Command{Kind: &metapb.Command_ChangeConfigs{ChangeConfigs: &metapb.ChangeConfigs{
			Kind: metapb.ChangeConfigs_KIND_GROUP, Group: "g", Changes: []*metapb.ConfigChange{{Name: "consumer.session.timeout.ms", Value: &value}},
		}}}),
		at(&metapb.Command{Kind: &metapb.Command_AllocateProducerIds{AllocateProducerIds: &metapb.AllocateProducerIDs{Node: 1, Count: 1000}}}),
		at(&metapb.Command{Kind: &metapb.Command_SetFeature{SetFeature: &metapb.SetFeature{Name: "metadata.version", Level: 1}}}),
		at(&metapb.Command{Kind: &metapb.Command_RegisterNode{RegisterNode: &metapb.RegisterNode{Node: second, Running: &running}}}),
		at(&metapb.Command{Kind: &metapb.Command_ReassignPartitions{ReassignPartitions: &metapb.ReassignPartitions{Partitions: []*metapb.PartitionReassignment{
			{TopicId: id[:], Partition: 0, Target: &metapb.Placement{Nodes: []int32{2, 1}}}, {TopicId: id[:], Partition: 1, Target: &metapb.Placement{Nodes: []int32{2}}},
			{TopicId: id[:], Partition: 2, Target: &metapb.Placement{Nodes: []int32{2}}}, {TopicId: id[:], Partition: 2},
		}}}}),
		at(&metapb.Command{Kind: &metapb.Command_FinishReassignment{FinishReassignment: &metapb.FinishReassignment{
			TopicId: id[:], Partition: 0, Voters: []*metapb.Replica{{Node: 1, Incarnation: 1}, {Node: 2, Incarnation: 1}},
		}}}),
		at(&metapb.Command{Kind: &metapb.Command_RenewReplica{RenewReplica: &metapb.RenewReplica{TopicId: id[:], Partition: 0, Old: &metapb.Replica{Node: 1, Incarnation: 1}}}}),
		at(&metapb.Command{Kind: &metapb.Command_RegisterNode{RegisterNode: &metapb.RegisterNode{
			Node:  &metapb.Node{Id: 2, Host: "localhost", Port: 9093, Rack: "b", Directory: numberedBytes(3), Version: "1.1", Start: 8},
			Renew: true, KnownDirectory: numberedBytes(2),
		}}}),
		at(&metapb.Command{Kind: &metapb.Command_RegisterNode{RegisterNode: &metapb.RegisterNode{
			Node:  &metapb.Node{Id: 2, Host: "localhost", Port: 9093, Rack: "b", Directory: numberedBytes(3), Version: "1.1", Start: 10},
			Renew: true, Earlier: []uint64{6, 9}, KnownStart: 8,
		}}}),
		at(&metapb.Command{Kind: &metapb.Command_RegisterNode{RegisterNode: &metapb.RegisterNode{Node: &metapb.Node{Id: 3, Host: "h", Port: 1}}}}),
		at(&metapb.Command{Kind: &metapb.Command_UnregisterNode{UnregisterNode: &metapb.UnregisterNode{Node: 3}}}),
		at(&metapb.Command{Kind: &metapb.Command_ChangeAcls{ChangeAcls: &metapb.ChangeACLs{MaxRules: 10, Add: fromACLs([]ACL{
			{2, "orders", PrefixedPattern, "User:alice", "10.0.0.1", 3, Allow}, {4, "kafka-cluster", LiteralPattern, "User:*", "*", 2, Deny},
		})}}}),
		at(&metapb.Command{Kind: &metapb.Command_ChangeAcls{ChangeAcls: &metapb.ChangeACLs{Remove: fromACLs([]ACL{
			{4, "kafka-cluster", LiteralPattern, "User:*", "*", 2, Deny},
		})}}}),
		at(&metapb.Command{Kind: &metapb.Command_AlterUsers{AlterUsers: &metapb.AlterUsers{
			First: true, Secret: bytes.Repeat([]byte{9}, usersSecretSize),
			Changes: []*metapb.CredentialChange{
				{User: "alice", Mechanism: metapb.Mechanism_MECHANISM_SCRAM_SHA_256, Credential: sampleCredential(32)},
				{User: "alice", Mechanism: metapb.Mechanism_MECHANISM_SCRAM_SHA_512, Credential: sampleCredential(64)},
				{User: "bob", Mechanism: metapb.Mechanism_MECHANISM_SCRAM_SHA_256},
			},
		}}}),
		at(&metapb.Command{Kind: &metapb.Command_DeleteTopics{DeleteTopics: &metapb.DeleteTopics{Ids: [][]byte{id[:]}}}}),
	}
}

func sampleCredential(size int) *metapb.Credential {
	return &metapb.Credential{
		Salt: []byte("salt"), Iterations: MinIterations, StoredKey: bytes.Repeat([]byte{1}, size), ServerKey: bytes.Repeat([]byte{2}, size),
	}
}

func numberedBytes(n uint64) []byte {
	id := numbered(n)
	return id[:]
}

// TestGoldenBytes pins the durable form: what an old version wrote must be readable for ever. If this fails, the format
// has changed and old clusters can't be read; -update is only for kinds that are added.
func TestGoldenBytes(t *testing.T) {
	const file = "testdata/golden.hex"
	m := NewMachine(MachineOptions{Node: 1})
	var out strings.Builder
	record := func(what string, data []byte) { fmt.Fprintf(&out, "%s\n%s\n", what, hex.EncodeToString(data)) }
	for i, c := range samples() {
		data, err := encodeCommand(c)
		if err != nil {
			t.Fatal(err)
		}
		record(fmt.Sprintf("%T", c.GetKind()), data)
		if r, ok := m.Apply(uint64(i+1), data).(*Result); !ok || r.Err != nil {
			t.Fatalf("%T: %+v", c.GetKind(), r)
		}
		if i == len(samples())-2 {
			snapshot, err := m.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			record("snapshot", snapshot)
		}
	}
	scripts.Golden(t, file, out.String(), "the durable form has changed")
}

// TestGoldenIsReadable reads what is on file, not what this version writes: of this level, by these rules and by those before, and of the levels
// before; the first only single nodes had.
func TestGoldenIsReadable(t *testing.T) {
	for _, file := range []string{"testdata/golden.hex", "testdata/golden-rules3.hex", "testdata/golden-level4.hex", "testdata/golden-level3.hex", "testdata/golden-level2.hex", "testdata/golden-level1.hex"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		m := NewMachine(MachineOptions{Node: 1})
		for i := 0; i+1 < len(lines); i += 2 {
			data, err := hex.DecodeString(lines[i+1])
			if err != nil {
				t.Fatal(err)
			}
			if lines[i] == "snapshot" {
				before, restored := m.Image(), NewMachine(MachineOptions{Node: 1})
				if err := restored.Restore(data); err != nil {
					t.Error(err)
				}
				if !reflect.DeepEqual(restored.Image(), before) {
					t.Errorf("%s: the snapshot restores\n%+v\nand its commands make\n%+v", file, restored.Image(), before)
				}
				continue
			}
			if r, ok := m.Apply(uint64(i/2+1), data).(*Result); !ok || r.Err != nil {
				t.Errorf("%s: %s: %+v", file, lines[i], r)
			}
		}
		if im := m.Image(); len(im.Topics) != 0 || im.NextProducerID != 1000 || im.ClusterID != "cluster" {
			t.Errorf("%s: %+v", file, im)
		}
	}
}

// TestASingleNodeOfLevel1 keeps the replica of the metadata group that it was made with: incarnation 0.
func TestASingleNodeOfLevel1(t *testing.T) {
	text, err := os.ReadFile("testdata/golden-level1.hex")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	c, g := newTestController(t, nil)
	for i := 0; i+1 < len(lines) && lines[i] != "snapshot"; i += 2 {
		data, err := hex.DecodeString(lines[i+1])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Propose(t.Context(), data); err != nil {
			t.Fatal(err)
		}
	}
	old := c.Image().Registrations[1]
	q := RegisterRequest{Node: replication.Node{ID: 1, Host: "moved", Port: 9092}, Directory: old.Directory}
	r, err := c.Register(t.Context(), q)
	if err != nil || r.Meta != (replication.ReplicaID{Node: 1}) || r.ClusterID != "cluster" || r.Renewed {
		t.Errorf("%+v, %v", r, err)
	}
	q.Node.ID = 2
	if r, err := c.Register(t.Context(), q); err != nil || r.Meta != (replication.ReplicaID{Node: 2, Incarnation: 1}) {
		t.Errorf("%+v, %v", r, err)
	}
	q.Node.ID, q.Directory = 1, DirectoryID{77}
	if r, err := c.Register(t.Context(), q); err != nil || r.Meta != (replication.ReplicaID{Node: 1, Incarnation: 1}) || !r.Renewed {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestUnreadableCommandsStopTheMachine: a node that can't apply a command must not go on with the next.
func TestUnreadableCommandsStopTheMachine(t *testing.T) {
	good, err := encodeCommand(samples()[0])
	if err != nil {
		t.Fatal(err)
	}
	higher := samples()[0]
	higher.Level = metadataLevel + 1
	unknown := protowire.AppendTag(nil, 1000, protowire.BytesType)
	unknown = protowire.AppendString(unknown, "a kind of the future")
	withUnknown := &metapb.Command{Level: metadataLevel}
	withUnknown.ProtoReflect().SetUnknown(unknown)
	sealed := func(m proto.Message) []byte {
		data, err := seal(m)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	version := bytes.Clone(good)
	version[0]++
	for name, tc := range map[string]struct {
		data []byte
		want error
	}{
		"empty": {nil, ErrDamaged}, "short": {good[:4], ErrDamaged}, "flipped bit": {flipped, ErrDamaged},
		"format version": {version, ErrTooNew}, "higher level": {sealed(higher), ErrTooNew}, "unknown kind": {sealed(withUnknown), ErrTooNew},
		"no kind": {sealed(&metapb.Command{}), ErrTooNew},
	} {
		t.Run(name, func(t *testing.T) {
			var told []error
			m := NewMachine(MachineOptions{OnFatal: func(err error) { told = append(told, err) }})
			before := m.Image()
			for i, data := range [][]byte{tc.data, good} {
				if err, _ := m.Apply(uint64(i+1), data).(error); !errors.Is(err, tc.want) {
					t.Errorf("command %d: %v", i+1, err)
				}
			}
			if len(told) != 1 || !errors.Is(told[0], tc.want) || m.Image() != before {
				t.Errorf("told %v", told)
			}
			if _, err := m.Snapshot(); !errors.Is(err, tc.want) {
				t.Errorf("a snapshot was taken: %v", err)
			}
		})
	}
}

// TestUnknownFieldsAreIgnored: a field that this version does not know, at a level that it knows, changes nothing.
func TestUnknownFieldsAreIgnored(t *testing.T) {
	c := samples()[1]
	c.GetRegisterNode().GetNode().ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 7))
	data, err := encodeCommand(c)
	if err != nil {
		t.Fatal(err)
	}
	m := NewMachine(MachineOptions{})
	if r := m.Apply(1, data).(*Result); r.Err != nil || m.Image().Nodes[1].Host != "localhost" {
		t.Errorf("%+v", r)
	}
}

func TestRestoreRefuses(t *testing.T) {
	id := numbered(1)
	topic := func() *metapb.Topic {
		return &metapb.Topic{Name: "a", Id: id[:], Partitions: []*metapb.Partition{{Replicas: []*metapb.Replica{{Node: 1, Incarnation: 1}}}}}
	}
	nodes := []*metapb.Node{{Id: 1, Host: "h", Port: 1, NextIncarnation: 2}}
	for name, im := range map[string]*metapb.Image{
		"higher level":   {Level: metadataLevel + 1},
		"no id":          {Nodes: nodes, Topics: []*metapb.Topic{{Name: "a"}}},
		"twice":          {Nodes: nodes, Topics: []*metapb.Topic{topic(), topic()}},
		"never placed":   {Nodes: []*metapb.Node{{Id: 1, NextIncarnation: 1}}, Topics: []*metapb.Topic{topic()}},
		"no such node":   {Topics: []*metapb.Topic{topic()}},
		"no incarnation": {Nodes: nodes, Topics: []*metapb.Topic{{Name: "a", Id: id[:], Partitions: []*metapb.Partition{{Replicas: []*metapb.Replica{{Node: 1}}}}}}},
		"no partitions":  {Nodes: nodes, Topics: []*metapb.Topic{{Name: "a", Id: id[:]}}},
		"no replicas":    {Nodes: nodes, Topics: []*metapb.Topic{{Name: "a", Id: id[:], Partitions: []*metapb.Partition{{}}}}},
	} {
		data, err := seal(im)
		if err != nil {
			t.Fatal(err)
		}
		m := NewMachine(MachineOptions{})
		before := m.Image()
		if err := m.Restore(data); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrTooNew) {
			t.Errorf("%s: %v", name, err)
		}
		if m.Image() != before {
			t.Errorf("%s: the image changed", name)
		}
	}
}

// FuzzApply gives the machine any bytes, once as they are and once as the content of a whole envelope.
func FuzzApply(f *testing.F) {
	for _, c := range samples() {
		data, err := proto.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := NewMachine(MachineOptions{})
		for i, c := range samples()[:4] {
			sealed, err := encodeCommand(c)
			if err != nil {
				t.Fatal(err)
			}
			m.Apply(uint64(i+1), sealed)
		}
		before, err := m.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		old := m.Image()
		m.Apply(10, envelope(data))
		if err := checkImage(m.Image()); err != nil {
			t.Fatal(err)
		}
		if after, err := encodeImage(old); err != nil || !bytes.Equal(before, after) {
			t.Fatalf("the old image changed (%v)", err)
		}
		m.Apply(11, data)
	})
}

// FuzzRestore gives a snapshot of any bytes.
func FuzzRestore(f *testing.F) {
	m := NewMachine(MachineOptions{})
	for i, c := range samples() {
		data, err := encodeCommand(c)
		if err != nil {
			f.Fatal(err)
		}
		m.Apply(uint64(i+1), data)
		snapshot, err := m.Snapshot()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(snapshot[envelopeSize:])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := NewMachine(MachineOptions{})
		if err := m.Restore(data); err == nil {
			t.Log("a whole envelope by chance")
		}
		if m.Restore(envelope(data)) != nil {
			return
		}
		first, err := m.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Restore(first); err != nil {
			t.Fatalf("a snapshot of what was restored can't be restored: %v", err)
		}
		if second, err := m.Snapshot(); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("restoring changed something (%v)", err)
		}
	})
}

// envelope seals bytes that need not be a message.
func envelope(data []byte) []byte {
	out, err := seal(&metapb.Command{})
	if err != nil {
		return nil
	}
	return resum(append(out[:envelopeSize], data...))
}
