package agent

import (
	"container/list"
	"net"
	"net/http"
	"net/netip"
	"sync"
)

// webConns bounds the connections of HTTP clients, and those of one address. When there are as many as may be, the one goes that has waited longest for its
// next request: connections that say nothing, or little at a time, must not keep a probe out, for which the node would be killed.
// Only while requests of all of them are being answered, the new one is closed. An address that has all that it may have loses one of
// its own.
type webConns struct {
	most      int
	mostPerIP int // 0: as many as there may be
	mu        struct {
		sync.Mutex
		open    int
		perIP   map[netip.Addr]int
		waiting list.List // of *webConn, none of whose requests is being answered; who has waited longest is first
	}
}

// webConn is a connection of an HTTP client.
type webConn struct {
	net.Conn
	port  *port // nil for the listener of probes
	conns *webConns
	ip    netip.Addr

	// Guarded by conns.mu.
	place *list.Element // in waiting
	gone  bool
}

// listener is a listener whose connections count.
func (w *webConns) listener(l net.Listener, p *port) net.Listener { return &webListener{l, w, p} }

type webListener struct {
	net.Listener
	conns *webConns
	port  *port
}

// Accept waits for a connection.
func (l *webListener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &webConn{Conn: nc, conns: l.conns, port: l.port, ip: hostOf(nc.RemoteAddr().String())}
		if over := l.conns.enter(c); over != nil {
			_ = over.Conn.Close() // there is nobody to tell
			if over == c {
				continue
			}
		}
		return c, nil
	}
}

// enter counts a connection in, and returns the one that is one too many, if there is one.
func (w *webConns) enter(c *webConn) (over *webConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	alone := w.mostPerIP > 0 && w.mu.perIP[c.ip] >= w.mostPerIP // makes room for itself
	if alone || w.mu.open >= w.most {
		if over = w.longestLocked(c.ip, alone); over == nil {
			return c
		}
		over.leaveLocked()
	}
	if w.mu.perIP == nil {
		w.mu.perIP = map[netip.Addr]int{}
	}
	w.mu.open++
	w.mu.perIP[c.ip]++
	c.place = w.mu.waiting.PushBack(c)
	return over
}

// longestLocked is the connection that has waited longest, of all or of an address alone; nil if none waits.
func (w *webConns) longestLocked(ip netip.Addr, alone bool) *webConn {
	for at := w.mu.waiting.Front(); at != nil; at = at.Next() {
		if c, _ := at.Value.(*webConn); !alone || c.ip == ip {
			return c
		}
	}
	return nil
}

// leaveLocked counts the connection out, once.
func (c *webConn) leaveLocked() {
	if c.gone {
		return
	}
	c.gone = true
	c.conns.mu.open--
	if c.conns.mu.perIP[c.ip]--; c.conns.mu.perIP[c.ip] == 0 {
		delete(c.conns.mu.perIP, c.ip)
	}
	c.waitLocked(false)
}

// waitLocked says whether the connection waits for a request.
func (c *webConn) waitLocked(yes bool) {
	switch waiting := &c.conns.mu.waiting; {
	case yes && c.place == nil && !c.gone:
		c.place = waiting.PushBack(c)
	case !yes && c.place != nil:
		waiting.Remove(c.place)
		c.place = nil
	}
}

// answering says that a request of the connection is being answered, or no longer is.
func (c *webConn) answering(yes bool) {
	c.conns.mu.Lock()
	defer c.conns.mu.Unlock()
	c.waitLocked(!yes)
}

// Close closes the connection.
func (c *webConn) Close() error {
	c.conns.mu.Lock()
	c.leaveLocked()
	c.conns.mu.Unlock()
	return c.Conn.Close()
}

// few lets so many requests through at a time, to all handlers together. The others are told to come again.
func few(most int) func(next http.Handler) http.Handler {
	room := make(chan struct{}, most)
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case room <- struct{}{}:
				defer func() { <-room }()
				next.ServeHTTP(w, r)
			default:
				w.Header().Set("Retry-After", "1")
				http.Error(w, "too many requests are being answered", http.StatusServiceUnavailable)
			}
		})
	}
}
