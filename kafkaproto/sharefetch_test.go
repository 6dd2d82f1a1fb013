package kafkaproto

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestEncodeShareFetchAgreesWithKmsg(t *testing.T) {
	rng := rand.New(rand.NewPCG(78, 1))
	for range 300 {
		resp := kmsg.NewPtrShareFetchResponse()
		f := filler{rng: rng, nulls: true}
		f.fill(reflect.ValueOf(resp).Elem(), 0)
		for t := range resp.Topics {
			for p := range resp.Topics[t].Partitions {
				if part := &resp.Topics[t].Partitions[p]; part.Records == nil {
					part.Records = []byte{}
				}
			}
		}
		for resp.Version = 1; resp.Version <= 2; resp.Version++ {
			want := resp.AppendTo(nil)
			compareFetch(t, EncodeShareFetch(resp, func(int, int) Region { return nil }), want)
			var regions []*memoryRegion
			body := EncodeShareFetch(resp, func(t, p int) Region {
				if (t+p)%2 == 1 {
					return nil
				}
				regions = append(regions, &memoryRegion{data: resp.Topics[t].Partitions[p].Records})
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
	}
}

// Records are never null on the wire: they are not nullable in Kafka's schema, and its consumer stops at one.
func TestEncodeShareFetchWithoutRecords(t *testing.T) {
	resp := kmsg.NewPtrShareFetchResponse()
	resp.Topics = []kmsg.ShareFetchResponseTopic{{Partitions: make([]kmsg.ShareFetchResponseTopicPartition, 1)}}
	body, err := EncodeShareFetch(resp, func(int, int) Region { return nil }).AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	got := kmsg.NewPtrShareFetchResponse()
	got.Version = 2
	if err := got.ReadFrom(body); err != nil {
		t.Fatal(err)
	}
	if records := got.Topics[0].Partitions[0].Records; records == nil || len(records) > 0 {
		t.Errorf("%v", records)
	}
}
