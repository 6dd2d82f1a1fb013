package auth

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"unicode/utf8"
)

// Reasons of refusals, for the log.
var (
	errTooLong     = errors.New("the message is too long")
	errMalformed   = errors.New("the message is malformed")
	errNotAccepted = errors.New("the user or the password is wrong")
	errAnotherUser = errors.New("a user may only act as itself")
)

// plainExchange is the one message of PLAIN (RFC 4616): [authzid] NUL authcid NUL password.
type plainExchange struct {
	sasl   *SASL
	remote netip.Addr
}

func (x *plainExchange) step(ctx context.Context, message []byte) (answer []byte, user string, done bool, err error) {
	if len(message) > MaxToken {
		return nil, "", false, errTooLong
	}
	parts := bytes.Split(message, []byte{0})
	if len(parts) != 3 || len(parts[1]) == 0 || len(parts[2]) == 0 || !utf8.Valid(message) {
		return nil, "", false, errMalformed
	}
	as, user, password := string(parts[0]), string(parts[1]), string(parts[2])
	if as != "" && as != user {
		return nil, user, false, errAnotherUser
	}
	err = x.sasl.recognise(ctx, x.remote, user, password)
	return nil, user, err == nil, err
}

// recognise is nil if the password is the user's.
func (s *SASL) recognise(ctx context.Context, remote netip.Addr, user, password string) error {
	ok, err := s.o.Users.check(ctx, remote, user, password)
	if err == nil && !ok {
		return errNotAccepted
	}
	return err
}
