package grpcapi

import (
	"net"
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
