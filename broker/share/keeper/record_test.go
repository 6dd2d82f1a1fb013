package keeper

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/broker/share"
)

func sample() Record {
	return Record{Key: testKey, State: &Stored{
		Version: 3, StateEpoch: 4, LeaderEpoch: 5, Start: 6, Created: time.UnixMilli(7), Written: time.UnixMilli(8),
		Runs: []share.Run{{First: 9, Last: 10, State: share.Archived, Count: 2}, {First: 11, Last: 11, Count: 1}},
	}}
}

// TestGolden holds the bytes against the schema, field by field.
func TestGolden(t *testing.T) {
	r := sample()
	key, value := r.encode()
	wantKey := "0000" + "000167" + "07000000000000000000000000000000" + "00000001"
	wantValue := "0000" + "00000003" + "00000004" + "00000005" + "0000000000000006" + "0000000000000007" + "0000000000000008" + "03" +
		"0000000000000009" + "000000000000000a" + "04" + "0002" + "00" +
		"000000000000000b" + "000000000000000b" + "00" + "0001" + "00" + "01" + "00" + "04" + "00000002"
	if got := hex.EncodeToString(key); got != wantKey {
		t.Errorf("key\n%s, expected\n%s", got, wantKey)
	}
	if got := hex.EncodeToString(value); got != wantValue {
		t.Errorf("value\n%s, expected\n%s", got, wantValue)
	}
	if len(key)+len(value) > r.size() {
		t.Errorf("%d bytes, announced were %d", len(key)+len(value), r.size())
	}
}

func TestRoundTrip(t *testing.T) {
	tombstone := Record{Key: testKey}
	unset := Record{Key: testKey, State: &Stored{LeaderEpoch: -1, Start: Unset, Created: time.UnixMilli(0), Written: time.UnixMilli(0)}}
	for _, r := range []Record{sample(), tombstone, unset} {
		got, err := decode(r.encode())
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("got %+v, %v", got, err)
		}
	}
}

// TestForeignTags: fields that a later Kafka adds with tags are passed over.
func TestForeignTags(t *testing.T) {
	r := sample()
	key, value := r.encode()
	const ours = 1 + 1 + 1 + 4 // one tag, its number, its size, the count
	tagged := append(bytes.Clone(value[:len(value)-ours]), 2, 0, 4, 1, 2, 3, 4, 9, 1, 5)
	if got, err := decode(key, tagged); err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestDamaged(t *testing.T) {
	r := sample()
	key, value := r.encode()
	for n := range value {
		if got, err := decode(key, value[:n:n]); err == nil {
			t.Errorf("%d bytes are %+v", n, got.State)
		}
	}
	for n := range key {
		if _, err := decode(key[:n], value); err == nil {
			t.Errorf("a key of %d bytes", n)
		}
	}
	if _, err := decode([]byte{0, 1, 0}, value); !errors.Is(err, coordinator.ErrUnknownKind) {
		t.Errorf("a ShareUpdate: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	r := sample()
	key, value := r.encode()
	f.Add(key, value)
	f.Fuzz(func(t *testing.T, key, value []byte) {
		r, err := decode(key, value)
		if err != nil || r.State == nil {
			return
		}
		again, err := decode(r.encode())
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%+v became %+v, %v", r, again, err)
		}
		// What was decoded can be gone on with.
		share.NewPartition(r.State.durable(), share.DefaultSettings())
	})
}
