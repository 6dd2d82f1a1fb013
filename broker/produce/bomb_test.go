package produce

import (
	"encoding/binary"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/log/batch"

	"github.com/klauspost/compress/zstd"
)

// allocated is how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// bomb is a batch of one record that goes on with so many zeros behind its value, or, without headers, as its value.
func bomb(t *testing.T, headers, zeros int, ts int64, window int) []byte {
	t.Helper()
	body := binary.AppendVarint([]byte{0}, 0) // attributes, timestamp delta
	body = binary.AppendVarint(body, 0)       // offset delta
	body = append(binary.AppendVarint(body, 1), 'k')
	if headers > 0 {
		zeros = 2 * headers
		body = binary.AppendVarint(binary.AppendVarint(body, -1), int64(headers))
		body = append(body, make([]byte, zeros)...)
	} else {
		body = append(binary.AppendVarint(body, int64(zeros)), make([]byte, zeros)...)
		body = binary.AppendVarint(body, 0)
	}
	content := append(binary.AppendVarint(nil, int64(len(body))), body...)
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window), zstd.WithSingleSegment(false))
	if err != nil {
		t.Fatal(err)
	}
	like := frame(t, batch.BuildOptions{}, record("k", "v", ts))
	f := w.EncodeAll(content, like[:batch.HeaderSize:batch.HeaderSize])
	batch.SetAttributes(f, int16(batch.Zstd))
	batch.Seal(f)
	return f
}

// What is refused costs memory by its size as it was sent, not by what it unpacks to.
func TestBombsCostLittle(t *testing.T) {
	const much, most = 64 << 20, 48 << 20
	now := testNow.UnixMilli()
	late := testNow.Add(2 * time.Hour).UnixMilli()
	for name, tc := range map[string]struct {
		frame       []byte
		compression string
		want        error
	}{
		"headers, too new": {bomb(t, 4<<20, 0, late, 1<<20), "producer", broker.ErrInvalidRecord},
		"headers":          {bomb(t, 4<<20, 0, now, 1<<20), "producer", broker.ErrInvalidRecord},
		"a value, too new": {bomb(t, 0, much, late, 1<<20), "producer", broker.ErrInvalidTimestamp},
	} {
		cfg := topicConfig()
		cfg.Compression, cfg.CompressionLevel = tc.compression, batch.DefaultLevel
		s := New(Options{Now: func() time.Time { return testNow }})
		run := func() {
			if _, err := s.prepare(&Request{ZstdAllowed: true}, cfg, tc.frame); !errors.Is(err, tc.want) || (err != nil) != (tc.want != nil) {
				t.Errorf("%s: %v", name, err)
			}
		}
		run() // fills the pools
		if got := allocated(run); got > most {
			t.Errorf("%s: %d KiB of a batch make it allocate %d KiB", name, len(tc.frame)>>10, got>>10)
		}
	}
}
