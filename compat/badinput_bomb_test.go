package compat

import (
	"bytes"
	"encoding/binary"
	"math"
	"sync"
	"testing"
	"time"

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
			crowded, err := dialWire(t, node).produceTo("bombs", 9, crowd(codec))
			if err != nil || crowded.ErrorCode != codeInvalidRecord {
				t.Errorf("2^31-1 records of nothing: error code %d, %v", crowded.ErrorCode, err)
			}
		})
	}
	if high := w.highWatermark("bombs"); high != 0 {
		t.Errorf("the high watermark is %d: a bomb was stored", high)
	}
	unharmed(t, node)
}

func explode(t *testing.T, node *testcluster.Node, batch []byte) {
	got, err := dialWire(t, node).produceTo("bombs", 9, batch)
	if err != nil || got.ErrorCode != codeMessageTooLarge {
		t.Errorf("a bomb: error code %d, %v", got.ErrorCode, err)
	}
}
