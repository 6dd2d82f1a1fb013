package compat

import (
	"bytes"
	"encoding/binary"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// bombSize is what a bomb decompresses to; the broker takes up to 1 GiB.
const bombSize = 1<<30 + 64<<20

// bomb returns a batch of one record whose value is bombSize zeros, compressed. The zeros are compressed once: all of these
// formats may be continued by another run of the same.
func bomb(codec int16) []byte {
	const run = 16 << 20
	head := bytes.Join([][]byte{varint(bombSize + 20), {0}, varint(0), varint(0), varint(-1), varint(bombSize)}, nil)
	var out bytes.Buffer
	if codec == codecSnappy {
		const block = 64 << 10
		out.Write(xerialHeader)
		put := func(b []byte) {
			_ = binary.Write(&out, binary.BigEndian, uint32(len(b))) // a buffer takes everything
			out.Write(b)
		}
		put(compress(codecSnappy, head))
		for zeros := compress(codecSnappy, make([]byte, block)); out.Len() < bombSize/block*(len(zeros)+4); {
			put(zeros)
		}
	} else {
		out.Write(compress(int(codec), head))
		zeros := compress(int(codec), make([]byte, run))
		for range bombSize / run {
			out.Write(zeros)
		}
	}
	return sealed(batchOf(out.Bytes()), func(b *rawBatch) { b.Attributes, b.NumRecords, b.LastOffsetDelta = codec, 1, 0 })
}

// crowd returns a batch that claims 2^31-1 records, and decompresses to zeros, each of which would be a record of no bytes.
func crowd(codec int16) []byte {
	return sealed(batchOf(bytes.Repeat(compress(int(codec), make([]byte, 16<<20)), 4)), func(b *rawBatch) {
		b.Attributes, b.NumRecords, b.LastOffsetDelta = codec, math.MaxInt32, math.MaxInt32-1
	})
}

// TestDecompressionBombs: batches of kilobytes to megabytes that decompress to more than a gigabyte are refused, store
// nothing, and cost the broker the memory of their compressed form and a window, not of what they become: also four at a
// time, during which others are served.
func TestDecompressionBombs(t *testing.T) {
	t.Parallel()
	const atOnce, window = 4, 48 << 10 // KiB
	node := testcluster.Start(t, testcluster.Options{})
	w := dialWire(t, node)
	w.createTopic("bombs", 1, "max.message.bytes", "104857600")
	for codec, name := range map[int16]string{codecGzip: "gzip", codecSnappy: "snappy", codecLZ4: "lz4", codecZstd: "zstd"} {
		t.Run(name, func(t *testing.T) {
			batch := bomb(codec)
			for _, n := range []int{1, atOnce} {
				if n > 1 && codec == codecSnappy && !rig.Full() {
					continue // 4 times 50 MiB
				}
				began := time.Now()
				cpu := cpuTime(t, node.Pid)
				grown := memoryPeak(t, node.Pid, func() {
					var wg sync.WaitGroup
					for range n {
						wg.Go(func() { explode(t, node, batch) })
					}
					stillServes(t, node)
					wg.Wait()
				})
				t.Logf("%d at once, each of %d KiB for %d MiB: %d KiB more at the peak, %v, %v of CPU",
					n, len(batch)>>10, bombSize>>20, grown, time.Since(began).Round(time.Millisecond), cpuTime(t, node.Pid)-cpu)
				// Each is held as it came, and once more while it arrives or is garbage.
				if most := n * (2*len(batch)>>10 + window); grown > most {
					t.Errorf("%d bombs of %d KiB cost %d KiB, more than %d", n, len(batch)>>10, grown, most)
				}
			}
			explodeIn(t, node, "bombs", codeInvalidRecord, crowd(codec))
		})
	}
	if high := w.highWatermark("bombs"); high != 0 {
		t.Errorf("the high watermark is %d: a bomb was stored", high)
	}
	unharmed(t, node)
}

func explode(t *testing.T, node *testcluster.Node, batch []byte) {
	explodeIn(t, node, "bombs", codeMessageTooLarge, batch)
}

// explodeIn sends a bomb until it has had its turn: where the processors are busy, it waits for that in vain (docs/decisions/0011).
func explodeIn(t *testing.T, node *testcluster.Node, topic string, want int16, batch []byte) {
	w := dialWire(t, node)
	for deadline := time.Now().Add(closePatience); ; {
		got, err := w.produceTo(topic, 9, batch)
		if err == nil && got.ErrorCode == codeRequestTimedOut && time.Now().Before(deadline) {
			continue
		}
		if err != nil || got.ErrorCode != want {
			t.Errorf("a bomb: error code %d, %v; want %d", got.ErrorCode, err, want)
		}
		return
	}
}

// wideBomb returns a batch of one record of so many zeros, as its value or as headers, in windows that are too wide to keep decoders for.
func wideBomb(t *testing.T, size int, headers bool) []byte {
	const window = 16 << 20
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window), zstd.WithSingleSegment(false))
	if err != nil {
		t.Fatal(err)
	}
	pack := func(content []byte) []byte {
		var out bytes.Buffer
		w.Reset(&out)
		_, _ = w.Write(content) // a buffer takes everything
		_ = w.Close()
		return out.Bytes()
	}
	var fields [][]byte
	if headers {
		fields = [][]byte{{0}, varint(0), varint(0), varint(-1), varint(-1), varint(int64(size / 2))}
	} else {
		fields = [][]byte{{0}, varint(0), varint(0), varint(-1), varint(int64(size))}
		size++ // no headers
	}
	body := bytes.Join(fields, nil)
	head := append(varint(int64(len(body)+size)), body...)
	out := pack(append(head, make([]byte, window)...))
	zeros := pack(make([]byte, window))
	for range size/window - 1 {
		out = append(out, zeros...)
	}
	out = append(out, pack(make([]byte, size%window))...)
	return sealed(batchOf(out), func(b *rawBatch) { b.Attributes, b.NumRecords, b.LastOffsetDelta = codecZstd, 1, 0 })
}

