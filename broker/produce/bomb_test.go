package produce

import (
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/internal/allocs"
	"github.com/quorlog/quorlog/internal/turns"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"

	"github.com/klauspost/compress/zstd"
)

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

// What is refused, and what is compressed anew, costs memory by its size as it was sent, not by what it unpacks to.
func TestBombsCostLittle(t *testing.T) {
	const much, most = 64 << 20, 48 << 20
	now := testNow.UnixMilli()
	late := testNow.Add(2 * time.Hour).UnixMilli()
	for name, tc := range map[string]struct {
		frame       []byte
		compression string
		want        error
	}{
		"headers, too new":          {bomb(t, 4<<20, 0, late, 1<<20), "producer", broker.ErrInvalidRecord},
		"headers":                   {bomb(t, 4<<20, 0, now, 1<<20), "producer", broker.ErrInvalidRecord},
		"a value, too new":          {bomb(t, 0, much, late, 1<<20), "producer", broker.ErrInvalidTimestamp},
		"a value, as LZ4":           {bomb(t, 0, much, now, 1<<20), "lz4", nil},
		"a value, as Gzip":          {bomb(t, 0, much, now, 1<<20), "gzip", nil},
		"a value, as Snappy":        {bomb(t, 0, much, now, 1<<20), "snappy", broker.ErrMessageTooLarge},
		"a value, uncompressed":     {bomb(t, 0, much, now, 1<<20), "uncompressed", broker.ErrMessageTooLarge},
		"a value in a wide window":  {bomb(t, 0, much, now, 16<<20), "producer", nil},
		"wide, and compressed anew": {bomb(t, 0, much, now, 16<<20), "lz4", nil},
	} {
		cfg := topicConfig()
		cfg.Compression, cfg.CompressionLevel = tc.compression, batch.DefaultLevel
		s := New(Options{Now: func() time.Time { return testNow }})
		run := func() {
			if _, err := s.prepare(t.Context(), testNow, &Request{ZstdAllowed: true}, cfg, tc.frame); !errors.Is(err, tc.want) || (err != nil) != (tc.want != nil) {
				t.Errorf("%s: %v", name, err)
			}
		}
		run() // fills the pools
		if raceEnabled {
			continue // the race detector makes pools drop what they hold
		}
		if got := allocs.Bytes(run); got > most {
			t.Errorf("%s: %d KiB of a batch make it allocate %d KiB", name, len(tc.frame)>>10, got>>10)
		}
	}
}

// Batches that unpack to much wait for a turn, and no longer than their request; others never do.
func TestBatchesThatUnpackToMuchTakeTurns(t *testing.T) {
	taken := turns.New()
	s := New(Options{Now: func() time.Time { return testNow }, Turns: taken})
	small, large := plain(t), bomb(t, 0, 8<<20, testNow.UnixMilli(), 1<<20)
	const patience = time.Minute
	prepare := func(ctx context.Context, patience time.Duration, f []byte) error {
		_, err := s.prepare(ctx, testNow.Add(patience), &Request{ZstdAllowed: true, Timeout: time.Hour}, topicConfig(), f)
		return err
	}
	if err := prepare(t.Context(), patience, large); err != nil {
		t.Errorf("its turn came: %v", err)
	}
	if err := prepare(t.Context(), patience, bomb(t, 0, 129<<20, testNow.UnixMilli(), 1<<20)); !errors.Is(err, broker.ErrMessageTooLarge) {
		t.Errorf("more than the topic takes: %v", err)
	}
	release := hold(taken)
	if err := prepare(t.Context(), 0, small); err != nil {
		t.Errorf("a small one: %v", err)
	}
	for _, patience := range []time.Duration{time.Millisecond, -time.Hour} { // of a request whose other batches have taken its time
		if err := prepare(t.Context(), patience, large); !errors.Is(err, replication.ErrOverloaded) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("its turn did not come: %v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := prepare(ctx, patience, large); !errors.Is(err, replication.ErrOverloaded) || !errors.Is(err, context.Canceled) {
		t.Errorf("the client has gone: %v", err)
	}
	release()
	if err := prepare(t.Context(), patience, large); err != nil {
		t.Errorf("its turn came again: %v", err)
	}
}

// hold takes all turns, until release.
func hold(of *turns.Turns) (release func()) {
	end := make(chan struct{})
	var all sync.WaitGroup
	for range max(1, runtime.GOMAXPROCS(0)/2) {
		begun := make(chan struct{})
		all.Go(func() {
			_ = of.Do(context.Background(), func() error {
				close(begun)
				<-end
				return nil
			})
		})
		<-begun
	}
	return func() {
		close(end)
		all.Wait()
	}
}

// The batches of a request that wait for turns wait together no longer than turnWait, whatever the request may.
func TestTurnsOfARequest(t *testing.T) {
	p, stop := onePartition(t, vfs.NewMem())
	defer stop()
	taken := turns.New()
	defer hold(taken)()
	now := testNow
	s := New(Options{Partitions: &arriving{part: p}, Now: func() time.Time { return now }, Turns: taken})
	var c Call
	s.Begin(&c, Request{Acks: AcksAll, Timeout: time.Hour, Batches: 2, ZstdAllowed: true})
	now = now.Add(turnWait) // which the first of them took
	impatient := errors.New("it waits on")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, impatient)
	defer cancel()
	c.Add(ctx, Batch{Topic: "t", Records: bomb(t, 0, 8<<20, testNow.UnixMilli(), 1<<20)})
	if err := c.Wait(ctx, nil)[0].Err; !errors.Is(err, replication.ErrOverloaded) || errors.Is(err, impatient) {
		t.Error(err)
	}
}

func TestWhatABatchMayUnpackTo(t *testing.T) {
	s := New(Options{})
	for most, want := range map[int]int64{0: 1 << 30, 1: 128 << 20, 1048588: 128 * 1048588, 4 << 20: 512 << 20, 100 << 20: 1 << 30} {
		if got := s.mostDecompressed(&replication.TopicConfig{MaxMessageBytes: most}); got != want {
			t.Errorf("max.message.bytes %d: %d, want %d", most, got, want)
		}
	}
}
