package group

import (
	"encoding/hex"
	"errors"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func sampleRecords() []Record {
	key := &OffsetKey{Topic: "topic", Partition: 3}
	at := time.UnixMilli(1_700_000_000_000)
	return []Record{
		{Group: "g", Key: key, Offset: &Committed{Offset: 42, LeaderEpoch: 7, Metadata: "note", At: at}},
		{Group: "g", Key: key, Offset: &Committed{Offset: 42, LeaderEpoch: -1, At: at, Expires: at.Add(time.Hour)}},
		{Group: "g", Key: key, Offset: &Committed{Offset: 42, LeaderEpoch: 7, At: at, TopicID: replication.TopicID{1, 2}}},
		{Group: "g", Key: key},
		{Group: "g"},
		{Group: "g", Metadata: &Metadata{ProtocolType: "consumer", Generation: 4}},
		{Group: "g", Metadata: &Metadata{
			ProtocolType: "consumer", Protocol: "range", Leader: "a", Generation: 4, StateSince: at,
			Members: []StoredMember{
				{Member: "a", ClientID: "c", ClientHost: "/10.0.0.1", SessionTimeout: time.Second, RebalanceTimeout: time.Minute, Subscription: []byte{1}, Assignment: []byte{2, 3}},
				{Member: "b", Instance: "i", SessionTimeout: time.Second, RebalanceTimeout: time.Minute},
			},
		}},
	}
}

func TestRecordsSurviveTheirForm(t *testing.T) {
	for _, r := range sampleRecords() {
		key, value := encodeRecord(&r)
		got, err := decodeRecord(key, value)
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("got %+v, %v\nwant %+v", got, err, r)
		}
		if len(key)+len(value) > r.size() {
			t.Errorf("%+v takes %d bytes, estimated %d", r, len(key)+len(value), r.size())
		}
		if tombstone := r.Offset == nil && r.Metadata == nil; tombstone != (value == nil) {
			t.Errorf("%+v: value %x", r, value)
		}
	}
}

// TestKafkasForm pins the bytes: other tools read this topic.
func TestKafkasForm(t *testing.T) {
	want := [][2]string{
		{"0001" + "000167" + "0005746f706963" + "00000003", "0003" + "000000000000002a" + "00000007" + "00046e6f7465" + "0000018bcfe56800"},
		{"", "0001" + "000000000000002a" + "0000" + "0000018bcfe56800" + "0000018bd01c5680"},
		{"", "0004" + "000000000000002a" + "00000007" + "01" + "0000018bcfe56800" + "01" + "00" + "10" + "01020000000000000000000000000000"},
		{"", ""},
		{"0002" + "000167", ""},
		{"", "0003" + "0008636f6e73756d6572" + "00000004" + "ffff" + "ffff" + "ffffffffffffffff" + "00000000"},
	}
	for i, r := range sampleRecords()[:len(want)] {
		key, value := encodeRecord(&r)
		if want[i][0] != "" && hex.EncodeToString(key) != want[i][0] {
			t.Errorf("%d: key %x, want %s", i, key, want[i][0])
		}
		if hex.EncodeToString(value) != want[i][1] {
			t.Errorf("%d: value %x, want %s", i, value, want[i][1])
		}
	}
}

// TestOldVersionsAreRead takes records that an older or newer coordinator wrote.
func TestOldVersionsAreRead(t *testing.T) {
	key, _ := encodeRecord(&Record{Group: "g", Key: &OffsetKey{Topic: "t"}})
	for version := range int16(maxOffsetVersion + 1) {
		v := kmsg.NewOffsetCommitValue()
		v.Version, v.Offset, v.LeaderEpoch, v.CommitTimestamp, v.ExpireTimestamp = version, 5, 6, 1000, 2000
		r, err := decodeRecord(key, v.AppendTo(nil))
		if err != nil || r.Offset.Offset != 5 {
			t.Fatalf("version %d: %+v, %v", version, r, err)
		}
		if wantEpoch := version >= 3; (r.Offset.LeaderEpoch == 6) != wantEpoch || (!wantEpoch && r.Offset.LeaderEpoch != -1) {
			t.Errorf("version %d: leader epoch %d", version, r.Offset.LeaderEpoch)
		}
		if r.Offset.Expires.IsZero() == (version == 1) {
			t.Errorf("version %d: expires %v", version, r.Offset.Expires)
		}
	}
	key, _ = encodeRecord(&Record{Group: "g"})
	for version := range int16(maxMetadataVersion + 1) {
		v := kmsg.NewGroupMetadataValue()
		v.Version, v.Generation, v.CurrentStateTimestamp = version, 5, 1000
		m := kmsg.NewGroupMetadataValueMember()
		m.MemberID, m.SessionTimeoutMillis, m.RebalanceTimeoutMillis = "m", 10, 20
		v.Members = append(v.Members, m)
		r, err := decodeRecord(key, v.AppendTo(nil))
		if err != nil || r.Metadata.Generation != 5 || r.Metadata.Members[0].Member != "m" {
			t.Fatalf("version %d: %+v, %v", version, r, err)
		}
		want := 20 * time.Millisecond
		if version == 0 {
			want = 10 * time.Millisecond
		}
		if got := r.Metadata.Members[0].RebalanceTimeout; got != want {
			t.Errorf("version %d: rebalance timeout %v", version, got)
		}
	}
}

