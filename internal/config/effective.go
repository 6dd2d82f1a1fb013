package config

import (
	"fmt"
	"strconv"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// Layers are the values that were set, by Kafka's names, strongest first. Any may be nil.
type Layers struct {
	Topic         map[string]string // of the topic
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

// Describe resolves one setting.
func (l Layers) Describe(s *Setting) Row {
	var chain []Value
	if s.Scope == Topic {
		if v, ok := l.Topic[s.Name]; ok {
			chain = append(chain, Value{s.Name, v, DynamicTopic})
		}
		for _, name := range s.Synonyms {
			chain = l.broker(chain, name)
		}
	} else {
		chain = l.broker(chain, s.Name)
	}
	def := Value{s.Name, s.Default, Default}
	if s.Scope == Topic && len(s.Synonyms) > 0 {
		def.Name = s.Synonyms[0]
	}
	chain = append(chain, def)
	row := Row{Setting: s, Value: chain[0], Chain: chain}
	if s.Scope == Topic {
		row.Value.Value = converted(chain[0], s)
		row.Value.Name = s.Name
	}
	return row
}

// broker appends a broker setting's values.
func (l Layers) broker(chain []Value, name string) []Value {
	for _, layer := range []struct {
		values map[string]string
		source Source
	}{{l.Broker, DynamicBroker}, {l.BrokerDefault, DynamicBrokerDefault}, {l.Static, StaticBroker}} {
		if v, ok := layer.values[name]; ok && v != "" {
			chain = append(chain, Value{name, v, layer.source})
		}
	}
	return chain
}

// converted is a value in the setting's own unit: log.retention.hours gives retention.ms its default.
func converted(v Value, s *Setting) string {
	if len(s.Synonyms) < 2 || v.Name == s.Name || v.Name == s.Synonyms[0] {
		return v.Value
	}
	n, err := strconv.ParseInt(v.Value, 10, 64)
	if err != nil || n < 0 {
		return v.Value
	}
	return strconv.FormatInt(n*unitOf(v.Name).ms, 10)
}

// Get returns a setting's effective value. The name must be known.
func (l Layers) Get(scope Scope, name string) string {
	return l.Describe(registry[scope][name]).Value.Value
}

// Int returns a broker setting's effective value as a number; values were validated when they were set.
func (l Layers) Int(name string) int64 {
	n, _ := strconv.ParseInt(l.Get(Broker, name), 10, 64)
	return n
}

// Bool is Int for truth values.
func (l Layers) Bool(name string) bool { return l.Get(Broker, name) == "true" }

// Duration is Int for settings in milliseconds.
func (l Layers) Duration(name string) time.Duration { return milliseconds(l.Int(name)) }

// milliseconds keeps what is too long for a Duration at the longest there is; negative means for ever.
func milliseconds(n int64) time.Duration {
	if n > int64(1<<63-1)/int64(time.Millisecond) {
		return 1<<63 - 1
	}
	return time.Duration(n) * time.Millisecond
}

// TopicConfig resolves all settings of a topic. The error names a value that cannot be.
func (l Layers) TopicConfig() (replication.TopicConfig, error) {
	for name, value := range l.Topic {
		if err := Validate(Topic, name, value); err != nil {
			return replication.TopicConfig{}, err
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
	if _, err := batch.ParseCodec(c.Compression); err == nil && c.Compression != "snappy" && c.Compression != "none" {
		c.CompressionLevel = int(r.number("compression." + c.Compression + ".level"))
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
	if c.MinCompactionLag > c.MaxCompactionLag {
		r.err = fmt.Errorf("min.compaction.lag.ms %v is longer than max.compaction.lag.ms %v", c.MinCompactionLag, c.MaxCompactionLag)
	}
	return c, r.err
}

// resolver reads typed values and keeps the first error.
type resolver struct {
	layers Layers
	err    error
}

func (r *resolver) number(name string) int64 {
	n, err := strconv.ParseInt(r.layers.Get(Topic, name), 10, 64)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("%s: %w", name, err)
	}
	return n
}

func (r *resolver) duration(name string) time.Duration { return milliseconds(r.number(name)) }

func (r *resolver) fraction(name string) float64 {
	f, err := strconv.ParseFloat(r.layers.Get(Topic, name), 64)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("%s: %w", name, err)
	}
	return f
}
