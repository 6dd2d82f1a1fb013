package kafkaproto

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// frameOf returns what a client of kmsg sends, without the length.
func frameOf(req kmsg.Request, version int16, correlation int32, clientID ...string) []byte {
	f := kmsg.NewRequestFormatter()
	if len(clientID) > 0 {
		f = kmsg.NewRequestFormatter(kmsg.FormatterClientID(clientID[0]))
	}
	req.SetVersion(version)
	return f.AppendRequest(nil, req, correlation)[4:]
}

func TestParseHeader(t *testing.T) {
	for _, row := range schemaTable {
		for v := int16(0); v <= row.max; v++ {
			req := kmsg.RequestForKey(int16(row.key))
			h, body, err := ParseHeader(frameOf(req, v, 77, "me"))
			if err != nil {
				t.Fatal(err)
			}
			want := RequestHeader{Key: row.key, Version: v, CorrelationID: 77, ClientID: "me", HasClientID: true}
			if h != want {
				t.Errorf("%+v, want %+v", h, want)
			}
			if string(body) != string(req.AppendTo(nil)) {
				t.Errorf("%s version %d: body %x", row.key, v, body)
			}
			if h, _, err = ParseHeader(frameOf(req, v, 77)); err != nil || h.HasClientID || h.ClientID != "" {
				t.Errorf("without client id: %+v %v", h, err)
			}
		}
	}
}

func TestParseHeaderErrors(t *testing.T) {
	long := make([]byte, maxClientID+1)
	metadata := func(rest ...byte) []byte { return append([]byte{0, 3, 0, 9, 0, 0, 0, 1}, rest...) }
	for _, c := range []struct {
		name  string
		frame []byte
		want  error
	}{
		{"empty", nil, ErrHeader},
		{"seven bytes", make([]byte, 7), ErrHeader},
		{"unknown key", []byte{1, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff}, ErrUnknownKey},
		{"negative key", []byte{0xff, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff}, ErrUnknownKey},
		{"negative version", []byte{0, 3, 0xff, 0xff, 0, 0, 0, 1, 0xff, 0xff}, ErrHeader},
		{"no client id", metadata(), ErrHeader},
		{"client id of -2", metadata(0xff, 0xfe, 0), ErrHeader},
		{"client id past the end", metadata(0, 9, 'a', 0), ErrHeader},
		{"no tags", metadata(0xff, 0xff), ErrHeader},
		{"4 billion tags", metadata(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f), ErrTags},
		{"tag past the end", metadata(0xff, 0xff, 1, 0, 9, 0), ErrTags},
		{"client id of 1025 bytes", frameOf(kmsg.NewPtrMetadataRequest(), 9, 1, string(long)), ErrHeader},
	} {
		if _, _, err := ParseHeader(c.frame); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestParseHeaderSkipsTags(t *testing.T) {
	frame := []byte{0, 3, 0, 9, 0, 0, 0, 1, 0, 1, 'c', 2, 0, 3, 1, 2, 3, 9, 0, 'b', 'o', 'd', 'y'}
	h, body, err := ParseHeader(frame)
	if err != nil || h.ClientID != "c" || string(body) != "body" {
		t.Errorf("%+v %q %v", h, body, err)
	}
}

// An ApiVersions request from the future must yield its correlation id, whatever its header looks like by then (KIP-511).
func TestParseHeaderOfFutureApiVersions(t *testing.T) {
	for _, rest := range [][]byte{nil, {1}, {0, 2, 'm', 'e'}, {0, 2, 'm', 'e', 0, 1, 2, 3}, {0x7f, 0xff}, {0xff, 0xff, 0xff, 0xff}} {
		h, body, err := ParseHeader(append([]byte{0, 18, 0, 6, 0, 0, 1, 2}, rest...))
		if err != nil || body != nil || h.Key != KeyApiVersions || h.Version != 6 || h.CorrelationID != 0x102 {
			t.Errorf("%x: %+v %x %v", rest, h, body, err)
		}
	}
	h, _, err := ParseHeader([]byte{0, 18, 0x7f, 0xff, 0, 0, 0, 9, 0, 2, 'm', 'e', 0})
	if err != nil || h.ClientID != "me" {
		t.Errorf("%+v %v", h, err)
	}
}

func TestAppendResponseHeader(t *testing.T) {
	for _, c := range []struct {
		key     Key
		version int16
		want    string
	}{
		{KeyMetadata, 8, "\x00\x00\x00\x07"},
		{KeyMetadata, 9, "\x00\x00\x00\x07\x00"},
		{KeyApiVersions, 2, "\x00\x00\x00\x07"},
		{KeyApiVersions, 5, "\x00\x00\x00\x07"},
		{KeyApiVersions, 99, "\x00\x00\x00\x07"},
		{KeySASLHandshake, 1, "\x00\x00\x00\x07"},
		{KeyOffsetDelete, 0, "\x00\x00\x00\x07"},
		{KeyDescribeCluster, 0, "\x00\x00\x00\x07\x00"},
	} {
		if got := AppendResponseHeader(nil, RequestHeader{Key: c.key, Version: c.version, CorrelationID: 7}); string(got) != c.want {
			t.Errorf("%s version %d: %x", c.key, c.version, got)
		}
	}
}

// The formats of headers must be those that kmsg's own responses imply, for every key that it knows.
func TestFlexibleAgreesWithKmsg(t *testing.T) {
	for k := range keyCount {
		key := Key(k)
		req := kmsg.RequestForKey(int16(key))
		if req == nil {
			continue
		}
		for v := int16(0); v <= req.MaxVersion(); v++ {
			req.SetVersion(v)
			if FlexibleRequest(key, v) != req.IsFlexible() {
				t.Errorf("request of %s version %d", key, v)
			}
			want := req.ResponseKind().IsFlexible() && key != KeyApiVersions
			if FlexibleResponse(key, v) != want {
				t.Errorf("response of %s version %d", key, v)
			}
		}
	}
	if FlexibleRequest(-1, 0) || FlexibleRequest(500, 9) {
		t.Error("unknown keys have no format")
	}
}

func FuzzHeader(f *testing.F) {
	f.Add(frameOf(kmsg.NewPtrMetadataRequest(), 9, 1, "me"))
	f.Add([]byte{0, 18, 0x7f, 0xff, 0, 0, 0, 9, 0, 2, 'm', 'e', 0})
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, body, err := ParseHeader(frame)
		if err == nil && (len(body) > len(frame) || len(h.ClientID) > maxClientID || !h.Key.Known()) {
			t.Errorf("%+v %d", h, len(body))
		}
	})
}
