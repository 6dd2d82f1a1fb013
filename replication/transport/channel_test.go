package transport

import (
	"bufio"
	"net"
	"strconv"
	"sync"
	"testing"
)

// Pairs of replicas that meet on a new connection at the same moment are named in the order of their numbers: the other side ends
// a connection where they are not.
func TestChannelsAreNamedInOrder(t *testing.T) {
	for range 300 {
		us, them := net.Pipe()
		c := newOutConn(newStream(&Peers{}, us, bufio.NewReader(us), laneControl), PeerInfo{Node: 2})
		begin := make(chan struct{})
		var naming sync.WaitGroup
		for i := range 16 {
			r := &route{group: strconv.Itoa(i), from: "1.0", to: "2.0"}
			naming.Go(func() {
				<-begin
				if _, err := r.channel(c); err != nil {
					t.Error(err)
				}
			})
		}
		close(begin)
		naming.Wait()
		for i, f := range c.mu.queue {
			p := parser{b: f.head[frameHead+1:]}
			if n := p.num(); n != uint64(i) {
				t.Fatalf("channel %d is named after %d others", n, i)
			}
		}
		c.fail(ErrClosed)
		them.Close()
	}
}
