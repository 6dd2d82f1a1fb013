package api

import (
	"context"
	"time"

	"github.com/quorlog/quorlog/broker/auth"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// SaslAuthenticate, key 36, versions 0 to 2 (KIP-152).
//
//	v1         how long the login is good for (KIP-368)
//	v2         flexible
//
// Whatever is wrong, the answer is SASL_AUTHENTICATION_FAILED with the same text, after the same time, and then the end of the
// connection. Without a handshake before it, it is ILLEGAL_SASL_STATE. Where too many passwords wait to be checked it is
// REQUEST_TIMED_OUT and the end of the connection: clients come again.
var saslAuthenticateRow = Row{Key: kafkaproto.KeySASLAuthenticate, Min: 0, Max: 2, AdvertisedMin: 0, Handler: handler(handleSASLAuthenticate)}

func handleSASLAuthenticate(ctx context.Context, a *API, r *Request, q *kmsg.SASLAuthenticateRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrSASLAuthenticateResponse()
	login := a.login(r.Session)
	if login == nil {
		resp.ErrorCode, resp.ErrorMessage = code(auth.ErrSASLState), message(auth.ErrSASLState)
		return resp, nil
	}
	refusal := time.NewTimer(a.sasl(r.Session).FailureDelay()) // from here, so that what was computed meanwhile does not show
	defer refusal.Stop()
	answer, err := login.Step(ctx, q.SASLAuthBytes)
	if err != nil {
		select {
		case <-refusal.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		r.Close = login.State() != auth.LoggedIn
		return resp, nil
	}
	resp.SASLAuthBytes = answer.Message
	if answer.Done {
		r.Session.SetPrincipal(answer.Principal)
		resp.SessionLifetimeMillis = answer.Lifetime.Milliseconds()
	}
	return resp, nil
}
