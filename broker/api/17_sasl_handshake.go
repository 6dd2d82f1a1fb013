package api

import (
	"context"
	"errors"

	"github.com/quorlog/quorlog/broker/auth"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// SaslHandshake, key 17, version 1 (KIP-43, KIP-152).
//
// Version 0 is not served: behind it the messages of the mechanism come bare, without header, length checks by key, or error
// codes. No client needs it that knows version 2 of a record batch.
//
// A mechanism that is not offered is UNSUPPORTED_SASL_MECHANISM with those that are, and the end of the connection. Where nobody
// logs in, and after a login that does not expire, the answer is ILLEGAL_SASL_STATE and nothing else happens.
var saslHandshakeRow = Row{Key: kafkaproto.KeySASLHandshake, Min: 1, Max: 1, AdvertisedMin: 0, Handler: handler(handleSASLHandshake)}

func handleSASLHandshake(_ context.Context, a *API, r *Request, q *kmsg.SASLHandshakeRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrSASLHandshakeResponse()
	login := a.login(r.Session)
	if login == nil {
		resp.ErrorCode = code(auth.ErrSASLState)
		return resp, nil
	}
	offered, err := login.Handshake(q.Mechanism)
	resp.ErrorCode, resp.SupportedMechanisms = code(err), offered
	// What was refused to somebody who is not logged in can't be made good on this connection.
	r.Close = err != nil && (login.State() == auth.LoggedOut || errors.Is(err, auth.ErrUnsupportedMechanism))
	return resp, nil
}
