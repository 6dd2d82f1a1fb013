package conn

import (
	"net/netip"
	"sync"

	"github.com/quorlog/quorlog/broker"
)

// Session is what the handlers may know of a connection, and keep for it. It lives as long as the connection. All methods
// may be called at any time from any goroutine.
type Session struct {
	id       uint64
	listener string
	local    netip.AddrPort
	remote   netip.AddrPort

	mu struct {
		sync.Mutex
		principal broker.Principal
		software  string
		state     any
	}
}

// SessionInfo is what is known of a connection when it begins.
type SessionInfo struct {
	ID       uint64 // unique in the process
	Listener string // name of the listener it came in on
	Local    netip.AddrPort
	Remote   netip.AddrPort
}

// NewSession returns the session of an anonymous connection. The server makes its own; this one is for callers without a
// socket, such as tests of handlers.
func NewSession(info SessionInfo) *Session {
	s := &Session{id: info.ID, listener: info.Listener, local: info.Local, remote: info.Remote}
	s.mu.principal = broker.Anonymous
	return s
}

// ID returns the connection's number, unique in the process.
func (s *Session) ID() uint64 { return s.id }

// Listener returns the name of the listener that the connection came in on.
func (s *Session) Listener() string { return s.listener }

// Local returns the address of our end.
func (s *Session) Local() netip.AddrPort { return s.local }

// Remote returns the address of the peer.
func (s *Session) Remote() netip.AddrPort { return s.remote }

// Caller tells who sends a request with the given client id over this connection.
func (s *Session) Caller(clientID string) broker.Caller {
	s.mu.Lock()
	defer s.mu.Unlock()
	return broker.Caller{
		Principal: s.mu.principal,
		ClientID:  clientID,
		Software:  s.mu.software,
		Host:      s.remote.Addr(),
		Listener:  s.listener,
	}
}

// SetPrincipal records who the peer has proven to be.
func (s *Session) SetPrincipal(principal broker.Principal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.principal = principal
}

// SetSoftware records what the client says of itself in ApiVersions (KIP-511).
func (s *Session) SetSoftware(name, version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.software = name
	if version != "" {
		s.mu.software += "/" + version
	}
}

// State returns what SetState kept, nil at first.
func (s *Session) State() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.state
}

// StateOr returns what is kept, and what make returns, which is kept from then on, if nothing is.
func (s *Session) StateOr(make func() any) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.state == nil {
		s.mu.state = make()
	}
	return s.mu.state
}

// SetState keeps a value for the handlers, such as a half-finished authentication.
func (s *Session) SetState(v any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.state = v
}
