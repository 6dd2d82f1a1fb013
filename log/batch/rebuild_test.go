package batch

import (
	"fmt"
	"reflect"
	"testing"
)

func recordsOf(t *testing.T, frame []byte) (all []Record) {
	t.Helper()
	if err := CheckCRC(frame); err != nil {
		t.Fatal(err)
	}
	if err := Iterate(frame, func(r Record) error { all = append(all, r); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestRebuildKeepsTheBatchInItsPlace(t *testing.T) {
	for codec := None; codec <= Zstd; codec++ {
		for _, appendTime := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v, append time %t", codec, appendTime), func(t *testing.T) {
				b := NewBuilder(BuildOptions{Codec: codec, Producer: &Producer{ID: 7, Epoch: 2, Sequence: 40}, Transactional: true})
				for i := range 5 {
					b.Add(Record{Timestamp: int64(1000 - 10*i), Key: []byte{byte(i)}, Value: []byte("value"), Headers: []RecordHeader{{Key: "h", Value: []byte{1}}}})
				}
				frame, err := b.Build()
				if err != nil {
					t.Fatal(err)
				}
				if appendTime {
					SetLogAppendTime(frame, 5000)
				}
				Stamp(frame, 100, 3)
				was, _ := ParseHeader(frame)
				all := recordsOf(t, frame)
				for _, horizon := range []int64{-1, 0, 1 << 41} {
					for _, keep := range [][]Record{all, all[1:], {all[1], all[3]}, nil} {
						offsets := make(map[Offset]bool)
						for _, r := range keep {
							offsets[r.Offset] = true
						}
						got, err := Rebuild(frame, func(place int) bool { return offsets[all[place].Offset] }, horizon, 0)
						if err != nil {
							t.Fatal(err)
						}
						h, err := ParseHeader(got)
						if err != nil || h.Size() != len(got) || h.NumRecords != int32(len(keep)) {
							t.Fatalf("header %+v, %v", h, err)
						}
						if left := recordsOf(t, got); !reflect.DeepEqual(left, keep) {
							t.Errorf("records %v, want %v", left, keep)
						}
						if ms, ok := h.DeleteHorizon(); ok != (horizon >= 0) || (ok && ms != horizon) {
							t.Errorf("horizon %d, %t", ms, ok)
						}
						if h.BaseOffset != 100 || h.LastOffset() != 104 || h.LeaderEpoch != 3 || h.LastSequence() != was.LastSequence() || h.ProducerID != 7 || !h.IsTransactional() {
							t.Errorf("header %+v, was %+v", h, was)
						}
						want := was.MaxTimestamp
						if len(keep) > 0 && !appendTime {
							want = keep[0].Timestamp
						}
						if h.MaxTimestamp != want {
							t.Errorf("largest timestamp %d, want %d", h.MaxTimestamp, want)
						}
					}
				}
			})
		}
	}
	if _, err := Rebuild([]byte("no batch"), nil, -1, 0); err == nil {
		t.Error("garbage was rebuilt")
	}
}
