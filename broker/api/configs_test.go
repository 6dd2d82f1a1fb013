package api

import (
	"testing"

	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func (c *client) describe(kind kmsg.ConfigResourceType, name string, names ...string) kmsg.DescribeConfigsResponseResource {
	c.t.Helper()
	q := kmsg.NewPtrDescribeConfigsRequest()
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName, r.ConfigNames = kind, name, names
	q.Resources, q.IncludeSynonyms, q.IncludeDocumentation = append(q.Resources, r), true, true
	return ask[*kmsg.DescribeConfigsResponse](c, q, 4).Resources[0]
}

func configNamed(t *testing.T, r kmsg.DescribeConfigsResponseResource, name string) kmsg.DescribeConfigsResponseResourceConfig {
	t.Helper()
	for _, c := range r.Configs {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no %s among %d settings", name, len(r.Configs))
	return kmsg.DescribeConfigsResponseResourceConfig{}
}

func (c *client) alter(kind kmsg.ConfigResourceType, name string, validateOnly bool, ops ...kmsg.IncrementalAlterConfigsRequestResourceConfig) kafkaproto.Code {
	c.t.Helper()
	q := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName, r.Configs = kind, name, ops
	q.Resources, q.ValidateOnly = append(q.Resources, r), validateOnly
	return kafkaproto.Code(ask[*kmsg.IncrementalAlterConfigsResponse](c, q, 1).Resources[0].ErrorCode)
}

func op(name string, kind kmsg.IncrementalAlterConfigOp, value string) kmsg.IncrementalAlterConfigsRequestResourceConfig {
	o := kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: name, Op: kind}
	if kind != kmsg.IncrementalAlterConfigOpDelete {
		o.Value = &value
	}
	return o
}

const (
	topicResource  = kmsg.ConfigResourceTypeTopic
	brokerResource = kmsg.ConfigResourceTypeBroker
)

func TestDescribeTopicConfigs(t *testing.T) {
	n := newNode(t)
	n.createTopicWith("orders", 1, map[string]string{"retention.ms": "1000"})
	c := newClient(t, n.api)
	all := c.describe(topicResource, "orders")
	if all.ErrorCode != 0 || len(all.Configs) < 20 {
		t.Fatalf("%v, %d settings", kafkaproto.Code(all.ErrorCode), len(all.Configs))
	}
	for _, cfg := range all.Configs {
		if cfg.Documentation == nil || *cfg.Documentation == "" || cfg.Value == nil || cfg.ConfigType == 0 {
			t.Errorf("%s: %+v", cfg.Name, cfg)
		}
	}
	retention := configNamed(t, all, "retention.ms")
	if *retention.Value != "1000" || retention.Source != kmsg.ConfigSourceDynamicTopicConfig || retention.ReadOnly {
		t.Errorf("%+v", retention)
	}
	if len(retention.ConfigSynonyms) < 2 || retention.ConfigSynonyms[0].Source != kmsg.ConfigSourceDynamicTopicConfig {
		t.Errorf("synonyms %+v", retention.ConfigSynonyms)
	}
	if bytes := configNamed(t, all, "segment.bytes"); bytes.Source != kmsg.ConfigSourceDefaultConfig || *bytes.Value != "1073741824" {
		t.Errorf("%+v", bytes)
	}
	if some := c.describe(topicResource, "orders", "segment.bytes", "no.such"); len(some.Configs) != 1 {
		t.Errorf("%+v", some.Configs)
	}
	q := kmsg.NewPtrDescribeConfigsRequest()
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName, r.ConfigNames = topicResource, "orders", []string{}
	q.Resources = append(q.Resources, r)
	for _, version := range []int16{1, 4} {
		if none := ask[*kmsg.DescribeConfigsResponse](c, q, version).Resources[0]; len(none.Configs) != len(all.Configs) {
			t.Errorf("version %d: no names are %d settings, no list of names %d", version, len(none.Configs), len(all.Configs))
		}
	}
}

func TestDescribeConfigsErrors(t *testing.T) {
	n := newNode(t)
	c := newClient(t, n.api)
	for name, tc := range map[string]struct {
		kind kmsg.ConfigResourceType
		name string
		want kafkaproto.Code
	}{
		"unknown topic":  {topicResource, "nope", kafkaproto.UnknownTopicOrPartition},
		"bad topic":      {topicResource, "a b", kafkaproto.InvalidTopicException},
		"this broker":    {brokerResource, "1", kafkaproto.None},
		"the cluster":    {brokerResource, "", kafkaproto.None},
		"another broker": {brokerResource, "2", kafkaproto.InvalidRequest},
		"no number":      {brokerResource, "one", kafkaproto.InvalidRequest},
		"unknown kind":   {99, "x", kafkaproto.InvalidRequest},
	} {
		if got := c.describe(tc.kind, tc.name); got.ErrorCode != int16(tc.want) {
			t.Errorf("%s: %v, want %v", name, kafkaproto.Code(got.ErrorCode), tc.want)
		}
	}
}

func TestIncrementalAlterConfigs(t *testing.T) {
	n := newNode(t)
	n.createTopic("orders", 1)
	c := newClient(t, n.api)
	set, del, add, sub := kmsg.IncrementalAlterConfigOpSet, kmsg.IncrementalAlterConfigOpDelete, kmsg.IncrementalAlterConfigOpAppend, kmsg.IncrementalAlterConfigOpSubtract
	value := func(name string) string {
		return *configNamed(t, c.describe(topicResource, "orders"), name).Value
	}
	for _, tc := range []struct {
		what     string
		validate bool
		ops      []kmsg.IncrementalAlterConfigsRequestResourceConfig
		want     kafkaproto.Code
		name     string
		then     string
	}{
		{"only check", true, []kmsg.IncrementalAlterConfigsRequestResourceConfig{op("retention.ms", set, "5")}, 0, "retention.ms", "604800000"},
		{"set", false, []kmsg.IncrementalAlterConfigsRequestResourceConfig{op("retention.ms", set, "5")}, 0, "retention.ms", "5"},
		{"append", false, []kmsg.IncrementalAlterConfigsRequestResourceConfig{op("cleanup.policy", add, "compact")}, 0, "cleanup.policy", "delete,compact"},
		{"subtract", false, []kmsg.IncrementalAlterConfigsRequestResourceConfig{op("cleanup.policy", sub, "delete")}, 0, "cleanup.policy", "compact"},
		{"delete", false, []kmsg.IncrementalAlterConfigsRequestResourceConfig{op("retention.ms", del, "")}, 0, "retention.ms", "604800000"},
		{"append to a number", false, []kmsg.IncrementalAlterConfigsRequestResourceConfig{op("retention.ms", add, "5")}, kafkaproto.InvalidConfig, "retention.ms", "604800000"},
		{"bad value", false, []kmsg.IncrementalAlterConfigsRequestResourceConfig{op("retention.ms", set, "x")}, kafkaproto.InvalidConfig, "retention.ms", "604800000"},
		{"unknown setting", false, []kmsg.IncrementalAlterConfigsRequestResourceConfig{op("no.such", set, "x")}, kafkaproto.InvalidConfig, "retention.ms", "604800000"},
		{"twice", false, []kmsg.IncrementalAlterConfigsRequestResourceConfig{op("retention.ms", set, "7"), op("retention.ms", set, "8")}, kafkaproto.InvalidRequest, "retention.ms", "604800000"},
		// A mirror takes away what the source has at its default, by names that only the source knows.
		{"delete of an unknown setting", false, []kmsg.IncrementalAlterConfigsRequestResourceConfig{op("message.downconversion.enable", del, ""), op("retention.ms", set, "9")}, 0, "retention.ms", "9"},
		{"and again", false, []kmsg.IncrementalAlterConfigsRequestResourceConfig{op("message.downconversion.enable", del, ""), op("retention.ms", del, "")}, 0, "retention.ms", "604800000"},
		{"nothing else", false, []kmsg.IncrementalAlterConfigsRequestResourceConfig{op("message.downconversion.enable", del, "")}, 0, "retention.ms", "604800000"},
		{"no such operation", false, []kmsg.IncrementalAlterConfigsRequestResourceConfig{op("retention.ms", 9, "7")}, kafkaproto.InvalidRequest, "retention.ms", "604800000"},
	} {
		if got := c.alter(topicResource, "orders", tc.validate, tc.ops...); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.what, got, tc.want)
		}
		if got := value(tc.name); got != tc.then {
			t.Errorf("%s: %s is %s, want %s", tc.what, tc.name, got, tc.then)
		}
	}
	if got := c.alter(topicResource, "nope", false, op("retention.ms", set, "5")); got != kafkaproto.UnknownTopicOrPartition {
		t.Error(got)
	}
	if got := c.alter(99, "x", false, op("retention.ms", set, "5")); got != kafkaproto.InvalidRequest {
		t.Error(got)
	}
}

