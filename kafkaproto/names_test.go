package kafkaproto

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestCodeNames(t *testing.T) {
	for c := Code(-1); int(c) < len(codeNames)-1; c++ {
		want := "NONE"
		if err := kerr.TypedErrorForCode(int16(c)); err != nil {
			want = err.Message
		}
		if c == NotLeaderOrFollower {
			want = "NOT_LEADER_OR_FOLLOWER" // its name since Kafka 2.6
		}
		if c.String() != want {
			t.Errorf("%d: %s, want %s", int16(c), c, want)
		}
	}
	if next := Code(len(codeNames) - 1); kerr.TypedErrorForCode(int16(next)) != kerr.UnknownServerError {
		t.Errorf("code %d has no name", next)
	}
	for _, c := range []Code{-2, 999} {
		if !strings.HasPrefix(c.String(), "UNKNOWN_CODE_") {
			t.Error(c)
		}
	}
}

func TestKeyNames(t *testing.T) {
	for k := range keyCount {
		want := kmsg.NameForKey(int16(k))
		switch Key(k) { // kmsg has names of its own for some
		case KeyAlterPartitionReassignments:
			want = "AlterPartitionReassignments"
		case KeyListConfigResources:
			want = "ListConfigResources"
		}
		if !strings.EqualFold(Key(k).String(), want) {
			t.Errorf("%d: %s, kmsg says %s", k, Key(k), want)
		}
	}
	if Key(-1).Known() || Key(keyCount).Known() || Key(-1).String() != "UnknownKey-1" {
		t.Error("unknown keys")
	}
}

func TestRange(t *testing.T) {
	r := Range{Min: 2, Max: 4}
	for v, want := range []bool{false, false, true, true, true, false} {
		if r.Contains(int16(v)) != want {
			t.Errorf("version %d", v)
		}
	}
}
