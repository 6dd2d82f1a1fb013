package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/quorlog/quorlog/broker"
)

// BasicChallenge is the value of WWW-Authenticate in an answer that asks for a user and a password (RFC 7617).
const BasicChallenge = `Basic realm="quorlog", charset="UTF-8"`

// Errors of Basic beside ErrAuthentication.
var (
	// ErrNoCredentials: the request names no user. It is to be asked for one by BasicChallenge.
	ErrNoCredentials = errors.New("this listener wants a user and a password")
	// ErrNoPasswords: the listener takes none from this client, which must not be asked to send one.
	ErrNoPasswords = errors.New("this listener takes no passwords from here: that needs TLS, and PLAIN among sasl.enabled.mechanisms")
)

// Basic tells which user a request proves to come from by its Authorization: a header of HTTP, or metadata of a call by gRPC
// (RFC 7617); empty if there is none. It is PLAIN for protocols without SASL: offered where PLAIN is, to whom PLAIN is, under the
// same bounds, and a refusal takes as long. To ask again with each request is cheap while the user is not changed.
//
// Errors are ErrNoCredentials and ErrAuthentication, upon which a client may try again (UNAUTHENTICATED), ErrNoPasswords, upon
// which it may not (PERMISSION_DENIED), replication.ErrOverloaded, and that of ctx.
func (s *SASL) Basic(ctx context.Context, remote netip.Addr, authorization string) (broker.Principal, error) {
	if !slices.Contains(s.offered(remote), Plain) {
		return "", ErrNoPasswords
	}
	scheme, encoded, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", ErrNoCredentials
	}
	refusal := time.NewTimer(s.o.FailureDelay)
	defer refusal.Stop()
	user, password, err := parseBasic(encoded)
	if err == nil {
		err = s.recognise(ctx, remote, user, password)
	}
	if err = s.settle(ctx, attempt{remote: remote, mechanism: "BASIC", user: user}, err); err == nil {
		return UserPrincipal(user), nil
	}
	select {
	case <-refusal.C:
		return "", err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// parseBasic reads base64 of "user:password".
func parseBasic(encoded string) (user, password string, err error) {
	if len(encoded) > MaxToken {
		return "", "", errTooLong
	}
	text, err := base64.StdEncoding.DecodeString(strings.TrimLeft(encoded, " "))
	user, password, ok := strings.Cut(string(text), ":")
	if err != nil || !ok || user == "" || password == "" || !utf8.Valid(text) {
		return "", "", errMalformed
	}
	return user, password, nil
}
