package conn

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// admission counts connections and paces their accepting.
type admission struct {
	most, mostPerIP int
	perSecond       float64

	mu struct {
		sync.Mutex
		total  int
		perIP  map[netip.Addr]int
		tokens float64 // connections that may be accepted without delay
		filled time.Time
	}
}

func (a *admission) init(l Limits) {
	a.most, a.mostPerIP, a.perSecond = l.MaxConnections, l.MaxConnectionsPerIP, float64(l.AcceptRate)
	a.mu.perIP = make(map[netip.Addr]int)
	a.mu.tokens = a.perSecond
}

// enter counts a connection in, or returns the reason to refuse it.
func (a *admission) enter(ip netip.Addr) (reason string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.mu.total >= a.most:
		return "too many connections"
	case a.mu.perIP[ip] >= a.mostPerIP:
		return "too many connections from this address"
	}
	a.mu.total++
	a.mu.perIP[ip]++
	return ""
}

// leave counts a connection out.
func (a *admission) leave(ip netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.total--
	if a.mu.perIP[ip]--; a.mu.perIP[ip] <= 0 {
		delete(a.mu.perIP, ip)
	}
}

// pace waits until another connection may be accepted; false if stop was closed meanwhile.
func (a *admission) pace(stop <-chan struct{}) bool {
	if d := a.reserve(time.Now()); d > 0 {
		return sleep(d, stop)
	}
	return true
}

// reserve takes a token and returns how long it will be until it is really there.
func (a *admission) reserve(now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.mu.filled.IsZero() {
		gained := now.Sub(a.mu.filled).Seconds() * a.perSecond
		a.mu.tokens = min(a.mu.tokens+gained, a.perSecond)
	}
	a.mu.filled = now
	a.mu.tokens--
	if a.mu.tokens >= 0 {
		return 0
	}
	return time.Duration(-a.mu.tokens / a.perSecond * float64(time.Second))
}

// addrPort returns an address of a socket; the zero value for anything but IP.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
