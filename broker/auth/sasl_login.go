package auth

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/quorlog/quorlog/broker"
)

// MaxToken is the largest message of a client in an exchange, in bytes. Honest ones of PLAIN and SCRAM have a few hundred.
const MaxToken = 8 << 10

// exchange is one mechanism's conversation with one client.
type exchange interface {
	// step takes the client's next message. user is who the client says it is, as soon as that is known, done that it has proven
	// it. Every error is the end of the exchange; its text is for the log.
	step(ctx context.Context, message []byte) (answer []byte, user string, done bool, err error)
}

// LoginState is how far a connection has come.
type LoginState uint8

// The states. A connection begins in LoggedOut and may come to LoggedIn; from there its time may run out, and it may log in
// again, also before that.
const (
	LoggedOut LoginState = iota
	LoggedIn
	// LoginExpired wants another login before anything else is served.
	LoginExpired
)

// Login is the authentication of one connection. Its methods may be called from any goroutine.
//
//	                    Handshake            Step...            the lifetime ends
//	fresh, LoggedOut ------------> exchange ---------> LoggedIn -----------------> LoginExpired
//	                                 ^  |                  |                            |
//	                                 |  +-> failed, for good                            |
//	                                 +-- Handshake, where logins expire ----------------+
type Login struct {
	sasl   *SASL
	remote netip.Addr

	mu struct {
		sync.Mutex
		failed    bool
		exchange  exchange // under way
		mechanism string   // of the exchange, or of the last one
		principal broker.Principal
		first     string // the mechanism of the first login
		expires   time.Time
		began     time.Time // the last Handshake of a login again
	}
}

// leastBetween is the least time between two logins again of a connection: Kafka's, for the same reason of cost.
const leastBetween = time.Second

// NewLogin begins the authentication of a connection from an address.
func (s *SASL) NewLogin(remote netip.Addr) *Login { return &Login{sasl: s, remote: remote} }

// State tells how far the connection has come. While a login again is under way, it is LoginExpired: no other request belongs
// in between.
func (l *Login) State() LoginState {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.mu.failed, l.mu.principal == "":
		return LoggedOut
	case l.mu.exchange != nil, !l.mu.expires.IsZero() && !l.sasl.o.Now().Before(l.mu.expires):
		return LoginExpired
	}
	return LoggedIn
}

// Handshake begins an exchange by a mechanism. It returns the mechanisms that are offered, also with ErrUnsupportedMechanism.
// ErrSASLState leaves a connection that is logged in as it is, and ends any other.
func (l *Login) Handshake(mechanism string) (offered []string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	offered = l.sasl.offered(l.remote)
	now := l.sasl.o.Now()
	if l.mu.failed || l.mu.exchange != nil {
		l.mu.failed = true
		return nil, ErrSASLState
	}
	if again := l.mu.principal != ""; again {
		if l.mu.expires.IsZero() || now.Sub(l.mu.began) < leastBetween {
			return nil, ErrSASLState
		}
		l.mu.began = now
	}
	if !slices.Contains(offered, mechanism) {
		l.mu.failed = true
		l.sasl.refused(attempt{remote: l.remote, mechanism: mechanism, again: l.mu.principal != ""}, ErrUnsupportedMechanism)
		return offered, ErrUnsupportedMechanism
	}
	l.mu.exchange, l.mu.mechanism = l.begin(mechanism), mechanism
	return offered, nil
}

// begin starts an exchange by a mechanism that is offered.
func (l *Login) begin(mechanism string) exchange {
	if mechanism == Plain {
		return &plainExchange{sasl: l.sasl, remote: l.remote}
	}
	return &scramExchange{users: l.sasl.o.Users, mechanism: scramNumber(mechanism)}
}

// Answer is what the client is told.
type Answer struct {
	Message []byte
	// Done tells that the client is logged in, as Principal, for as long as Lifetime; 0 is for ever.
	Done      bool
	Principal broker.Principal
	Lifetime  time.Duration
}

// Step takes the client's next message. Errors are ErrSASLState, ErrAuthentication, replication.ErrOverloaded, and that of ctx. But
// for ErrSASLState on a connection that is logged in they end it.
func (l *Login) Step(ctx context.Context, message []byte) (Answer, error) {
	x := l.underWay()
	if x == nil {
		return Answer{}, ErrSASLState
	}
	// Not under the lock, which the reader of the connection takes too. The exchange stays ours meanwhile: a connection's
	// requests come one after the other.
	answer, user, done, err := x.step(ctx, message)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && !done {
		return Answer{Message: answer}, nil
	}
	a := attempt{remote: l.remote, mechanism: l.mu.mechanism, user: user, again: l.mu.principal != ""}
	if err == nil {
		err = l.acceptLocked(user)
	}
	if err := l.sasl.settle(ctx, a, err); err != nil {
		l.mu.failed, l.mu.exchange = true, nil
		return Answer{}, err
	}
	return Answer{Message: answer, Done: true, Principal: l.mu.principal, Lifetime: l.sasl.o.Lifetime}, nil
}

// underWay is the exchange that is under way. Without one, a connection that is not logged in has failed.
func (l *Login) underWay() exchange {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.exchange == nil && l.mu.principal == "" {
		l.mu.failed = true
	}
	return l.mu.exchange
}

// acceptLocked logs a user in. Who logs in again must be the same, by the same mechanism: what is under way on the connection
// belongs to that user.
func (l *Login) acceptLocked(user string) error {
	principal := UserPrincipal(user)
	switch {
	case l.mu.principal == "":
		l.mu.principal, l.mu.first = principal, l.mu.mechanism
	case l.mu.principal != principal:
		return fmt.Errorf("a connection of %s logs in as %s", l.mu.principal, principal)
	case l.mu.first != l.mu.mechanism:
		return fmt.Errorf("a connection that logged in by %s logs in again by %s", l.mu.first, l.mu.mechanism)
	}
	l.mu.exchange = nil
	if l.sasl.o.Lifetime > 0 {
		l.mu.expires = l.sasl.o.Now().Add(l.sasl.o.Lifetime)
	}
	return nil
}

// UserPrincipal is the principal of a user.
func UserPrincipal(name string) broker.Principal { return broker.Principal("User:" + name) }