// kafka-reassign-partitions --throttle sets these on each node before it moves anything, and --verify takes them away.
func TestThrottlesOfReassignments(t *testing.T) {
	n := newNode(t)
	n.createTopic("orders", 1)
	c := newClient(t, n.api)
	for _, name := range []string{"leader.replication.throttled.rate", "follower.replication.throttled.rate", "replica.alter.log.dirs.io.max.bytes.per.second"} {
		if got := c.alter(brokerResource, "1", false, op(name, kmsg.IncrementalAlterConfigOpSet, "10000000")); got != 0 {
			t.Errorf("%s: %v", name, got)
			continue
		}
		if got := configNamed(t, c.describe(brokerResource, "1"), name); *got.Value != "10000000" || got.ReadOnly {
			t.Errorf("%+v", got)
		}
		if got := c.alter(brokerResource, "1", false, op(name, kmsg.IncrementalAlterConfigOpDelete, "")); got != 0 {
			t.Errorf("taking %s away: %v", name, got)
		}
		if got := c.alter(brokerResource, "1", false, op(name, kmsg.IncrementalAlterConfigOpSet, "-1")); got != kafkaproto.InvalidConfig {
			t.Errorf("%s=-1: %v", name, got)
		}
	}
	for _, name := range []string{"leader.replication.throttled.replicas", "follower.replication.throttled.replicas"} {
		if got := c.alter(topicResource, "orders", false, op(name, kmsg.IncrementalAlterConfigOpAppend, "0:1,0:2")); got != 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// What a topic does not set comes from the broker's setting of the same meaning, and changes with it.
func TestBrokerConfigsAreTheDefaultsOfTopics(t *testing.T) {
	n := newNode(t)
	n.createTopic("orders", 1)
	c := newClient(t, n.api)
	set, del := kmsg.IncrementalAlterConfigOpSet, kmsg.IncrementalAlterConfigOpDelete
	if got := c.alter(brokerResource, "", false, op("log.retention.ms", set, "77")); got != 0 {
		t.Fatal(got)
	}
	if got := configNamed(t, c.describe(topicResource, "orders"), "retention.ms"); *got.Value != "77" || got.Source != kmsg.ConfigSourceDynamicDefaultBrokerConfig {
		t.Errorf("%+v", got)
	}
	if got := configNamed(t, c.describe(brokerResource, "1"), "log.retention.ms"); *got.Value != "77" || got.Source != kmsg.ConfigSourceDynamicDefaultBrokerConfig {
		t.Errorf("%+v", got)
	}
	if got := c.alter(brokerResource, "1", false, op("log.retention.ms", set, "88")); got != 0 {
		t.Fatal(got)
	}
	if got := configNamed(t, c.describe(brokerResource, "1"), "log.retention.ms"); *got.Value != "88" || got.Source != kmsg.ConfigSourceDynamicBrokerConfig {
		t.Errorf("%+v", got)
	}
	if got := c.alter(brokerResource, "1", false, op("log.retention.ms", del, "")); got != 0 {
		t.Fatal(got)
	}
	if got := c.alter(brokerResource, "1", false, op("node.id", set, "7")); got == 0 {
		t.Error("a read-only setting was changed")
	}
}

func TestAlterConfigsReplaces(t *testing.T) {
	n := newNode(t)
	n.createTopicWith("orders", 1, map[string]string{"retention.ms": "5", "segment.ms": "6"})
	c := newClient(t, n.api)
	q := minimal(t, kafkaproto.KeyAlterConfigs, 2, "orders", [16]byte{}).(*kmsg.AlterConfigsRequest)
	q.ValidateOnly = true
	if got := ask[*kmsg.AlterConfigsResponse](c, q, 2); errorCodeOf(got) != 0 {
		t.Fatal(kafkaproto.Code(errorCodeOf(got)))
	}
	if got := configNamed(t, c.describe(topicResource, "orders"), "retention.ms"); *got.Value != "5" {
		t.Errorf("%+v", got)
	}
	q.ValidateOnly = false
	if got := ask[*kmsg.AlterConfigsResponse](c, q, 2); errorCodeOf(got) != 0 {
		t.Fatal(kafkaproto.Code(errorCodeOf(got)))
	}
	all := c.describe(topicResource, "orders")
	if got := configNamed(t, all, "retention.ms"); *got.Value != "100000" {
		t.Errorf("%+v", got)
	}
	if got := configNamed(t, all, "segment.ms"); got.Source != kmsg.ConfigSourceDefaultConfig {
		t.Errorf("%+v", got)
	}
}
