package config

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/quorlog/quorlog/replication"
)

// TestOtherUnits: hours and minutes are converted, for ever stays for ever, and the range is that of the setting itself.
func TestOtherUnits(t *testing.T) {
	for _, tc := range []struct {
		name, value string
		retention   time.Duration
		age         time.Duration
	}{
		{"log.retention.hours", "2", 2 * time.Hour, 168 * time.Hour},
		{"log.retention.hours", "-1", -time.Millisecond, 168 * time.Hour},
		{"log.retention.minutes", " 3 ", 3 * time.Minute, 168 * time.Hour},
		{"log.roll.hours", "5", 168 * time.Hour, 5 * time.Hour},
		{"log.roll.hours", "-1", 168 * time.Hour, 168 * time.Hour}, // illegal, so not set
		{"log.roll.hours", "", 168 * time.Hour, 168 * time.Hour},
		{"log.retention.hours", "2147483647", 1<<63 - 1, 168 * time.Hour},
	} {
		c, err := Layers{Static: map[string]string{tc.name: tc.value}}.TopicConfig()
		if err != nil || c.RetentionTime != tc.retention || c.SegmentAge != tc.age {
			t.Errorf("%s=%s: retention %v, age %v, %v", tc.name, tc.value, c.RetentionTime, c.SegmentAge, err)
		}
	}
	for name, value := range map[string]string{"log.roll.hours": "-1", "log.retention.hours": "-2", "log.retention.minutes": "x"} {
		if Validate(Broker, name, value) == nil {
			t.Errorf("%s=%s was accepted", name, value)
		}
	}
	// The broker's own rows say the same, each in its unit.
	l := Layers{Static: map[string]string{"log.retention.hours": "24"}}
	if ms, h := l.Get(Broker, "log.retention.ms"), l.Get(Broker, "log.retention.hours"); ms != "86400000" || h != "24" {
		t.Errorf("%s ms, %s h", ms, h)
	}
}

func TestDescribe(t *testing.T) {
	l := Layers{
		Broker: map[string]string{"log.retention.ms": "6"}, BrokerDefault: map[string]string{"log.retention.ms": "5", "num.partitions": "3"},
		Static: map[string]string{"log.retention.hours": "2"}, Group: map[string]string{"consumer.session.timeout.ms": "7000"},
	}
	describe := func(scope Scope, name string) Row {
		s, ok := Lookup(scope, name)
		if !ok {
			t.Fatal(name)
		}
		return l.Describe(s)
	}
	row := describe(Topic, "retention.ms")
	want := []Value{
		{"log.retention.ms", "6", DynamicBroker}, {"log.retention.ms", "5", DynamicBrokerDefault},
		{"log.retention.hours", "2", StaticBroker}, {"log.retention.ms", "604800000", Default},
	}
	if row.Value != (Value{"retention.ms", "6", DynamicBroker}) || len(row.Chain) != len(want) {
		t.Fatalf("%+v %+v", row.Value, row.Chain)
	}
	for i := range want {
		if row.Chain[i] != want[i] {
			t.Errorf("synonym %d is %+v, want %+v", i, row.Chain[i], want[i])
		}
	}
	if row := describe(Group, "consumer.session.timeout.ms"); row.Value.Value != "7000" || row.Source != DynamicGroup || len(row.Chain) != 2 {
		t.Errorf("%+v", row.Chain)
	}
	if row := describe(Group, "consumer.heartbeat.interval.ms"); row.Source != Default {
		t.Errorf("%+v", row.Chain)
	}
	if n := l.Int("num.partitions"); n != 3 || !l.Bool("auto.create.topics.enable") || l.Duration("connections.max.idle.ms") != 10*time.Minute {
		t.Errorf("%d partitions", n)
	}
	if _, ok := Lookup(Topic, "internal.segment.bytes"); !ok {
		t.Error("the setting for tests is gone")
	}
	for _, s := range All(Topic) {
		if s.Name == "internal.segment.bytes" {
			t.Error("the setting for tests is listed")
		}
	}
}

// TestIllegalValuesCountAsNotSet: a later version may be stricter than the one that took a value. Then the next layer
// holds; a zero, which for retention means "delete everything", never comes of it.
func TestIllegalValuesCountAsNotSet(t *testing.T) {
	l := Layers{
		Topic:  map[string]string{"retention.ms": "soon", "segment.bytes": "5", "cleanup.policy": "shred"},
		Static: map[string]string{"log.retention.ms": "x", "log.retention.hours": "1", "log.segment.bytes": "2097152"},
	}
	c, err := l.TopicConfig()
	if err == nil {
		t.Error("nothing was said")
	}
	if c.RetentionTime != time.Hour || c.SegmentBytes != 2097152 || c.CleanupPolicy != replication.CleanupDelete {
		t.Errorf("%+v", c)
	}
	l = Layers{Static: map[string]string{"fetch.max.bytes": "lots", "auto.create.topics.enable": "maybe"}}
	if l.Int("fetch.max.bytes") != 57671680 || !l.Bool("auto.create.topics.enable") {
		t.Error("a wrong value was used")
	}
}

// TestSpacesAndCase: Kafka takes them, and so do we.
func TestSpacesAndCase(t *testing.T) {
	c, err := Layers{Topic: map[string]string{"retention.ms": " 5 ", "compression.type": "zstd ", "preallocate": "False", "cleanup.policy": " compact , delete "}}.TopicConfig()
	if err != nil || c.RetentionTime != 5*time.Millisecond || c.Compression != "zstd" || c.CompressionLevel != 3 ||
		c.CleanupPolicy != replication.CleanupCompact|replication.CleanupDelete {
		t.Errorf("%+v, %v", c, err)
	}
	if (Layers{Static: map[string]string{"auto.create.topics.enable": " FALSE"}}).Bool("auto.create.topics.enable") {
		t.Error("FALSE is true")
	}
}

