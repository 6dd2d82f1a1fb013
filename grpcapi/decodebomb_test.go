package grpcapi

import (
	"errors"
	"testing"

	"github.com/quorlog/quorlog/broker"
	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
	"github.com/quorlog/quorlog/internal/allocs"
	"github.com/quorlog/quorlog/log/batch"
)

// A record of more headers than can be produced any more is refused before it is made, with what is needed to read on behind it. What
// stands before it is not lost on it.
func TestManyHeaders(t *testing.T) {
	const most = 16 << 20
	for _, codec := range []batch.Codec{batch.None, batch.Zstd} {
		raw, err := batch.Build(batch.BuildOptions{Codec: codec}, batch.Record{Value: []byte("a")}, batch.Record{Headers: make([]batch.RecordHeader, 2<<20)})
		if err != nil {
			t.Fatal(err)
		}
		batch.Stamp(raw, 0, 0)
		var got *quorlogv1.ConsumeResponse
		run := func() {
			d := decoder{
				limit: defaultAnswer, expand: func() (func(), error) { return func() {}, nil },
				send: func(out *quorlogv1.ConsumeResponse) error {
					got = out
					return errEnough
				},
			}
			d.begin()
			err = d.decode(raw)
		}
		if used := allocs.Bytes(run); used > most {
			t.Errorf("%v: %d KiB of a batch made it allocate %d KiB", codec, len(raw)>>10, used>>10)
		}
		if !errors.Is(err, errEnough) || len(got.GetRecords()) != 1 || got.GetNextOffset() != 1 {
			t.Errorf("%v: %v, %d records, next %d", codec, err, len(got.GetRecords()), got.GetNextOffset())
		}
		d := decoder{at: position{next: 1}, limit: defaultAnswer, send: func(*quorlogv1.ConsumeResponse) error { return errEnough }, expand: func() (func(), error) { return func() {}, nil }}
		d.begin()
		if err := d.decode(raw); !errors.Is(err, broker.ErrMessageTooLarge) {
			t.Errorf("%v: from there: %v", codec, err)
		}
	}
}
