package controller

import (
	"strings"

	"github.com/quorlog/quorlog/internal/config"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller/metapb"
)

// rulesVersion is raised when a rule of this file changes, and when a setting is added to the registry or its range moves
// (TestRulesVersion notices that): a node checks commands only that were checked by its own rules, since what has been decided by
// others must not be refused when it is applied again.
const rulesVersion = 4

// Limits on what one command may create.
const (
	// maxTopicName is Kafka's: a directory name of 255 bytes minus room for the partition and a suffix.
	maxTopicName = 249
	// MaxPartitionsPerTopic bounds what one typing error can cost: each partition is a Raft group with files of its own.
	MaxPartitionsPerTopic = 10_000
	// DefaultMaxPartitions bounds the partitions of a cluster: with three replicas on three nodes, a node then has as many
	// Raft groups, which is beyond what one disk serves well.
	DefaultMaxPartitions = 100_000
	// maxReplicas bounds a replication factor; a quorum of more nodes only gets slower.
	maxReplicas = 127
	// maxTopicsPerCommand keeps a command small enough for one entry of the metadata log.
	maxTopicsPerCommand = 10_000
	// maxReassignments keeps a command small, as well.
	maxReassignments = 10_000
	// maxFounded is the most nodes that a cluster may be founded for: a typing error must not make it wait for ever.
	maxFounded = 1000
	// maxVersion is the longest version of a program, in bytes.
	maxVersion = 100
	// maxValue is the longest value of a setting, in bytes; the longest legal ones are lists of replicas.
	maxValue = 64 << 10
	// maxGroupName is the longest group id that a setting may be for, in bytes.
	maxGroupName = 4 << 10
	// maxGroupValue is the longest value of a group's setting, in bytes: they are numbers and single words.
	maxGroupValue = 128
	// maxOwnGroups bounds the groups that have settings of their own: every node has them in memory.
	maxOwnGroups = 10_000
	// maxHost is the longest host name or rack, in bytes: longer host names do not exist.
	maxHost = 255
	// maxProducerIDs is the most ids that one command may take.
	maxProducerIDs = 1_000_000
)

// internalTopics are those that the cluster itself writes.
var internalTopics = []string{"__consumer_offsets", "__transaction_state", "__share_group_state"}

// metadataTopic is what Kafka's tools call the metadata group. A topic of that name could not be told from it.
const metadataTopic = "__cluster_metadata"

// ValidateTopicName says whether a topic may have a name: 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-', but not "." or
// "..", which are no names of directories. The error is replication.ErrInvalidTopic.
func ValidateTopicName(name string) error {
	switch {
	case name == "":
		return failf(replication.ErrInvalidTopic, "the empty string is not a topic name")
	case name == "." || name == "..":
		return failf(replication.ErrInvalidTopic, "%q is not a topic name", name)
	case len(name) > maxTopicName:
		return failf(replication.ErrInvalidTopic, "%d characters are more than %d", len(name), maxTopicName)
	}
	for i := range len(name) {
		c := name[i]
		if ('a' > c || c > 'z') && ('A' > c || c > 'Z') && ('0' > c || c > '9') && c != '.' && c != '_' && c != '-' {
			return failf(replication.ErrInvalidTopic, "%q has other characters than letters, digits, '.', '_' and '-'", name)
		}
	}
	return nil
}

// collides tells whether two different names would have the same name in metrics, where '.' becomes '_'. Kafka refuses
// such a pair too.
func collides(a, b string) bool {
	if len(a) != len(b) || a == b {
		return false
	}
	for i := range len(a) {
		x, y := a[i], b[i]
		if x != y && !(x == '.' && y == '_' || x == '_' && y == '.') {
			return false
		}
	}
	return true
}

func collision(im *Image, name string) (string, bool) {
	if !strings.ContainsAny(name, "._") {
		return "", false
	}
	first := ""
	for other := range im.Topics { // the order of a map differs between nodes, so all are looked at
		if collides(name, other) && (first == "" || other < first) {
			first = other
		}
	}
	return first, first != ""
}

// checkTopicConfig checks what is set for a topic, alone and together. It compares with the built-in defaults and not with
// the broker's settings, which differ between nodes.
func checkTopicConfig(values map[string]string) error {
	if err := checkConfig(config.Topic, values); err != nil {
		return err
	}
	if _, err := (config.Layers{Topic: values}).TopicConfig(); err != nil {
		return invalidConfig(err)
	}
	return nil
}

