package txn

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"
)

func TestRecordsSurvive(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_123)
	for _, m := range []*Metadata{
		nil,
		{ProducerID: 7, Epoch: 3, LastEpoch: NoEpoch, PreviousID: None, NextID: None, Timeout: time.Minute, State: Empty, Updated: at},
		{
			ProducerID: 1 << 40, Epoch: maxEpoch, LastEpoch: NoEpoch, PreviousID: 6, NextID: 8, Timeout: time.Hour, State: PrepareCommit,
			Partitions: Partitions{{"a", 0}, {"a", 9}, {"b", 2}}, Started: at, Updated: at.Add(time.Second), Version: V2,
		},
	} {
		in := Record{ID: "some id", Metadata: m}
		key, value := in.Encode()
		out, err := Decode(key, value)
		if err != nil || !reflect.DeepEqual(in, out) {
			t.Errorf("%+v became %+v, %v", in.Metadata, out.Metadata, err)
		}
	}
}

// What Kafka 3.4 wrote: version 0, not flexible.
func TestOldRecordsAreRead(t *testing.T) {
	value := bytes.Join([][]byte{
		{0, 0},                   // version
		{0, 0, 0, 0, 0, 0, 0, 7}, // producer id
		{0, 3},                   // epoch
		{0, 0, 0xea, 0x60},       // timeout
		{1},                      // Ongoing
		{0, 0, 0, 1, 0, 1, 't', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 5},
		{0, 0, 0, 0, 0, 0, 0, 9}, // updated
		{0, 0, 0, 0, 0, 0, 0, 8}, // started
	}, nil)
	r, err := Decode([]byte{0, 0, 0, 1, 'x'}, value)
	want := Metadata{
		ProducerID: 7, Epoch: 3, LastEpoch: NoEpoch, PreviousID: None, NextID: None, Timeout: time.Minute, State: Ongoing,
		Partitions: Partitions{{"t", 0}, {"t", 5}}, Started: time.UnixMilli(8), Updated: time.UnixMilli(9),
	}
	if err != nil || r.ID != "x" || !reflect.DeepEqual(*r.Metadata, want) {
		t.Errorf("%+v, %v", r.Metadata, err)
	}
}

func TestDamagedRecordsAreRefused(t *testing.T) {
	m := Metadata{ProducerID: 7, Epoch: 3, PreviousID: None, NextID: None, State: Ongoing, Partitions: Partitions{{"topic", 1}}, Started: time.UnixMilli(1), Updated: time.UnixMilli(2)}
	key, value := Record{ID: "id", Metadata: &m}.Encode()
	for n := range len(value) {
		if _, err := Decode(key, value[:n:n]); n > 0 && err == nil {
			t.Errorf("%d of %d bytes were taken", n, len(value))
		}
	}
	for name, tc := range map[string]struct {
		key, value []byte
		want       error
	}{
		"no key":              {nil, value, errBadRecord},
		"another kind":        {[]byte{0, 1, 0, 0}, value, ErrUnknownKind},
		"half a key":          {key[:4], value, errBadRecord},
		"another version":     {key, append([]byte{0, 2}, value[2:]...), errBadRecord},
		"a flood of topics":   {key, append(bytes.Clone(value[:17]), 0xff, 0xff, 0xff, 0xff, 0x07), errBadRecord},
		"an impossible state": {key, append(append(bytes.Clone(value[:16]), 6), value[17:]...), errBadRecord},
	} {
		if _, err := Decode(tc.key, tc.value); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	m := Metadata{ProducerID: 7, Epoch: 3, PreviousID: None, NextID: 9, State: PrepareAbort, Partitions: Partitions{{"topic", 1}}, Updated: time.UnixMilli(2), Version: V2}
	key, value := Record{ID: "id", Metadata: &m}.Encode()
	f.Add(key, value)
	f.Fuzz(func(t *testing.T, key, value []byte) {
		r, err := Decode(key, value)
		if err != nil || r.Metadata == nil {
			return
		}
		k, v := r.Encode()
		again, err := Decode(k, v)
		if err != nil || !reflect.DeepEqual(r, again) {
			t.Errorf("%+v became %+v, %v", r.Metadata, again.Metadata, err)
		}
	})
}