func TestTopicConfigValues(t *testing.T) {
	c, err := Layers{Topic: map[string]string{
		"message.timestamp.type": "LogAppendTime", "internal.segment.bytes": "100", "segment.bytes": "2097152",
		"compression.type": "gzip", "compression.gzip.level": "6", "min.cleanable.dirty.ratio": "0.25",
	}}.TopicConfig()
	if err != nil || c.TimestampType != replication.LogAppendTime || c.SegmentBytes != 100 || c.CompressionLevel != 6 || c.MinCleanableRatio != 0.25 {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestCompressionTypes: every compression.type leads to a configuration, with a level where its codec has one.
func TestCompressionTypes(t *testing.T) {
	want := map[string]int{"gzip": -1, "lz4": 9, "zstd": 3} // Kafka's defaults
	for _, name := range codecs {
		c, err := Layers{Topic: map[string]string{"compression.type": name}}.TopicConfig()
		level, has := want[name]
		if !has {
			level = -1
		}
		if err != nil || c.Compression != name || c.CompressionLevel != level {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

// TestWhatIsAcceptedIsUsable: any value that the registry accepts, in any layer, leads to a configuration within bounds.
func TestWhatIsAcceptedIsUsable(t *testing.T) {
	value := rapid.OneOf(
		rapid.SampledFrom(codecs),
		rapid.SampledFrom([]string{"", " 5", "-1", "0", "1", "+7", "007", "9223372036854775807", "-9223372036854775808", "NaN", "Inf", "0.5", "true", "TRUE", "compact", "delete,compact", ",", "zstd", "LogAppendTime", "1e3", "0x10", "2147483647"}),
		rapid.StringN(0, 12, -1),
	)
	rapid.Check(t, func(t *rapid.T) {
		l := Layers{Topic: map[string]string{}, Broker: map[string]string{}, Static: map[string]string{}}
		legal := true
		for range rapid.IntRange(1, 6).Draw(t, "settings") {
			s := rapid.SampledFrom(All(Topic)).Draw(t, "setting")
			v := value.Draw(t, "value")
			switch layer := rapid.IntRange(0, 2).Draw(t, "layer"); {
			case layer == 0:
				l.Topic[s.Name] = v
			case len(s.Synonyms) > 0 && layer == 1:
				l.Broker[s.Synonyms[0]] = v
			case len(s.Synonyms) > 0:
				l.Static[rapid.SampledFrom(s.Synonyms).Draw(t, "synonym")] = v
			}
		}
		for name, v := range l.Topic {
			legal = legal && Validate(Topic, name, v) == nil
		}
		c, err := l.TopicConfig()
		if legal && err != nil && c.MinCompactionLag <= c.MaxCompactionLag {
			t.Fatalf("%+v: %v", l, err)
		}
		if c.CleanupPolicy == 0 || c.RetentionTime < -time.Millisecond || c.RetentionBytes < -1 || c.SegmentBytes < 1 || c.SegmentAge <= 0 ||
			c.SegmentIndexBytes < 1 || c.MinInsyncReplicas < 1 || c.Compression == "" || c.MaxMessageBytes < 0 || c.DeleteRetention < 0 ||
			c.MinCompactionLag < 0 || c.MaxCompactionLag <= 0 || !(c.MinCleanableRatio >= 0 && c.MinCleanableRatio <= 1) ||
			c.TimestampAfterMax < 0 || c.TimestampBeforeMax < 0 {
			t.Fatalf("%+v leads to %+v", l, c)
		}
	})
}

// FuzzValidate gives every row any value: no panic, and what is accepted once is accepted as it is read back.
func FuzzValidate(f *testing.F) {
	for _, v := range []string{"", "5", "true", "delete,compact", "-1", "0.5"} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, value string) {
		for _, scope := range []Scope{Broker, Topic, Group} {
			for _, s := range All(scope) {
				if s.Validate(value) == nil && s.Validate(s.clean(value)) != nil {
					t.Errorf("%s accepts %q but not %q", s.Name, value, s.clean(value))
				}
			}
		}
	})
}

func BenchmarkTopicConfig(b *testing.B) {
	l := Layers{Topic: map[string]string{"retention.ms": "5"}, Static: map[string]string{"log.retention.hours": "5"}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.TopicConfig(); err != nil {
			b.Fatal(err)
		}
	}
}

// What an operator asks for by Kafka's name holds back as well as our own setting; whichever is less.
func TestCatchUpRate(t *testing.T) {
	const ours, throttle = "quorlog.catchup.max.bytes.per.second", "leader.replication.throttled.rate"
	for _, tc := range []struct {
		set  map[string]string
		want int64
	}{
		{nil, 52428800},
		{map[string]string{throttle: "1000000"}, 1000000},
		{map[string]string{throttle: "1000000000"}, 52428800},
		{map[string]string{throttle: "1000000000", ours: "2000000000"}, 1000000000},
		{map[string]string{throttle: "0"}, 65536},
		{map[string]string{throttle: "0", ours: "1"}, 1},
	} {
		if got := (Layers{Broker: tc.set}).CatchUpRate(); got != tc.want {
			t.Errorf("%v: %d bytes a second, want %d", tc.set, got, tc.want)
		}
	}
}
