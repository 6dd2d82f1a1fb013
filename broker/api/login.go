package api

import (
	"github.com/quorlog/quorlog/broker/auth"
	"github.com/quorlog/quorlog/broker/conn"
)

// Phase tells how far a connection of a listener with SASL has come; conn asks it before each frame. Listeners without SASL don't
// use it: where nothing is there to log in by, nobody ever has.
func (a *API) Phase(s *conn.Session) conn.Phase {
	login := a.login(s)
	if login == nil {
		return conn.Gated
	}
	switch login.State() {
	case auth.LoggedIn:
		return conn.Open
	case auth.LoginExpired:
		return conn.Expired
	}
	return conn.Gated
}

// sasl is what authenticates the clients of a connection's listener; nil if nothing does.
func (a *API) sasl(s *conn.Session) *auth.SASL { return a.SASL[s.Listener()] }

// login is the authentication of a connection, nil where there is none. The session keeps it.
func (a *API) login(s *conn.Session) *auth.Login {
	sasl := a.sasl(s)
	if sasl == nil {
		return nil
	}
	login, ok := s.StateOr(func() any { return sasl.NewLogin(s.Remote().Addr()) }).(*auth.Login)
	if !ok {
		return nil // never: nothing else is kept in a session
	}
	return login
}