// checkConfig checks each value, in the order of the names.
func checkConfig(scope config.Scope, values map[string]string) error {
	for _, s := range toSettings(values) {
		if err := checkSetting(scope, s.Name, s.Value); err != nil {
			return err
		}
	}
	return nil
}

func checkSetting(scope config.Scope, name, value string) error {
	if len(value) > maxValue {
		return failf(replication.ErrInvalidConfig, "the value of %s has more than %d bytes", name, maxValue)
	}
	if err := config.Validate(scope, name, value); err != nil {
		return invalidConfig(err)
	}
	if row, ok := config.Lookup(scope, name); ok && !row.Dynamic {
		return failf(replication.ErrInvalidConfig, "%s cannot be changed while a node runs", name)
	}
	return nil
}

// checkPlacement checks one partition's nodes, but not that they exist.
func checkPlacement(nodes []int32) error {
	if len(nodes) == 0 {
		return failf(replication.ErrInvalidReplicaAssignment, "a partition needs at least one replica")
	}
	if len(nodes) > maxReplicas {
		return failf(replication.ErrInvalidReplicaAssignment, "%d replicas are more than %d", len(nodes), maxReplicas)
	}
	for i, n := range nodes {
		if n < 0 {
			return failf(replication.ErrInvalidReplicaAssignment, "%d is not a node id", n)
		}
		for _, other := range nodes[:i] {
			if n == other {
				return failf(replication.ErrInvalidReplicaAssignment, "node %d is named twice for one partition", n)
			}
		}
	}
	return nil
}

func checkPlacements(placements []*metapb.Placement) error {
	if len(placements) == 0 {
		return failf(replication.ErrInvalidPartitions, "a topic needs at least one partition")
	}
	if len(placements) > MaxPartitionsPerTopic {
		return failf(replication.ErrInvalidPartitions, "%d partitions are more than %d", len(placements), MaxPartitionsPerTopic)
	}
	for _, p := range placements {
		if err := checkPlacement(p.GetNodes()); err != nil {
			return err
		}
		if a, b := len(p.GetNodes()), len(placements[0].GetNodes()); a != b {
			return failf(replication.ErrInvalidReplicaAssignment, "one partition has %d replicas and another %d", b, a)
		}
	}
	return nil
}

func checkNewTopic(t *metapb.NewTopic) error {
	if err := ValidateTopicName(t.GetName()); err != nil {
		return err
	}
	if _, ok := toTopicID(t.GetId()); !ok {
		return failf(replication.ErrInvalidRequest, "a topic id has 16 bytes that are not all zero")
	}
	if err := checkPlacements(t.GetPartitions()); err != nil {
		return err
	}
	return checkTopicConfig(fromSettings(t.GetConfig()))
}

// checkNode checks what a node says of itself.
func checkNode(n *metapb.Node) error {
	switch {
	case n.GetId() < 0:
		return failf(replication.ErrInvalidRequest, "%d is not a node id", n.GetId())
	case n.GetHost() == "" || len(n.GetHost()) > maxHost:
		return failf(replication.ErrInvalidRequest, "a host name has 1 to %d bytes", maxHost)
	case n.GetPort() < 1 || n.GetPort() > 65535:
		return failf(replication.ErrInvalidRequest, "%d is not a port", n.GetPort())
	case len(n.GetRack()) > maxHost:
		return failf(replication.ErrInvalidRequest, "a rack has at most %d bytes", maxHost)
	case len(n.GetVersion()) > maxVersion:
		return failf(replication.ErrInvalidRequest, "a version has at most %d bytes", maxVersion)
	case len(n.GetEndpoints()) > maxEndpoints:
		return failf(replication.ErrInvalidRequest, "a node has at most %d listeners", maxEndpoints)
	case len(n.GetDirectory()) != 0 && len(n.GetDirectory()) != len(DirectoryID{}):
		return failf(replication.ErrInvalidRequest, "a directory id has %d bytes", len(DirectoryID{}))
	}
	for _, e := range n.GetEndpoints() {
		if e.GetListener() == "" || len(e.GetListener()) > maxHost || e.GetHost() == "" || len(e.GetHost()) > maxHost || e.GetPort() < 1 || e.GetPort() > 65535 {
			return failf(replication.ErrInvalidRequest, "%q at %q:%d is no listener", e.GetListener(), e.GetHost(), e.GetPort())
		}
	}
	return nil
}

