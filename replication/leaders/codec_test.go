package leaders

import (
	"encoding/hex"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/quorlog/quorlog/internal/scripts"
	"github.com/quorlog/quorlog/replication"
)

func sample() frame {
	return frame{
		session: 1 << 63, seq: 12, first: true, last: true,
		status: &wireStatus{
			NodeStatus: NodeStatus{MetaApplied: 1 << 40, LowSpace: true, Version: "v1"}, hears: []replication.NodeID{0, 5},
		},
		entries: []wireEntry{{led(3, 2, 9, 2, 7), 2}, {led(4, none, 1), 2}},
	}
}

func TestFrameRoundTrip(t *testing.T) {
	for name, f := range map[string]frame{"all": sample(), "nothing": {session: 1}, "status": {status: &wireStatus{NodeStatus: NodeStatus{Draining: true}}}} {
		got, err := decodeFrame(f.encode())
		if err != nil || !reflect.DeepEqual(*got, f) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// goldenFrame is what other releases must understand, in hexadecimal.
const goldenFrame = "testdata/frame.txt"

func TestFrameFormat(t *testing.T) {
	f := sample()
	got := hex.EncodeToString(f.encode()) + "\n"
	scripts.Golden(t, goldenFrame, got, "nodes of other releases would not understand this; if they must not, raise frameVersion")
	want, err := os.ReadFile(goldenFrame)
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(want)))
	if err != nil {
		t.Fatal(err)
	}
	if back, err := decodeFrame(b); err != nil || !reflect.DeepEqual(*back, f) {
		t.Errorf("%+v, %v", back, err)
	}
}

func TestFramesOfOtherReleases(t *testing.T) {
	f := sample()
	b := section(f.encode(), 77, func(b []byte) []byte { return append(b, "from the future"...) })
	if got, err := decodeFrame(b); err != nil || !reflect.DeepEqual(*got, f) {
		t.Errorf("an unknown section: %+v, %v", got, err)
	}
	b[0] = 2
	if _, err := decodeFrame(b); !errors.Is(err, errFrame) {
		t.Errorf("an unknown version: %v", err)
	}
}

func TestLongTextsAreCut(t *testing.T) {
	f := frame{status: &wireStatus{NodeStatus: NodeStatus{Version: strings.Repeat("x", 1000)}}}
	if got, err := decodeFrame(f.encode()); err != nil || len(got.status.Version) != maxVersion {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestDamagedFrames(t *testing.T) {
	f := sample()
	whole := f.encode()
	const header = 18
	for n := range whole {
		if got, err := decodeFrame(whole[:n]); err == nil && n > header && len(got.entries) == len(f.entries) {
			t.Errorf("%d of %d bytes are taken for all", n, len(whole))
		}
	}
	table := New(Options{Node: 2})
	defer table.Close()
	if _, err := table.HandlePush(t.Context(), 1, whole[:30]); !errors.Is(err, errFrame) {
		t.Error(err)
	}
	if _, err := table.HandlePush(t.Context(), 2, whole); !errors.Is(err, errSelf) {
		t.Error(err)
	}
}

func FuzzDecodeFrame(f *testing.F) {
	s := sample()
	f.Add(s.encode())
	f.Add([]byte{frameVersion})
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := decodeFrame(body)
		if err != nil {
			return
		}
		again, err := decodeFrame(got.encode())
		if err != nil || !reflect.DeepEqual(got, again) {
			t.Errorf("%+v, %+v, %v", got, again, err)
		}
	})
}