func TestCountsAreNotBelieved(t *testing.T) {
	offset, _ := encodeRecord(&Record{Group: "g", Key: &OffsetKey{Topic: "t"}})
	group, _ := encodeRecord(&Record{Group: "g"})
	for name, c := range map[string]struct {
		key   []byte
		value string
	}{
		"a million members":        {group, "0003" + "0000" + "00000001" + "ffff" + "ffff" + "0000000000000000" + "000f4240"},
		"four thousand million":    {group, "0004" + "01" + "00000001" + "00" + "00" + "0000000000000000" + "ffffffff0f"},
		"four thousand mill. tags": {offset, "0004" + "0000000000000001" + "00000001" + "01" + "0000000000000001" + "ffffffff0f"},
		"a version to come":        {offset, "0005" + "0000000000000001"},
		"one byte":                 {offset, "00"},
	} {
		value, err := hex.DecodeString(c.value)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeRecord(c.key, value); !errors.Is(err, errBadRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzDecodeRecord: whatever is in __consumer_offsets, decoding neither panics nor takes more memory than a small multiple
// of its input, and what it accepts survives being written again.
func FuzzDecodeRecord(f *testing.F) {
	for _, r := range sampleRecords() {
		key, value := encodeRecord(&r)
		f.Add(key, value)
	}
	f.Add([]byte{0, 3}, []byte{})
	twice := StoredMember{Member: "a", Instance: "i"}
	key, value := encodeRecord(&Record{Group: "g", Metadata: &Metadata{Leader: "z", Members: []StoredMember{twice, twice, {Member: "b", Instance: "i"}, {}}}})
	f.Add(key, value)
	for _, r := range entrySamples() {
		key, value := encodeRecord(&r)
		f.Add(key, value)
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		r, err := decodeRecord(key, value)
		if err != nil {
			return
		}
		if r.Metadata != nil && len(r.Metadata.Members) > len(value)/leastMember {
			t.Fatalf("%d members from %d bytes", len(r.Metadata.Members), len(value))
		}
		limits := DefaultLimits()
		l := newLoader(&limits, limits.times)
		l.apply(&r)
		for id, g := range l.groups {
			m := g.machine(id, scriptStart, l)
			checkMachine(t, m)
			m.Step(scriptStart, Tick{})
			m.Describe()
		}
		key, value = encodeRecord(&r)
		if _, err := decodeRecord(key, value); err != nil {
			t.Fatalf("%+v can't be read again: %v", r, err)
		}
	})
}

// entrySamples has a record of each kind of a group whose partitions the coordinator assigns, and a tombstone of each.
func entrySamples() (out []Record) {
	some := []TopicPartition{{topicID("t"), 0}, {topicID("t"), 3}, {topicID("u"), 1}}
	values := map[int16]any{
		3: groupValue{Epoch: 7, Hash: -5}, 11: groupValue{Epoch: 7, Hash: 5}, 6: assignmentValue{6}, 12: assignmentValue{6},
		5:  memberValue{Instance: "i", Rack: "r", ClientID: "c", ClientHost: "/h", Regex: "a.*", Assignor: "range", Topics: []string{"t", "u"}, Rebalance: time.Minute},
		10: memberValue{ClientID: "c", ClientHost: "/h", Topics: []string{}}, 7: targetValue{some}, 13: targetValue{},
		8:  currentValue{Epoch: 3, Previous: 2, State: stateUnrevoked, Assigned: some[:1], Revoking: some[1:]},
		14: currentValue{Epoch: EpochStaticLeave, Assigned: some}, 16: regexValue{Topics: []string{"a"}, At: time.UnixMilli(99)},
	}
	for _, kind := range slices.Sorted(maps.Keys(values)) {
		name := "m"
		switch kind {
		case 3, 6, 11, 12:
			name = ""
		}
		out = append(out, entry("g", kind, name, values[kind]), entry("g", kind, name, nil))
	}
	classic := values[5].(memberValue)
	classic.Classic = &classicValue{Session: 45 * time.Second, Protocols: []Protocol{{Name: "range", Metadata: []byte{0, 1, 2}}, {Name: "sticky", Metadata: []byte{}}}}
	bare := memberValue{Topics: []string{}, Classic: &classicValue{}}
	return append(out, entry("g", 5, "m", classic), entry("g", 5, "m", bare))
}

// TestClassicMemberBytes holds the tag of a classic member to Kafka's schema (ConsumerGroupMemberMetadataValue, a nullable
// structure in tag 0), which kmsg does not have.
func TestClassicMemberBytes(t *testing.T) {
	_, value := encodeRecord(&Record{Group: "g", Entry: &Entry{Kind: 5, Name: "m", Value: memberValue{
		Topics: []string{"t"}, Classic: &classicValue{Session: time.Second, Protocols: []Protocol{{Name: "range", Metadata: []byte{7}}}},
	}}})
	want := "0000" + // version
		"00" + "00" + "01" + "01" + // no instance and rack, empty client id and host
		"02" + "0274" + // one topic
		"00" + "00000000" + "00" + // no regular expression, rebalance timeout, no assignor
		"01" + "00" + "10" + // one tag: 0, of 16 bytes
		"01" + "000003e8" + // it is there; session timeout
		"02" + "0672616e6765" + "0207" + "00" + "00" // one protocol with its metadata, without tags
	if got := hex.EncodeToString(value); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestEntriesSurviveTheirBytes(t *testing.T) {
	for _, r := range entrySamples() {
		key, value := encodeRecord(&r)
		got, err := decodeRecord(key, value)
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("got %+v, want %+v, %v", got.Entry, r.Entry, err)
		}
		for n := range key {
			if _, err := decodeRecord(key[:n], value); err == nil {
				t.Errorf("%d of the %d bytes of the key of %+v are taken for one", n, len(key), r.Entry)
			}
		}
		for n := range value {
			if _, err := decodeRecord(key, value[:n]); err == nil && n < len(value)-1 && r.Entry.Kind != 3 && r.Entry.Kind != 11 {
				t.Errorf("%d of the %d bytes of the value of %+v are taken for one", n, len(value), r.Entry)
			}
		}
	}
}
