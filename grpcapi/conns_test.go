package grpcapi

import (
	"net"
	"net/netip"
	"testing"
)

// A connection without calls goes when there is no room, who has been idle longest first; one with calls stays.
func TestConnsMakeRoom(t *testing.T) {
	s := &conns{most: 3}
	var open []*counted
	for i := range 3 {
		nc, other := net.Pipe()
		defer other.Close()
		c := newCounted(nc)
		c.of = s
		c.idle.Store(int64(10 - i))
		if over, ok := s.enter(c); over != nil || !ok {
			t.Fatal(over, ok)
		}
		open = append(open, c)
	}
	open[2].begins() // idle for longest, but for this
	next := newCounted(open[0].Conn)
	if over, ok := s.enter(next); over != open[1] || !ok {
		t.Errorf("%v goes", over)
	}
	open[0].begins()
	next.begins()
	if over, ok := s.enter(newCounted(open[0].Conn)); over != nil || ok {
		t.Error("a connection with calls goes, or there is one too many")
	}
	open[2].ended()
	if err := open[2].Close(); err != nil {
		t.Error(err)
	}
	if open[2].ctx.Err() == nil || len(s.mu.open) != 2 {
		t.Errorf("%d are open", len(s.mu.open))
	}
}

// An address that has all its connections makes room for its own next one, and is refused while all of its own have calls, whatever
// others do.
func TestConnsOfOneAddress(t *testing.T) {
	s := &conns{most: 3, mostPerIP: 2}
	greedy, other := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	idle := int64(0)
	enter := func(ip netip.Addr) (c, over *counted, ok bool) {
		nc, end := net.Pipe()
		t.Cleanup(func() { _ = end.Close() })
		c = newCounted(nc)
		c.of, c.ip = s, ip
		idle++
		c.idle.Store(idle)
		over, ok = s.enter(c)
		return c, over, ok
	}
	silent, _, _ := enter(other) // for longest
	first, _, _ := enter(greedy)
	second, over, ok := enter(greedy)
	if over != nil || !ok || first.from != second.from || first.from == silent.from {
		t.Fatal("two of an address are too many")
	}
	third, over, ok := enter(greedy)
	if over != first || !ok {
		t.Error("another goes than the one of the same address that has been silent for longest")
	}
	second.begins()
	third.begins()
	if calls := second.from.calls.Load(); calls != 2 {
		t.Errorf("%d calls of the address", calls)
	}
	if _, over, ok := enter(greedy); over != nil || ok {
		t.Error("there is one too many, or another pays for it")
	}
	if _, over, ok := enter(other); over != silent || !ok {
		t.Error("the address keeps others out")
	}
	for _, c := range []*counted{first, second, second} { // as gRPC does, twice too often
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, over, ok := enter(greedy); over != nil || !ok {
		t.Error("a place that was given back is not there")
	}
	for c := range s.mu.open {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(s.mu.open) != 0 || len(s.mu.from) != 0 {
		t.Errorf("%d are open, of %d addresses", len(s.mu.open), len(s.mu.from))
	}
}