// maxEndpoints bounds the listeners of a node.
const maxEndpoints = 16

func toEndpoints(list []replication.Endpoint) (out []*metapb.Endpoint) {
	for _, e := range list {
		out = append(out, &metapb.Endpoint{Listener: e.Listener, Host: e.Host, Port: e.Port})
	}
	return out
}

func fromEndpoints(list []*metapb.Endpoint) (out []replication.Endpoint) {
	for _, e := range list {
		out = append(out, replication.Endpoint{Listener: e.GetListener(), Host: e.GetHost(), Port: e.GetPort()})
	}
	return out
}

func checkChanges(c *metapb.ChangeConfigs) error {
	scope, err := scopeOf(c.GetKind())
	if err != nil {
		return err
	}
	if len(c.GetGroup()) > maxGroupName {
		return failf(replication.ErrInvalidRequest, "a group id has at most %d bytes", maxGroupName)
	}
	for i, change := range c.GetChanges() {
		if i > 0 && change.GetName() <= c.GetChanges()[i-1].GetName() {
			return failf(replication.ErrInvalidRequest, "%s is changed twice", change.GetName())
		}
		if change == nil || change.Value == nil {
			continue // whatever is set may be unset, even what this version does not know
		}
		if err := checkSetting(scope, change.GetName(), change.GetValue()); err != nil {
			return err
		}
	}
	return nil
}

func scopeOf(kind metapb.ChangeConfigs_Kind) (config.Scope, error) {
	switch kind {
	case metapb.ChangeConfigs_KIND_TOPIC:
		return config.Topic, nil
	case metapb.ChangeConfigs_KIND_NODE, metapb.ChangeConfigs_KIND_CLUSTER:
		return config.Broker, nil
	case metapb.ChangeConfigs_KIND_GROUP:
		return config.Group, nil
	}
	return 0, failf(replication.ErrInvalidRequest, "unknown kind of resource %d", kind)
}

// checkContent checks a command as far as that needs no image. The items of CreateTopics are checked one by one when they
// are applied, since one bad topic does not spoil the others.
func checkContent(c *metapb.Command) error {
	switch k := c.GetKind().(type) {
	case *metapb.Command_SetClusterId:
		if id := k.SetClusterId.GetClusterId(); id == "" || len(id) > maxHost {
			return failf(replication.ErrInvalidRequest, "a cluster id has 1 to %d bytes", maxHost)
		}
		if n := k.SetClusterId.GetNodes(); n < 0 || n > maxFounded {
			return failf(replication.ErrInvalidRequest, "a cluster is founded for 1 to %d nodes, not %d", maxFounded, n)
		}
	case *metapb.Command_RegisterNode:
		return checkNode(k.RegisterNode.GetNode())
	case *metapb.Command_ReassignPartitions:
		if n := len(k.ReassignPartitions.GetPartitions()); n > maxReassignments {
			return failf(replication.ErrInvalidRequest, "%d reassignments are more than %d", n, maxReassignments)
		}
	case *metapb.Command_CreateTopics:
		if n := len(k.CreateTopics.GetTopics()); n > maxTopicsPerCommand {
			return failf(replication.ErrInvalidRequest, "%d topics are more than %d", n, maxTopicsPerCommand)
		}
	case *metapb.Command_CreatePartitions:
		return checkPlacements(k.CreatePartitions.GetAdded())
	case *metapb.Command_ChangeConfigs:
		return checkChanges(k.ChangeConfigs)
	case *metapb.Command_ChangeAcls:
		return checkACLs(k.ChangeAcls)
	case *metapb.Command_AllocateProducerIds:
		if n := k.AllocateProducerIds.GetCount(); n < 1 || n > maxProducerIDs {
			return failf(replication.ErrInvalidRequest, "a block of %d producer ids", n)
		}
	case *metapb.Command_AlterUsers:
		return checkUsers(k.AlterUsers)
	case *metapb.Command_SetFeature:
		if f := k.SetFeature; f.GetName() == "" || len(f.GetName()) > maxHost || f.GetLevel() < 0 {
			return failf(replication.ErrInvalidRequest, "feature %q at level %d", f.GetName(), f.GetLevel())
		}
	}
	return nil
}