// TestWideBombs: windows that are too wide to stream from a decoder that is kept, and topics that compress anew, cost the broker no more,
// and no more for many at a time. Nor do headers, of which an empty one is two bytes.
func TestWideBombs(t *testing.T) {
	t.Parallel()
	const atOnce, window = 4, 48 << 10 // KiB
	node := testcluster.Start(t, testcluster.Options{})
	w := dialWire(t, node)
	const most = "104857600"
	w.createTopic("bombs", 1, "max.message.bytes", most)
	w.createTopic("anew", 1, "max.message.bytes", most, "compression.type", "lz4")
	w.createTopic("plain", 1, "max.message.bytes", most, "compression.type", "uncompressed")
	const large = 512 << 20
	for _, tc := range []struct {
		name, topic string
		batch       []byte
		want        int16
	}{
		{"too large", "bombs", wideBomb(t, bombSize, false), codeMessageTooLarge},
		{"large", "bombs", wideBomb(t, large, false), 0},
		{"compressed anew", "anew", wideBomb(t, large, false), 0},
		{"uncompressed", "plain", wideBomb(t, large, false), codeMessageTooLarge},
		{"headers", "bombs", wideBomb(t, large, true), codeInvalidRecord},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cpu := cpuTime(t, node.Pid)
			grown := memoryPeak(t, node.Pid, func() {
				var wg sync.WaitGroup
				for range atOnce {
					wg.Go(func() { explodeIn(t, node, tc.topic, tc.want, tc.batch) })
				}
				stillServes(t, node)
				wg.Wait()
			})
			t.Logf("%d at once, each of %d KiB: %d KiB more at the peak, %v of CPU", atOnce, len(tc.batch)>>10, grown, cpuTime(t, node.Pid)-cpu)
			if most := atOnce * (2*len(tc.batch)>>10 + window); grown > most {
				t.Errorf("%d bombs of %d KiB cost %d KiB, more than %d", atOnce, len(tc.batch)>>10, grown, most)
			}
		})
	}
	unharmed(t, node)
}
