package kafkaproto

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// memoryRegion is a region in memory.
type memoryRegion struct {
	data     []byte
	fail     error
	released int
}

func (r *memoryRegion) Len() int                        { return len(r.data) }
func (r *memoryRegion) FileRanges() ([]FileRange, bool) { return nil, false }
func (r *memoryRegion) Release()                        { r.released++ }
func (r *memoryRegion) AppendTo(dst []byte) ([]byte, error) {
	return append(dst, r.data...), r.fail
}

// randomFetch returns a random response without unknown tags and with no null records.
func randomFetch(rng *rand.Rand) *kmsg.FetchResponse {
	resp := kmsg.NewPtrFetchResponse()
	f := filler{rng: rng, nulls: true}
	f.fill(reflect.ValueOf(resp).Elem(), 0)
	for t := range resp.Topics {
		for p := range resp.Topics[t].Partitions {
			part := &resp.Topics[t].Partitions[p]
			if part.RecordBatches == nil {
				part.RecordBatches = []byte{}
			}
			if rng.IntN(2) == 0 { // defaults, which are not written
				part.DivergingEpoch.Default()
				part.CurrentLeader.Default()
			}
			if rng.IntN(2) == 0 {
				part.SnapshotID.Default()
			}
		}
	}
	return resp
}

func TestEncodeFetchAgreesWithKmsg(t *testing.T) {
	for version := int16(4); version <= 18; version++ {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(version), 3))
			for range 300 {
				resp := randomFetch(rng)
				resp.Version = version
				want := resp.AppendTo(nil)
				compareFetch(t, EncodeFetch(version, resp, nil), want)
				compareFetch(t, EncodeFetch(version, resp, func(int, int) Region { return nil }), want)
				var regions []*memoryRegion
				body := EncodeFetch(version, resp, func(t, p int) Region {
					if (t+p)%2 == 1 {
						return nil
					}
					regions = append(regions, &memoryRegion{data: resp.Topics[t].Partitions[p].RecordBatches})
					return regions[len(regions)-1]
				})
				compareFetch(t, body, want)
				body.Release()
				for _, r := range regions {
					if r.released != 1 {
						t.Fatalf("a region of %d bytes released %d times", len(r.data), r.released)
					}
				}
			}
		})
	}
}

func compareFetch(t *testing.T, got Encoded, want []byte) {
	t.Helper()
	b, err := got.AppendTo(nil)
	if err != nil || !bytes.Equal(b, want) || got.Size != len(want) {
		t.Fatalf("size %d, error %v:\n%x, want\n%x", got.Size, err, b, want)
	}
}

// Records are never null on the wire: consumers take that for a broken answer.
func TestEncodeFetchWithoutRecords(t *testing.T) {
	resp := kmsg.NewPtrFetchResponse()
	resp.Topics = []kmsg.FetchResponseTopic{{Topic: "t", Partitions: make([]kmsg.FetchResponseTopicPartition, 1)}}
	for version := int16(4); version <= 18; version++ {
		body, err := EncodeFetch(version, resp, nil).AppendTo(nil)
		if err != nil {
			t.Fatal(err)
		}
		got := kmsg.NewPtrFetchResponse()
		got.Version = version
		if err := got.ReadFrom(body); err != nil {
			t.Fatal(err)
		}
		if records := got.Topics[0].Partitions[0].RecordBatches; records == nil || len(records) > 0 {
			t.Errorf("version %d: %v", version, records)
		}
	}
}

func TestEncodedFailure(t *testing.T) {
	broken := errors.New("the file is gone")
	body := Encoded{Parts: []Part{{Region: &memoryRegion{fail: broken}}}}
	if _, err := body.AppendTo(nil); !errors.Is(err, broken) {
		t.Error(err)
	}
	if b, err := Bytes([]byte("x")).AppendTo([]byte("y")); err != nil || string(b) != "yx" {
		t.Error(string(b), err)
	}
}

func BenchmarkEncodeFetch(b *testing.B) {
	resp := kmsg.NewPtrFetchResponse()
	resp.Topics = []kmsg.FetchResponseTopic{{Topic: "topic", Partitions: make([]kmsg.FetchResponseTopicPartition, 8)}}
	for i := range resp.Topics[0].Partitions {
		resp.Topics[0].Partitions[i].Default()
	}
	region := &memoryRegion{data: make([]byte, 1<<20)}
	b.ReportAllocs()
	for b.Loop() {
		EncodeFetch(16, resp, func(int, int) Region { return region })
	}
}
