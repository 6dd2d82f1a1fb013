package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/quorlog/quorlog/replication"
)

// Layers are the values that were set, by Kafka's names, strongest first. Any may be nil.
type Layers struct {
	Topic         map[string]string // of the topic
	Group         map[string]string // of the group
	Broker        map[string]string // of this node, changed while it runs
	BrokerDefault map[string]string // of all nodes, changed while they run
	Static        map[string]string // of this node, given at its start
}

// Value is a value with its origin.
type Value struct {
	Name   string
	Value  string
	Source Source
}

// Row is a setting with its effective value, as DescribeConfigs shows it.
type Row struct {
	*Setting
	Value
	// Chain lists every value that was set or is the default, strongest first; the first is the effective one.
	Chain []Value
}

// Describe resolves one setting. A value that the registry would not accept counts as not set: values are checked when they
// are set, but a later version may be stricter, and then its default is safer than a zero.
func (l Layers) Describe(s *Setting) Row {
	var chain []Value
	switch s.Scope {
	case Topic:
		chain = own(chain, s, l.Topic, DynamicTopic)
	case Group:
		chain = own(chain, s, l.Group, DynamicGroup)
	case Broker:
		chain = l.broker(chain, s.Name)
	}
	for _, name := range s.Synonyms {
		chain = l.broker(chain, name)
	}
	def := Value{s.Name, s.Default, Default}
	if s.Scope == Topic && len(s.Synonyms) > 0 {
		def.Name = s.Synonyms[0]
	}
	chain = append(chain, def)
	row := Row{Setting: s, Value: chain[0], Chain: chain}
	if row.Value.Name != s.Name {
		row.Value.Value, row.Value.Name = converted(chain[0]), s.Name
	}
	return row
}

// own appends a layer's value, if there is one that is legal. An empty broker setting is none.
func own(chain []Value, s *Setting, values map[string]string, source Source) []Value {
	if v, ok := values[s.Name]; ok && (v != "" || s.Scope == Topic) && s.Validate(v) == nil {
		chain = append(chain, Value{s.Name, s.clean(v), source})
	}
	return chain
}

// broker appends a broker setting's values.
func (l Layers) broker(chain []Value, name string) []Value {
	s := registry[Broker][name]
	chain = own(chain, s, l.Broker, DynamicBroker)
	chain = own(chain, s, l.BrokerDefault, DynamicBrokerDefault)
	return own(chain, s, l.Static, StaticBroker)
}

// converted is a value in the unit of the setting that it stands for: log.retention.hours gives retention.ms its default.
func converted(v Value) string {
	u, ok := unitOf(v.Name)
	n, err := strconv.ParseInt(v.Value, 10, 64)
	if !ok || err != nil || n < 0 { // -1 means for ever in every unit
		return v.Value
	}
	return strconv.FormatInt(n*u.ms, 10)
}

// Get returns a setting's effective value. The name must be known.
func (l Layers) Get(scope Scope, name string) string {
	return l.Describe(registry[scope][name]).Value.Value
}

// Int returns a broker setting's effective value as a number.
func (l Layers) Int(name string) int64 {
	n, _ := strconv.ParseInt(l.Get(Broker, name), 10, 64) // Describe returns only what was checked
	return n
}

// Bool is Int for truth values.
func (l Layers) Bool(name string) bool { return l.Get(Broker, name) == "true" }

// Float is a broker setting that is a number with a fraction.
func (l Layers) Float(name string) float64 {
	f, _ := strconv.ParseFloat(l.Get(Broker, name), 64) // it was checked when it was set
	return f
}

// Duration is Int for settings in milliseconds.
func (l Layers) Duration(name string) time.Duration { return milliseconds(l.Int(name)) }

// leastThrottle is what a throttle of Kafka's tools leaves, in bytes a second. What has begun to wait does not hear that a throttle has been
// taken away: a piece of 1 MiB must not wait for hours because somebody meant kilobytes, or 0.
const leastThrottle = 64 << 10

// CatchUpRate is how many bytes of older data a second a node sends to new replicas: our own setting, or what Kafka's tools throttle a
// reassignment to if that is less.
func (l Layers) CatchUpRate() int64 {
	return min(l.Int("quorlog.catchup.max.bytes.per.second"), max(leastThrottle, l.Int("leader.replication.throttled.rate")))
}

// milliseconds keeps what is too long for a Duration at the longest there is; negative means for ever.
func milliseconds(n int64) time.Duration {
	if n > int64(1<<63-1)/int64(time.Millisecond) {
		return 1<<63 - 1
	}
	return time.Duration(n) * time.Millisecond
}

// TopicConfig resolves all settings of a topic. The error names a value that cannot be, or two that do not go together; the
// configuration is usable even then: a wrong value counts as not set.
func (l Layers) TopicConfig() (replication.TopicConfig, error) {
	var problem error
	for _, name := range slices.Sorted(maps.Keys(l.Topic)) {
		if err := Validate(Topic, name, l.Topic[name]); err != nil && problem == nil {
			problem = err
		}
	}
	r := resolver{layers: l}
	c := replication.TopicConfig{
		RetentionTime: r.duration("retention.ms"), RetentionBytes: r.number("retention.bytes"),
		SegmentBytes: r.number("segment.bytes"), SegmentAge: r.duration("segment.ms"), SegmentIndexBytes: r.number("segment.index.bytes"),
		MaxMessageBytes: int(r.number("max.message.bytes")), MinInsyncReplicas: int(r.number("min.insync.replicas")),
		Compression: l.Get(Topic, "compression.type"), CompressionLevel: -1,
		TimestampBeforeMax: r.duration("message.timestamp.before.max.ms"), TimestampAfterMax: r.duration("message.timestamp.after.max.ms"),
		DeleteRetention: r.duration("delete.retention.ms"), MinCompactionLag: r.duration("min.compaction.lag.ms"),
		MaxCompactionLag: r.duration("max.compaction.lag.ms"), FileDeleteDelay: r.duration("file.delete.delay.ms"),
		MinCleanableRatio: r.fraction("min.cleanable.dirty.ratio"),
	}
	if l.Get(Topic, "internal.segment.bytes") != "" {
		c.SegmentBytes = r.number("internal.segment.bytes")
	}
	// Not every codec has levels, and "producer" and "uncompressed" are none: the registry knows.
	if level := "compression." + c.Compression + ".level"; registry[Topic][level] != nil {
		c.CompressionLevel = int(r.number(level))
	}
	if l.Get(Topic, "message.timestamp.type") == "LogAppendTime" {
		c.TimestampType = replication.LogAppendTime
	}
	for _, policy := range Elements(l.Get(Topic, "cleanup.policy")) {
		if policy == "compact" {
			c.CleanupPolicy |= replication.CleanupCompact
		} else {
			c.CleanupPolicy |= replication.CleanupDelete
		}
	}
	if c.MinCompactionLag > c.MaxCompactionLag && problem == nil {
		problem = fmt.Errorf("min.compaction.lag.ms %v is longer than max.compaction.lag.ms %v", c.MinCompactionLag, c.MaxCompactionLag)
	}
	return c, problem
}

// resolver reads typed values. What Describe returns was checked, so parsing does not fail.
type resolver struct{ layers Layers }

func (r resolver) number(name string) int64 {
	n, _ := strconv.ParseInt(r.layers.Get(Topic, name), 10, 64)
	return n
}

func (r resolver) duration(name string) time.Duration { return milliseconds(r.number(name)) }

func (r resolver) fraction(name string) float64 {
	f, _ := strconv.ParseFloat(r.layers.Get(Topic, name), 64)
	return f
}
