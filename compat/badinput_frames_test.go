package compat

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// apiVersionsWithTags is an ApiVersions v3 request whose six-byte body claims 2^32-1 tagged fields.
func apiVersionsWithTags() []byte {
	body := []byte{0, 18, 0, 3, 0, 0, 0, 1, 0xff, 0xff, 0x00} // key, version, correlation id, no client id, no header tags
	return frame(append(body, 1, 0xff, 0xff, 0xff, 0xff, 0x0f))
}

// badFrames are frames that no request is in.
var badFrames = map[string][]byte{
	"length -1":                  {0xff, 0xff, 0xff, 0xff},
	"length -2^31":               {0x80, 0, 0, 0},
	"length 0":                   {0, 0, 0, 0},
	"length 2^31-1":              {0x7f, 0xff, 0xff, 0xff, 0, 0},
	"one byte over the limit":    {0x06, 0x40, 0, 1, 0, 18, 0, 0},
	"no header":                  frame([]byte{0}),
	"half a header":              frame([]byte{0, 18, 0}),
	"no client id":               frame([]byte{0, 18, 0, 0, 0, 0, 0, 1}),
	"client id of -2 bytes":      frame([]byte{0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xfe}),
	"client id beyond the frame": frame([]byte{0, 18, 0, 0, 0, 0, 0, 1, 0x7f, 0xff, 'x'}),
	"client id of 32,767 bytes":  frame(append([]byte{0, 18, 0, 0, 0, 0, 0, 1, 0x7f, 0xff}, make([]byte, 0x7fff)...)),
	"unknown key":                frame([]byte{0x03, 0xe7, 0, 0, 0, 0, 0, 1, 0xff, 0xff}),
	"negative key":               frame([]byte{0xff, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff}),
	"a key for brokers only":     frame([]byte{0, 4, 0, 0, 0, 0, 0, 1, 0xff, 0xff}),
	"unknown version":            frame([]byte{0, 3, 0, 99, 0, 0, 0, 1, 0xff, 0xff, 0, 0}),
	"negative version":           frame([]byte{0, 18, 0xff, 0xff, 0, 0, 0, 1, 0xff, 0xff}),
	"Produce 2, though offered":  frame([]byte{0, 0, 0, 2, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0}),
	"2^32 tags in the body":      apiVersionsWithTags(),
	"2^32 tags in the header":    frame([]byte{0, 18, 0, 3, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f}),
	"endless varint":             frame([]byte{0, 18, 0, 3, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}),
}

// TestBadFrames: frames that can't be requests end their connection, without a word, and nothing else: as the first thing
// on it, and behind a request that was answered.
func TestBadFrames(t *testing.T) {
	node := testcluster.Start(t, testcluster.Options{})
	for name, bytes := range badFrames {
		t.Run(name, func(t *testing.T) {
			dialWire(t, node).refused(bytes)
			greeted := dialWire(t, node)
			greeted.ask(kmsg.NewPtrApiVersionsRequest())
			greeted.refused(bytes)
		})
	}
	unharmed(t, node)
}

// TestUnknownApiVersionsVersion: the one version error that gets an answer (KIP-511): error 35 in the format of version 0,
// with the range of key 18, so that the client can ask again. The connection stays.
func TestUnknownApiVersionsVersion(t *testing.T) {
	node := testcluster.Start(t, testcluster.Options{})
	w := dialWire(t, node)
	for _, version := range []uint16{6, 99, 0x7fff} {
		request := binary.BigEndian.AppendUint16([]byte{0, 18}, version)
		request = append(request, 0, 0, 0, 42, 0xff, 0xff, 0, 1, 1, 0, 'w', 'h', 'o', 'k', 'n', 'o', 'w', 's')
		if _, err := w.Write(frame(request)); err != nil {
			t.Fatal(err)
		}
		body, err := w.frame()
		if err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		resp, err := decodeAnswer(kmsg.NewPtrApiVersionsRequest(), 42, body)
		if err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		got := resp.(*kmsg.ApiVersionsResponse)
		if got.ErrorCode != 35 || len(got.ApiKeys) != 1 || got.ApiKeys[0].ApiKey != 18 || got.ApiKeys[0].MaxVersion < 3 {
			t.Errorf("version %d: %+v", version, got)
		}
	}
	w.ask(kmsg.NewPtrApiVersionsRequest())
}

// TestTagBombCosts: a request of six bytes that claims 2^32-1 tagged fields must not make the broker count to 2^32. That
// would cost seconds; what one may cost includes accepting its connection, on a machine that does much else.
func TestTagBombCosts(t *testing.T) {
	const bombs, most = 1000, 20 * time.Millisecond
	node := testcluster.Start(t, testcluster.Options{Args: fastAccept})
	began := cpuTime(t, node.Pid)
	for range bombs {
		dialWire(t, node).refused(apiVersionsWithTags())
	}
	each := (cpuTime(t, node.Pid) - began) / bombs
	t.Logf("%d requests with 2^32 tags: %v of CPU each, connection included", bombs, each)
	if each > most {
		t.Errorf("one costs %v of CPU, more than %v", each, most)
	}
	unharmed(t, node)
}

// fastAccept lets a test connect as fast as it can.
var fastAccept = []string{"--set", "max.connection.creation.rate=1000000", "--set", "max.connections=20000", "--set", "max.connections.per.ip=20000"}

// TestDeclaredLengthCostsNothing: connections that announce 100 MiB and send little cost what they have sent, not what
// they have announced; and other clients find memory for their requests.
func TestDeclaredLengthCostsNothing(t *testing.T) {
	const liars, most = 200, 64 << 10
	node := testcluster.Start(t, testcluster.Options{Args: fastAccept})
	grown := memoryPeak(t, node.Pid, func() {
		for i := range liars {
			w := dialWire(t, node)
			announced := binary.BigEndian.AppendUint32(nil, 100<<20)
			if _, err := w.Write(append(announced, make([]byte, 16<<(i%8))...)); err != nil {
				t.Fatal(err)
			}
		}
		unharmed(t, node)
	})
	t.Logf("%d connections announced 100 MiB each: %d KiB more at the peak", liars, grown)
	if grown > most {
		t.Errorf("%d connections that announced 100 MiB cost %d KiB", liars, grown)
	}
}
