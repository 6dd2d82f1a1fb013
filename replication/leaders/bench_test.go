package leaders

import (
	"testing"

	"github.com/quorlog/quorlog/replication"
)

const benchPartitions = 1000

// BenchmarkLeader looks up one of a thousand partitions, as Metadata does for each.
func BenchmarkLeader(b *testing.B) {
	table := New(Options{Node: 1})
	defer table.Close()
	for i := range int32(benchPartitions) {
		table.Set(led(i, 1, 5, 1, 2, 3))
	}
	i := int32(0)
	for b.Loop() {
		if _, _, ok := table.Leader(part(i)); !ok {
			b.Fatal(i)
		}
		i = (i + 1) % benchPartitions
	}
}

// BenchmarkFullPush takes a peer's push of a thousand partitions.
func BenchmarkFullPush(b *testing.B) {
	table := New(Options{Node: 2})
	defer table.Close()
	f := frame{session: 1, first: true, last: true}
	for i := range int32(benchPartitions) {
		f.entries = append(f.entries, wireEntry{led(i, 1, 5, 1, 2, 3), replication.NodeID(1)})
	}
	body := f.encode()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		f.seq++
		if answer, err := table.HandlePush(b.Context(), 1, f.encode()); err != nil || answer[0] != answerOK {
			b.Fatal(answer, err)
		}
	}
}
