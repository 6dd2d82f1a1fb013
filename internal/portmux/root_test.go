package portmux

import (
	"crypto/tls"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// knock has an address make connections that go at once, and counts those that were let in.
func knock(r *root, ip netip.Addr, times int) (in int) {
	for range times {
		a := &arriving{root: r, ip: ip}
		if r.track(a) == "" {
			in++
		}
		r.forget(a)
	}
	return in
}

// An address that makes one handshake after the other gets its share; others do not notice.
func TestPaceOfAnAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
		r := newRoot(nil, Options{TLS: &tls.Config{}, MaxSniffing: 100, MaxSniffingPerIP: 20, RatePerIP: 10}, &limitedLog{})
		if in := knock(r, one, 100); in != 20 {
			t.Errorf("%d at once", in)
		}
		if in := knock(r, other, 5); in != 5 {
			t.Errorf("%d of another", in)
		}
		for range 3 {
			<-time.After(time.Second)
			if in := knock(r, one, 100); in != 10 {
				t.Errorf("%d in a second", in)
			}
		}
		<-time.After(time.Hour)
		if in := knock(r, one, 100); in != 20 {
			t.Errorf("%d after an hour", in)
		}
	})
}

// What is remembered of addresses is bounded.
func TestPacesAreBounded(t *testing.T) {
	r := newRoot(nil, Options{TLS: &tls.Config{}, MaxSniffing: 100, MaxSniffingPerIP: 20, RatePerIP: 1}, &limitedLog{})
	for i := range 3 * maxPaces {
		knock(r, netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 2)
		if n := len(r.mu.paces); n > maxPaces {
			t.Fatalf("%d addresses", n)
		}
	}
	if n := len(r.mu.waiting) + len(r.mu.perIP); n > 0 {
		t.Errorf("%d left", n)
	}
}
