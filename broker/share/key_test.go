package share

import (
	"encoding/json"
	"testing"

	"github.com/quorlog/quorlog/replication"
)

func TestKey(t *testing.T) {
	for _, k := range []Key{{Group: "g", Partition: 3}, {Group: "a:b:", Topic: [16]byte{1, 255}, Partition: 0}, {}} {
		if got, err := ParseKey(k.String()); err != nil || got != k {
			t.Errorf("%q is %+v, %v", k.String(), got, err)
		}
	}
	for _, s := range []string{"", "g", "g:1", "g:x:1", "g:AAAAAAAAAAAAAAAAAAAAAA:-1", "g:AAAAAAAAAAAAAAAAAAAAAA:x", ":::"} {
		if got, err := ParseKey(s); err == nil {
			t.Errorf("%q is %+v", s, got)
		}
	}
}

// Two groups are two on the way to another node, whatever their ids are made of.
func TestKeysTravel(t *testing.T) {
	for _, group := range []string{"g", "", "\x00", "\ufffd", "\xff", "\xfe", "a\xe2\x82", "<&>\u2028"} {
		k := Key{Group: group, Topic: replication.TopicID{1, 0xff}, Partition: 3}
		body, err := json.Marshal(struct{ Key Key }{k})
		if err != nil {
			t.Fatal(err)
		}
		var back struct{ Key Key }
		if err := json.Unmarshal(body, &back); err != nil || back.Key != k {
			t.Errorf("%q arrives as %q, %v", k, back.Key, err)
		}
	}
	before, err := json.Marshal(plainKey{Group: "g", Partition: 3})
	if err != nil {
		t.Fatal(err)
	}
	now, err := json.Marshal(Key{Group: "g", Partition: 3})
	if err != nil || string(now) != string(before) {
		t.Errorf("%s, %v; nodes of before write %s", now, err, before)
	}
}
