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
		for resp.Version = 1; resp.Version <= 2; resp.Version++ {
			want := resp.AppendTo(nil)
			compareFetch(t, EncodeShareFetch(resp, func(int, int) Region { return nil }), want)
			var regions []*memoryRegion
			body := EncodeShareFetch(resp, func(t, p int) Region {
				records := resp.Topics[t].Partitions[p].Records
				if records == nil {
					return nil
				}
				regions = append(regions, &memoryRegion{data: records})
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
