// Package api turns Kafka requests into calls of the broker's services and their results into Kafka responses.
//
// There is one [Row] per API key in [Table] and one file per key, NN_name.go, whose head says which versions are served
// and how they behave; a listing of the directory is the support matrix. Wire structs stop here, and errors.go is the only
// place where a Go error becomes a Kafka error code. The package starts no goroutine: what a request does runs on the
// goroutines of its connection (see package conn).
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/broker/auth"
	"github.com/quorlog/quorlog/broker/conn"
	"github.com/quorlog/quorlog/broker/fetch"
	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/broker/produce"
	"github.com/quorlog/quorlog/broker/share"
	"github.com/quorlog/quorlog/broker/txn"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Services are what the handlers call. All are needed.
type Services struct {
	Produce *produce.Service
	Fetch   *fetch.Service
	Admin   *admin.Service
	Group   *group.Service
	Txn     *txn.Service
	Share   *share.Service
	// ShareOffsets tells and changes where share groups are.
	ShareOffsets ShareOffsets
	// Authorizer decides who may do what; nil: everybody may do everything.
	Authorizer broker.Authorizer
	// Rules are what the Authorizer decides by, if they can be changed; else nil.
	Rules Rules
	// Users are those that log in by a password.
	Users *auth.Users
	// SASL authenticates the clients of listeners, by their names. Where there is none for a listener, nobody logs in there.
	SASL   map[string]*auth.SASL
	Logger *slog.Logger
}

// API answers decoded requests. It implements conn.Dispatcher.
type API struct {
	Services
	rows  []Row
	byKey []*Row // indexed by key; nil where a key is not served
}

// New returns an API over the services.
func New(s Services) *API {
	if s.Logger == nil {
		s.Logger = slog.Default()
	}
	if s.Authorizer == nil {
		s.Authorizer = broker.Everyone{}
	}
	a := &API{Services: s, rows: Table()}
	for i := range a.rows {
		key := int(a.rows[i].Key)
		for len(a.byKey) <= key {
			a.byKey = append(a.byKey, nil)
		}
		a.byKey[key] = &a.rows[i]
	}
	return a
}

func (a *API) row(key kafkaproto.Key) *Row {
	if key < 0 || int(key) >= len(a.byKey) {
		return nil
	}
	return a.byKey[key]
}

// Overlaps tells whether a request of this key may be dispatched while earlier ones of its connection are unanswered.
func (a *API) Overlaps(key kafkaproto.Key) bool {
	row := a.row(key)
	return row != nil && row.Overlaps
}

// Reasons to close a connection. conn logs them; no client sees them.
var (
	// ErrUnsupportedKey: the client asks for a key that ApiVersions did not offer.
	ErrUnsupportedKey = errors.New("the API key is not served")
	// ErrUnsupportedVersion: the client asks for a version that ApiVersions did not offer.
	ErrUnsupportedVersion = errors.New("the version of the API key is not served")
)

// Dispatch decodes a request and begins it.
func (a *API) Dispatch(ctx context.Context, s *conn.Session, h kafkaproto.RequestHeader, body []byte) conn.Call {
	row := a.row(h.Key)
	if row == nil {
		return closing{fmt.Errorf("%w: %d", ErrUnsupportedKey, h.Key)}
	}
	if h.Version < row.Min || h.Version > row.Max {
		if h.Key == kafkaproto.KeyApiVersions {
			return a.apiVersionsMismatch()
		}
		return closing{fmt.Errorf("%w: %s version %d, served are %d to %d", ErrUnsupportedVersion, h.Key, h.Version, row.Min, row.Max)}
	}
	decoded, err := kafkaproto.Decode(h, body)
	if err != nil {
		return closing{fmt.Errorf("decoding %s version %d: %w", h.Key, h.Version, err)}
	}
	if !row.guarded() {
		return closing{fmt.Errorf("%w: %s", errUnguarded, h.Key)}
	}
	r := Request{Header: h, Session: s, FrameSize: len(body)}
	if row.Start != nil {
		call, err := row.Start(ctx, a, &r, decoded)
		if err != nil {
			return closing{err}
		}
		return call
	}
	return &handled{api: a, row: row, request: r, body: decoded}
}

// closing is a call that ends its connection.
type closing struct{ reason error }

// Finish returns the reason.
func (c closing) Finish(context.Context) (conn.Reply, error) { return conn.Reply{}, c.reason }

// handled is a call that runs its handler when its turn has come.
type handled struct {
	api     *API
	row     *Row
	request Request
	body    kmsg.Request
}

// Finish runs the handler.
func (c *handled) Finish(ctx context.Context) (conn.Reply, error) {
	if takeOnce := onces[c.row.Key]; takeOnce != nil {
		if err := takeOnce(c.body); err != nil {
			return conn.Reply{}, err
		}
	}
	resp, err := guards[c.row.Key](c.api.gate(&c.request), c.body, func() (kmsg.Response, error) {
		return c.row.Handler(ctx, c.api, &c.request, c.body)
	})
	if err != nil {
		return conn.Reply{}, err
	}
	out := reply(resp, c.request.Header.Version)
	out.Close = c.request.Close
	return out, nil
}

// usualAnswer is room for most answers, in bytes: growing to it step by step would cost more than it.
const usualAnswer = 256

// reply encodes a response at a version.
func reply(resp kmsg.Response, version int16) conn.Reply {
	resp.SetVersion(version)
	return conn.Reply{Body: kafkaproto.Bytes(resp.AppendTo(make([]byte, 0, usualAnswer)))}
}
