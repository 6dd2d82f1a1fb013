package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorlog/quorlog/replication"
)

// Names of the mechanisms.
const (
	Plain       = "PLAIN"
	ScramSHA256 = "SCRAM-SHA-256"
	ScramSHA512 = "SCRAM-SHA-512"
)

// Mechanisms lists what this package knows, the strongest first.
func Mechanisms() []string { return []string{ScramSHA512, ScramSHA256, Plain} }

// Errors of an authentication. All of them end the connection but ErrSASLState after a login that does not expire.
var (
	// ErrUnsupportedMechanism: the listener does not offer it to this client (UNSUPPORTED_SASL_MECHANISM).
	ErrUnsupportedMechanism = errors.New("the SASL mechanism is not offered here")
	// ErrSASLState: the request does not belong here in the exchange (ILLEGAL_SASL_STATE).
	ErrSASLState = errors.New("not expected at this point of an authentication")
	// ErrAuthentication: the client could not prove who it is (SASL_AUTHENTICATION_FAILED). Its text is for the client, and the
	// same whatever was wrong: nobody learns which users there are.
	ErrAuthentication = errors.New("authentication failed: the user or the password is wrong")
)

// SASLOptions say how a listener's clients authenticate.
type SASLOptions struct {
	Users *Directory
	// Mechanisms are offered, in this order; at least one.
	Mechanisms []string
	// TLS tells that the listener's connections are encrypted. Elsewhere PLAIN is not offered: it shows the password to whoever
	// listens.
	TLS bool
	// PlainOnLoopback offers PLAIN also without TLS, to clients on this machine. Who comes through a proxy on this machine looks like
	// one.
	PlainOnLoopback bool
	// Lifetime is how long a login is good for until the client must log in again over the same connection (KIP-368,
	// connections.max.reauth.ms); 0 is for ever. Clients older than that request are closed then.
	Lifetime time.Duration
	// FailureDelay is how long a refusal takes, so that guessing is slow (connection.failed.authentication.delay.ms).
	FailureDelay time.Duration
	Now          func() time.Time
	Logger       *slog.Logger
}

// SASL authenticates the clients of a listener. Its methods may be called from any goroutine.
type SASL struct {
	o        SASLOptions
	refusals refusalLog
	counts   struct{ succeeded, failed, renewed, notRenewed atomic.Int64 }
}

// NewSASL returns an authenticator. The error names a mechanism that does not exist.
func NewSASL(o SASLOptions) (*SASL, error) {
	if len(o.Mechanisms) == 0 {
		return nil, errors.New("no SASL mechanism is given")
	}
	for i, m := range o.Mechanisms {
		if !slices.Contains(Mechanisms(), m) {
			return nil, fmt.Errorf("unknown SASL mechanism %q: expected one of %s", m, strings.Join(Mechanisms(), ", "))
		}
		if slices.Contains(o.Mechanisms[:i], m) {
			return nil, fmt.Errorf("SASL mechanism %s is named twice", m)
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &SASL{o: o, refusals: refusalLog{logger: o.Logger}}, nil
}

// FailureDelay is how long a refusal takes.
func (s *SASL) FailureDelay() time.Duration { return s.o.FailureDelay }

// offered lists the mechanisms for a client.
func (s *SASL) offered(remote netip.Addr) []string {
	if s.o.TLS || s.o.PlainOnLoopback && remote.IsLoopback() {
		return s.o.Mechanisms
	}
	return slices.DeleteFunc(slices.Clone(s.o.Mechanisms), func(m string) bool { return m == Plain })
}

// Counts are numbers of logins since the listener was opened: successful-authentication-total and so on of Kafka's metrics.
type Counts struct {
	// Succeeded and Failed count first logins, and requests by Basic.
	Succeeded, Failed int64
	// Renewed and NotRenewed count those that log in again on their connection.
	Renewed, NotRenewed int64
}

// Counts returns the counts.
func (s *SASL) Counts() Counts {
	c := &s.counts
	return Counts{c.succeeded.Load(), c.failed.Load(), c.renewed.Load(), c.notRenewed.Load()}
}

// attempt is a try to log in.
type attempt struct {
	remote          netip.Addr
	mechanism, user string
	again           bool // on a connection that is logged in
}

// settle counts an attempt that has come to its end, and tells what the client hears of it.
func (s *SASL) settle(ctx context.Context, a attempt, err error) error {
	switch {
	case err == nil:
		pick(a.again, &s.counts.renewed, &s.counts.succeeded).Add(1)
		return nil
	case ctx.Err() != nil:
		return ctx.Err() // the client is gone, or the node stops
	case errors.Is(err, replication.ErrOverloaded):
		return err
	}
	s.refused(a, err)
	return ErrAuthentication
}

// refused counts and logs an attempt.
func (s *SASL) refused(a attempt, reason error) {
	pick(a.again, &s.counts.notRenewed, &s.counts.failed).Add(1)
	s.refusals.warn(s.o.Now(), a, reason)
}

func pick[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}

// A flood of wrong passwords must not become a flood of lines.
const (
	refusalLines  = 10
	refusalPeriod = 10 * time.Second
)

// refusalLog tells of refused logins, a bounded number of lines in each period.
type refusalLog struct {
	logger *slog.Logger
	mu     struct {
		sync.Mutex
		since          time.Time
		lines, dropped int
	}
}

func (r *refusalLog) warn(now time.Time, a attempt, reason error) {
	dropped, ok := r.allow(now)
	if !ok {
		return
	}
	args := []any{"remote", a.remote, "mechanism", shown(a.mechanism), "user", shown(a.user), "reason", reason}
	if dropped > 0 {
		args = append(args, "suppressed", dropped)
	}
	r.logger.Warn("authentication refused", args...)
}

func (r *refusalLog) allow(now time.Time) (dropped int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.mu.since) >= refusalPeriod {
		r.mu.since, r.mu.lines = now, 0
	}
	if r.mu.lines >= refusalLines {
		r.mu.dropped++
		return 0, false
	}
	r.mu.lines++
	dropped, r.mu.dropped = r.mu.dropped, 0
	return dropped, true
}

// shown is the beginning of a name that a stranger has sent. Handlers of slog escape control characters.
func shown(name string) string {
	const most = 64
	if len(name) > most {
		name = name[:most]
	}
	return strings.ToValidUTF8(name, "?")
}
