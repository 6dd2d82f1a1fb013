package log

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/pierrec/lz4/v4"

	"github.com/quorlog/quorlog/internal/allocs"
	"github.com/quorlog/quorlog/log/batch"
)

// packed is a batch of records that shrink to next to nothing.
func packed(t *testing.T, term Epoch, codec batch.Codec, records ...batch.Record) []byte {
	t.Helper()
	f, err := batch.Build(batch.BuildOptions{Codec: codec}, records...)
	if err != nil {
		t.Fatal(err)
	}
	batch.Stamp(f, batch.Unstamped, term)
	return f
}

// Batches that unpack to much are cleaned like others: what is in them counts and is counted out, and costs no more memory than theirs
// as they are stored.
func TestCleanBatchesThatUnpackToMuch(t *testing.T) {
	const much, most = 32 << 20, 64 << 20
	zeros := make([]byte, much)
	headers := make([]batch.RecordHeader, 2<<20)
	crowd := make([]batch.Record, 1<<19)
	for i := range crowd {
		crowd[i] = batch.Record{Timestamp: 1000, Key: []byte("crowd"), Value: []byte{}}
	}
	for _, codec := range []batch.Codec{batch.Gzip, batch.Snappy, batch.LZ4, batch.Zstd} {
		t.Run(codec.String(), func(t *testing.T) {
			f := openFixture(t)
			f.append(1, kv(t, frameOpt{term: 1}, "a=0", "b=0", "c=0"),
				packed(t, 1, codec,
					batch.Record{Timestamp: 1000, Key: []byte("a"), Value: zeros}, batch.Record{Timestamp: 1000, Key: []byte("b"), Headers: headers},
					batch.Record{Timestamp: 1000, Key: zeros, Value: []byte("old")}, batch.Record{Timestamp: 1000, Key: []byte("d"), Value: []byte("1")}),
				packed(t, 1, codec, crowd...), packed(t, 1, codec, batch.Record{Timestamp: 1000, Key: zeros, Value: []byte("new")}),
				kv(t, frameOpt{term: 1}, "c=1", "a=1"))
			f.seal()
			size := f.log.Stats().AppendedBytes
			var r CleanResult
			if got := allocs.Bytes(func() { r = f.clean(CleanOptions{MapBytes: 1 << 20}) }); got > most+4*uint64(size) {
				t.Errorf("%d KiB of a log made it allocate %d KiB", size>>10, got>>10)
			}
			equal(t, r.Kept, 6, "records kept")
			type kept struct {
				offset     Offset
				key, value int
			}
			var left []kept
			frames, err := batch.Split(f.read(0, 1<<30))
			mustBe(t, err, nil)
			for _, frame := range frames {
				mustBe(t, batch.Iterate(frame, func(r batch.Record) error {
					left = append(left, kept{r.Offset, len(r.Key), len(r.Value)})
					return nil
				}), nil)
			}
			last := Offset(7 + len(crowd))
			equal(t, left, []kept{{4, 1, 0}, {6, 1, 1}, {last - 1, 5, 0}, {last, much, 3}, {last + 1, 1, 1}, {last + 2, 1, 1}}, "what is left")
		})
	}
}

// Nor does it cost more to look for a time in such a batch, of which the first record is below the log start.
func TestTimestampsInBatchesThatUnpackToMuch(t *testing.T) {
	const most = 32 << 20
	f := openFixture(t)
	f.append(1, packed(t, 1, batch.Zstd,
		batch.Record{Timestamp: 9000, Value: make([]byte, 32<<20)}, batch.Record{Timestamp: 1000, Headers: make([]batch.RecordHeader, 2<<20)},
		batch.Record{Timestamp: 5000, Value: []byte("v")}), logStart(1))
	f.apply()
	var found, largest, end Offset
	used := allocs.Bytes(func() {
		var err error
		end = f.log.Offsets().LogEnd
		found, _, _, err = f.log.OffsetForTimestamp(2000, end)
		mustBe(t, err, nil)
		largest, _, _, err = f.log.MaxTimestamp(end)
		mustBe(t, err, nil)
	})
	equal(t, []Offset{found, largest, f.log.Offsets().LogStart}, []Offset{2, 2, 1}, "offsets")
	if used > most {
		t.Errorf("it allocated %d KiB", used>>10)
	}
}

// Records that are much alike are a large batch made small by a client whose LZ4 looks further back than ours. What is superseded in it goes
// all the same: a key that was deleted must not be there again once its tombstone has gone.
func TestCleanABatchThatGrows(t *testing.T) {
	f := openFixture(t)
	alike := make([]byte, 40<<10)
	random := rand.NewChaCha8([32]byte{})
	_, _ = random.Read(alike)
	records := make([]batch.Record, 100)
	for i := range records {
		records[i] = batch.Record{Timestamp: 1000, Key: strconv.AppendInt(nil, int64(i), 10), Value: alike}
	}
	plain := packed(t, 1, batch.None, records...)
	frame := bytes.NewBuffer(plain[:batch.HeaderSize:batch.HeaderSize])
	w := lz4.NewWriter(frame) // blocks of 4 MiB, as franz-go's
	_, err := w.Write(plain[batch.HeaderSize:])
	mustBe(t, err, nil)
	mustBe(t, w.Close(), nil)
	const posAttributes = 21
	binary.BigEndian.PutUint16(frame.Bytes()[posAttributes:], uint16(batch.LZ4))
	batch.Seal(frame.Bytes())
	if small := len(alike) * 3; frame.Len() > small {
		t.Fatalf("the batch has %d bytes", frame.Len())
	}
	f.append(1, frame.Bytes(), kv(t, frameOpt{term: 1}, "7"))
	o := CleanOptions{DeleteRetention: time.Hour}
	for range 3 {
		f.seal()
		f.append(1, kv(t, frameOpt{term: 1}, "x=1"))
		f.clean(o)
		f.time.add(2 * time.Hour)
	}
	frames, err := batch.Split(f.read(0, 1<<30))
	mustBe(t, err, nil)
	var seen []Offset
	for _, frame := range frames {
		mustBe(t, batch.Iterate(frame, func(r batch.Record) error {
			if string(r.Key) == "7" {
				seen = append(seen, r.Offset)
			}
			return nil
		}), nil)
	}
	equal(t, len(seen), 0, "records of a key that was deleted")
}

// A segment has room for so much: a batch that would not fit stays as it is.
func TestCleanWithoutRoom(t *testing.T) {
	text := make([]byte, 64<<10)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range text {
		text[i] = 'a' + byte(random.ExpFloat64()*4)%26
	}
	frame, err := batch.Build(batch.BuildOptions{Codec: batch.Gzip, Level: 9}, batch.Record{Timestamp: 1000, Key: []byte("a"), Value: text})
	mustBe(t, err, nil)
	var kept picks
	kept.add(true)
	w := &rewriting{room: 1 << 20}
	grown, err := w.rebuild(frame, &kept, 5000)
	mustBe(t, err, nil)
	if len(grown) <= len(frame) || w.room != 1<<20-int64(len(grown)-len(frame)) {
		t.Fatalf("%d bytes became %d, and room is left for %d", len(frame), len(grown), w.room)
	}
	w.room = int64(len(grown)-len(frame)) - 1
	same, err := w.rebuild(frame, &kept, 5000)
	mustBe(t, err, nil)
	if &same[0] != &frame[0] {
		t.Errorf("%d bytes became %d where there is no room for them", len(frame), len(same))
	}
}
