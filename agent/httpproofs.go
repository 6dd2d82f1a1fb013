package agent

import (
	"fmt"
	"net/http"
	"net/netip"
	"sync"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/replication"
)

// proofs bounds the requests by HTTP that are proving who sends them, apart from those that are answered: the refusal of a wrong
// password takes its time, and waits for its turn when there are many, so whoever guesses would else hold the places of all others.
type proofs struct {
	most int
	mu   struct {
		sync.Mutex
		taken int
		from  map[netip.Prefix]int // by customer
	}
}

// shareOfOne says which part of the room that is left one customer may have. So several together leave room, too.
const shareOfOne = 4

// errManyProofs refuses a request before it is known who sends it.
var errManyProofs = fmt.Errorf("%w: too many requests are proving who sends them", replication.ErrOverloaded)

// enter takes a place for an address, until leave is called.
func (p *proofs) enter(ip netip.Addr) (leave func(), err error) {
	where := customer(ip)
	p.mu.Lock()
	defer p.mu.Unlock()
	left := p.most - p.mu.taken
	if left <= 0 || p.mu.from[where] >= max(1, left/shareOfOne) {
		return nil, errManyProofs
	}
	if p.mu.from == nil {
		p.mu.from = map[netip.Prefix]int{}
	}
	p.mu.taken++
	p.mu.from[where]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.mu.taken--
		if p.mu.from[where]--; p.mu.from[where] == 0 {
			delete(p.mu.from, where)
		}
	}, nil
}

// customer is an address, of IPv6 the network: whoever has one of these addresses has 2^64 of them.
func customer(ip netip.Addr) netip.Prefix {
	const networkBits = 64
	bits := ip.BitLen()
	if ip.Is6() {
		bits = networkBits
	}
	where, _ := ip.Prefix(bits) // all that have no address are one
	return where
}

// prove is caller for a request that begins: where that takes a password, there must be room for it.
func (w *web) prove(r *http.Request) (broker.Caller, error) {
	if c, ok := r.Context().Value(webConnKey{}).(*webConn); ok && c.port != nil && c.port.SASL {
		leave, err := w.proofs.enter(c.ip)
		if err != nil {
			return broker.Caller{}, err
		}
		defer leave()
	}
	return w.caller(r)
}
