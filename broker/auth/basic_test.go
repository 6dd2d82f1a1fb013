package auth

import (
	"bytes"
	"encoding/base64"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// basic is an Authorization.
func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func TestBasic(t *testing.T) {
	colons := NewUser{"carol", "pass:word:ä"}
	users := newStore(t, alice, colons)
	s := newSASL(t, users, nil)
	for name, c := range map[string]struct {
		authorization, principal string
		want                     error
	}{
		"right":                {basic("alice", alice.Password), "User:alice", nil},
		"again":                {basic("alice", alice.Password), "User:alice", nil},
		"colons":               {basic("carol", colons.Password), "User:carol", nil},
		"another case":         {strings.Replace(basic("alice", alice.Password), "Basic", "bASIC", 1), "User:alice", nil},
		"wrong password":       {basic("alice", "x"), "", ErrAuthentication},
		"nobody":               {basic("nobody", "x"), "", ErrAuthentication},
		"another's password":   {basic("alice", colons.Password), "", ErrAuthentication},
		"no password":          {basic("alice", ""), "", ErrAuthentication},
		"no user":              {basic("", alice.Password), "", ErrAuthentication},
		"no colon":             {"Basic " + base64.StdEncoding.EncodeToString([]byte("alice")), "", ErrAuthentication},
		"no base64":            {"Basic alice:" + alice.Password, "", ErrAuthentication},
		"no UTF-8":             {basic("alice", "\xff"), "", ErrAuthentication},
		"long":                 {basic("alice", strings.Repeat("x", MaxToken)), "", ErrAuthentication},
		"nothing":              {"", "", ErrNoCredentials},
		"only the scheme":      {"Basic", "", ErrAuthentication},
		"another scheme":       {"Bearer abc", "", ErrNoCredentials},
		"a scheme like it":     {"Basically " + basic("alice", alice.Password), "", ErrNoCredentials},
		"the user's principal": {basic("User:alice", alice.Password), "", ErrAuthentication},
	} {
		principal, err := s.Basic(t.Context(), away, c.authorization)
		if string(principal) != c.principal || !errors.Is(err, c.want) {
			t.Errorf("%s: %q, %v", name, principal, err)
		}
	}
	removeUser(t, users, "alice")
	if _, err := s.Basic(t.Context(), away, basic("alice", alice.Password)); !errors.Is(err, ErrAuthentication) {
		t.Errorf("a user that is removed: %v", err)
	}
}

// TestBasicIsOfferedWherePlainIs: a password is not looked at where it should not have been sent, and nobody is asked to send one.
func TestBasicIsOfferedWherePlainIs(t *testing.T) {
	users := newStore(t, alice)
	for name, c := range map[string]struct {
		change func(*SASLOptions)
		ok     bool
	}{
		"TLS":             {func(o *SASLOptions) {}, true},
		"no TLS":          {func(o *SASLOptions) { o.TLS = false }, false},
		"loopback":        {func(o *SASLOptions) { o.TLS, o.PlainOnLoopback = false, true }, true},
		"SCRAM over TLS":  {func(o *SASLOptions) { o.Mechanisms = []string{ScramSHA512} }, false},
		"SCRAM, loopback": {func(o *SASLOptions) { o.Mechanisms, o.TLS, o.PlainOnLoopback = []string{ScramSHA512}, false, true }, false},
	} {
		s := newSASL(t, users, c.change)
		if _, err := s.Basic(t.Context(), localhost, basic("alice", alice.Password)); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrNoPasswords) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := s.Basic(t.Context(), localhost, ""); !c.ok && !errors.Is(err, ErrNoPasswords) || c.ok && !errors.Is(err, ErrNoCredentials) {
			t.Errorf("%s, without any: %v", name, err)
		}
		if _, err := s.Basic(t.Context(), away, basic("alice", alice.Password)); name == "loopback" && !errors.Is(err, ErrNoPasswords) {
			t.Errorf("%s, from another machine: %v", name, err)
		}
	}
}

// TestBasicRefusals take the same time, whatever is wrong; the log tells who it was, and no password.
func TestBasicRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := newSASL(t, newStore(t, alice), func(o *SASLOptions) {
			o.FailureDelay, o.Logger = 100*time.Millisecond, slog.New(slog.NewTextHandler(&log, nil))
		})
		for _, authorization := range []string{basic("alice", "hunter2"), basic("nobody", "hunter2"), "Basic hunter2", basic("hunter2", "")} {
			began := time.Now()
			if _, err := s.Basic(t.Context(), away, authorization); !errors.Is(err, ErrAuthentication) || time.Since(began) != 100*time.Millisecond {
				t.Errorf("%v after %v", err, time.Since(began))
			}
		}
		if c := s.Counts(); c != (Counts{Failed: 4}) || strings.Contains(log.String(), "hunter2") || !strings.Contains(log.String(), "user=alice") {
			t.Errorf("%+v\n%s", c, &log)
		}
	})
}

// BenchmarkBasic is what a request costs whose password was right before, and one whose user has changed since.
func BenchmarkBasic(b *testing.B) {
	s := newSASL(b, newStore(b, alice), nil)
	for name, forget := range map[string]bool{"remembered": false, "computed": true} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if forget {
					clear(s.o.Users.known.mu.users)
				}
				if _, err := s.Basic(b.Context(), away, basic("alice", alice.Password)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
