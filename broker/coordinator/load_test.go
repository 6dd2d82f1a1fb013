package coordinator

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/quorlog/quorlog/log/batch"
)

// keys is a loader that lists the keys of what it is given.
type keys []string

func (k *keys) Record(_ *batch.Header, key, _ []byte) error {
	*k = append(*k, string(key))
	return nil
}
func (*keys) Marker(Marker)                          {}
func (*keys) Machines(time.Time) map[string]struct{} { return nil }

// Nothing that a client has written to an internal topic keeps a coordinator from loading: neither what unpacks to much nor records of
// many headers.
func TestLoadBatchesThatUnpackToMuch(t *testing.T) {
	const most = 24 << 20
	var frames []byte
	for _, r := range []batch.Record{
		{Key: []byte("before")}, {Key: []byte("value"), Value: make([]byte, loadExpanded)},
		{Key: []byte("headers"), Headers: make([]batch.RecordHeader, 1<<20)}, {Key: []byte("behind")},
	} {
		frame, err := batch.Build(batch.BuildOptions{Codec: batch.Zstd}, r)
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, frame...)
	}
	var got keys
	var was, is runtime.MemStats
	runtime.ReadMemStats(&was)
	n, err := Replay[struct{}](&got, frames)
	runtime.ReadMemStats(&is)
	if err != nil || n != 3 || !slices.Equal(got, keys{"before", "headers", "behind"}) {
		t.Errorf("%d records, %q, %v", n, got, err)
	}
	if used := is.TotalAlloc - was.TotalAlloc; used > most {
		t.Errorf("%d KiB of batches made it allocate %d KiB", len(frames)>>10, used>>10)
	}
}
