package partition

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/quorlog/quorlog/log/batch"
)

// BenchmarkAppend measures one partition with one voter on the real disk, with 64 batches in flight: what one connection, or
// several, that pipeline can reach. B/s counts frames. Payloads are random.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			n := open(b, Options{DataDir: b.TempDir()})
			p := n.partition(0, testConfig())
			value := make([]byte, size-batch.HeaderSize-32)
			rng := rand.New(rand.NewPCG(1, 2))
			for i := range value {
				value[i] = byte(rng.Uint32())
			}
			frame, err := batch.Build(batch.BuildOptions{}, batch.Record{Timestamp: 1, Value: value})
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(frame)))
			before := p.group.Counts()
			b.ResetTimer()
			appendWindow(b, p, frame, 64)
			b.StopTimer()
			after := p.group.Counts()
			b.ReportMetric(float64(after.Entries-before.Entries)/float64(after.Stores-before.Stores), "entries/store")
			if err := n.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// appendWindow keeps a number of appends under way.
func appendWindow(b *testing.B, p *Partition, frame []byte, window int) {
	under := make([]*Pending, window)
	for i := range b.N + window {
		if pd := under[i%window]; pd != nil {
			if _, err := pd.Wait(ctx); err != nil {
				b.Fatal(err)
			}
			under[i%window] = nil
		}
		if i < b.N {
			under[i%window] = p.Append(Batch{Frame: slices.Clone(frame)})
		}
	}
}

// BenchmarkAppendOne is the latency of one batch at a time.
func BenchmarkAppendOne(b *testing.B) {
	n := open(b, Options{DataDir: b.TempDir()})
	p := n.partition(0, testConfig())
	frame := frameOf(b, batch.BuildOptions{}, "v").Frame
	b.ResetTimer()
	appendWindow(b, p, frame, 1)
}
