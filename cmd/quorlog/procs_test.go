package main

import (
	"net/netip"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestComplete: a cluster that was not complete when it was first asked is seen to be, as soon as it is.
func TestComplete(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(3))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.ControlKey(int16(kmsg.Metadata), func(q kmsg.Request) (kmsg.Response, error, bool) { // once
		resp := q.ResponseKind().(*kmsg.MetadataResponse)
		founder := netip.MustParseAddrPort(c.ListenAddrs()[0])
		resp.Brokers = []kmsg.MetadataResponseBroker{{Host: founder.Addr().String(), Port: int32(founder.Port())}}
		return resp, nil, true
	})
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if complete(t.Context(), cl, 3) {
		t.Error("one node is not three")
	}
	if !complete(t.Context(), cl, 3) {
		t.Error("three nodes are not seen")
	}
}
