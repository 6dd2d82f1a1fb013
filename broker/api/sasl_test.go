package api

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/xdg-go/scram"

	"github.com/quorlog/quorlog/broker/auth"
	"github.com/quorlog/quorlog/broker/conn"
	"github.com/quorlog/quorlog/internal/turns"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication/controller"
)

// userStore keeps users in an image.
type userStore struct {
	image atomic.Pointer[controller.Image]
}

func (s *userStore) Image() *controller.Image { return s.image.Load() }

func (s *userStore) Alter(_ context.Context, changes []controller.CredentialChange) error {
	next := &controller.Image{Users: map[string]*controller.User{}, UsersSecret: []byte{1}}
	for name, u := range s.Image().Users {
		next.Users[name] = u
	}
	for _, c := range changes {
		if c.Credential == nil {
			delete(next.Users, c.User)
			continue
		}
		u := &controller.User{Name: c.User, Credentials: map[controller.Mechanism]controller.Credential{c.Mechanism: *c.Credential}}
		if old := next.Users[c.User]; old != nil {
			for m, k := range old.Credentials {
				if m != c.Mechanism {
					u.Credentials[m] = k
				}
			}
		}
		next.Users[c.User] = u
	}
	s.image.Store(next)
	return nil
}

func (s *userStore) Found(ctx context.Context, changes []controller.CredentialChange) (bool, error) {
	return true, s.Alter(ctx, changes)
}

// saslAPI is an API whose listener SASL wants a login of the user alice with the password secret, and whose listener PLAINTEXT
// wants none.
func saslAPI(t *testing.T, change func(*auth.SASLOptions)) *API {
	t.Helper()
	store := &userStore{}
	store.image.Store(&controller.Image{})
	users := auth.NewUsers(store)
	if _, err := users.Found(t.Context(), []auth.NewUser{{Name: "alice", Password: "secret"}}); err != nil {
		t.Fatal(err)
	}
	o := auth.SASLOptions{
		Users: auth.NewDirectory(store, turns.New()), Mechanisms: auth.Mechanisms(), TLS: true, FailureDelay: 100 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	if change != nil {
		change(&o)
	}
	sasl, err := auth.NewSASL(o)
	if err != nil {
		t.Fatal(err)
	}
	return New(Services{Users: users, SASL: map[string]*auth.SASL{"SASL": sasl}, Logger: slog.New(slog.DiscardHandler)})
}

// caller is a connection to an API without a network in between.
type caller struct {
	t *testing.T
	a *API
	s *conn.Session
}

func saslCaller(t *testing.T, a *API, listener string) *caller {
	return &caller{t, a, conn.NewSession(conn.SessionInfo{Listener: listener, Remote: netip.MustParseAddrPort("192.0.2.1:1")})}
}

// exchange sends a request and returns the answer, and whether the connection ends with it.
func exchange[R kmsg.Response](c *caller, q kmsg.Request, version int16, into R) (closes bool) {
	c.t.Helper()
	q.SetVersion(version)
	h := kafkaproto.RequestHeader{Key: kafkaproto.Key(q.Key()), Version: version}
	reply, err := c.a.Dispatch(c.t.Context(), c.s, h, q.AppendTo(nil)).Finish(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := reply.Body.AppendTo(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	into.SetVersion(version)
	if err := into.ReadFrom(body); err != nil {
		c.t.Fatal(err)
	}
	return reply.Close
}

func (c *caller) handshake(mechanism string) (code kafkaproto.Code, offered []string, closes bool) {
	c.t.Helper()
	q, r := kmsg.NewPtrSASLHandshakeRequest(), kmsg.NewPtrSASLHandshakeResponse()
	q.Mechanism = mechanism
	closes = exchange(c, q, 1, r)
	return kafkaproto.Code(r.ErrorCode), r.SupportedMechanisms, closes
}

func (c *caller) authenticate(message string) (r *kmsg.SASLAuthenticateResponse, closes bool) {
	c.t.Helper()
	q := kmsg.NewPtrSASLAuthenticateRequest()
	q.SASLAuthBytes = []byte(message)
	r = kmsg.NewPtrSASLAuthenticateResponse()
	closes = exchange(c, q, 2, r)
	return r, closes
}

// scram logs in as alice.
func (c *caller) scram(password string) (r *kmsg.SASLAuthenticateResponse, closes bool) {
	c.t.Helper()
	if code, _, closes := c.handshake(auth.ScramSHA256); code != 0 || closes {
		c.t.Fatal(code, closes)
	}
	client, err := scram.SHA256.NewClientUnprepped("alice", password, "")
	if err != nil {
		c.t.Fatal(err)
	}
	x := client.NewConversation()
	first, err := x.Step("")
	if err != nil {
		c.t.Fatal(err)
	}
	r, closes = c.authenticate(first)
	if r.ErrorCode != 0 || closes || c.a.Phase(c.s) == conn.Open {
		c.t.Fatalf("%+v, %t, %d", r, closes, c.a.Phase(c.s))
	}
	second, err := x.Step(string(r.SASLAuthBytes))
	if err != nil {
		c.t.Fatal(err)
	}
	r, closes = c.authenticate(second)
	if r.ErrorCode == 0 {
		if _, err := x.Step(string(r.SASLAuthBytes)); err != nil || !x.Valid() {
			c.t.Errorf("the broker did not prove itself: %v", err)
		}
	}
	return r, closes
}

func TestLogin(t *testing.T) {
	c := saslCaller(t, saslAPI(t, nil), "SASL")
	if p := c.a.Phase(c.s); p != conn.Gated {
		t.Fatalf("phase %d before the login", p)
	}
	r, closes := c.scram("secret")
	if r.ErrorCode != 0 || closes || r.SessionLifetimeMillis != 0 || c.a.Phase(c.s) != conn.Open || c.s.Caller("").Principal != "User:alice" {
		t.Fatalf("%+v, %t, %d, %+v", r, closes, c.a.Phase(c.s), c.s.Caller(""))
	}
	// Kafka answers both so after a login that does not expire, and goes on.
	if code, _, closes := c.handshake(auth.ScramSHA256); code != kafkaproto.IllegalSaslState || closes {
		t.Error(code, closes)
	}
	if r, closes := c.authenticate("x"); kafkaproto.Code(r.ErrorCode) != kafkaproto.IllegalSaslState || closes {
		t.Error(r, closes)
	}
	if c.a.Phase(c.s) != conn.Open {
		t.Error("no longer open")
	}
}

// TestRefusedLogins: the answer is the same, after the same time, whatever is wrong, and the connection ends with it.
func TestRefusedLogins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := saslAPI(t, nil)
		texts := map[string]bool{}
		for name, login := range map[string]func(c *caller) (*kmsg.SASLAuthenticateResponse, bool){
			"wrong password": func(c *caller) (*kmsg.SASLAuthenticateResponse, bool) { return c.scram("wrong") },
			"garbage": func(c *caller) (*kmsg.SASLAuthenticateResponse, bool) {
				c.handshake(auth.ScramSHA256)
				return c.authenticate("x")
			},
			"plain": func(c *caller) (*kmsg.SASLAuthenticateResponse, bool) {
				c.handshake(auth.Plain)
				return c.authenticate("\x00alice\x00x")
			},
			"nobody by plain": func(c *caller) (*kmsg.SASLAuthenticateResponse, bool) {
				c.handshake(auth.Plain)
				return c.authenticate("\x00eve\x00x")
			},
		} {
			c := saslCaller(t, a, "SASL")
			began := time.Now()
			r, closes := login(c)
			if kafkaproto.Code(r.ErrorCode) != kafkaproto.SaslAuthenticationFailed || !closes || r.ErrorMessage == nil || len(r.SASLAuthBytes) > 0 {
				t.Errorf("%s: %+v, %t", name, r, closes)
			}
			texts[*r.ErrorMessage] = true
			if took := time.Since(began); took != 100*time.Millisecond {
				t.Errorf("%s took %v", name, took)
			}
			if c.a.Phase(c.s) != conn.Gated || c.s.Caller("").Principal != "User:ANONYMOUS" {
				t.Errorf("%s: %+v", name, c.s.Caller(""))
			}
		}
		if len(texts) != 1 {
			t.Errorf("refusals can be told apart: %v", texts)
		}
	})
}

func TestWrongTurns(t *testing.T) {
	a := saslAPI(t, func(o *auth.SASLOptions) { o.TLS, o.FailureDelay = false, 0 })
	c := saslCaller(t, a, "SASL")
	if code, offered, closes := c.handshake("GSSAPI"); code != kafkaproto.UnsupportedSaslMechanism || len(offered) != 2 || !closes {
		t.Error(code, offered, closes)
	}
	c = saslCaller(t, a, "SASL")
	if code, _, closes := c.handshake(auth.Plain); code != kafkaproto.UnsupportedSaslMechanism || !closes {
		t.Errorf("PLAIN without TLS: %d, %t", code, closes)
	}
	c = saslCaller(t, a, "SASL")
	if r, closes := c.authenticate("n,,n=alice,r=abc"); kafkaproto.Code(r.ErrorCode) != kafkaproto.IllegalSaslState || !closes {
		t.Errorf("a message without a handshake: %+v, %t", r, closes)
	}
	c = saslCaller(t, a, "SASL")
	c.handshake(auth.ScramSHA256)
	if code, _, closes := c.handshake(auth.ScramSHA256); code != kafkaproto.IllegalSaslState || !closes {
		t.Errorf("two handshakes: %d, %t", code, closes)
	}
	// Where nobody logs in.
	c = saslCaller(t, a, "PLAINTEXT")
	if code, _, closes := c.handshake(auth.ScramSHA256); code != kafkaproto.IllegalSaslState || closes {
		t.Error(code, closes)
	}
	if c.a.Phase(c.s) != conn.Gated {
		t.Error("open to everybody where a login is wanted and nothing is there to log in by")
	}
	if r, closes := c.authenticate("x"); kafkaproto.Code(r.ErrorCode) != kafkaproto.IllegalSaslState || closes {
		t.Error(r, closes)
	}
}

// TestLoginExpires: the client is told how long its login holds, and logs in again on the same connection.
func TestLoginExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := saslCaller(t, saslAPI(t, func(o *auth.SASLOptions) { o.Lifetime = time.Minute }), "SASL")
		for range 3 {
			if r, closes := c.scram("secret"); r.ErrorCode != 0 || closes || r.SessionLifetimeMillis != 60_000 || c.a.Phase(c.s) != conn.Open {
				t.Fatalf("%+v, %t, %d", r, closes, c.a.Phase(c.s))
			}
			<-time.After(time.Minute)
			if c.a.Phase(c.s) != conn.Expired {
				t.Fatal("the login does not expire")
			}
		}
	})
}

func TestScramCredentialKeys(t *testing.T) {
	c := saslCaller(t, saslAPI(t, nil), "PLAINTEXT")
	alter := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
	for _, mechanism := range []int8{1, 2, 0, -1} {
		u := kmsg.NewAlterUserSCRAMCredentialsRequestUpsertion()
		u.Name, u.Mechanism, u.Iterations, u.Salt, u.SaltedPassword = "bob", mechanism, 4096, []byte("salt"), make([]byte, 32)
		if mechanism == 2 {
			u.SaltedPassword = make([]byte, 64)
		}
		if mechanism <= 0 {
			u.Name = "mallory"
		}
		alter.Upsertions = append(alter.Upsertions, u)
	}
	few := alter.Upsertions[0]
	few.Name, few.Iterations = "carol", 1
	alter.Upsertions = append(alter.Upsertions, few)
	gone := kmsg.NewAlterUserSCRAMCredentialsRequestDeletion()
	gone.Name, gone.Mechanism = "nobody", 1
	alter.Deletions = append(alter.Deletions, gone)
	done := kmsg.NewPtrAlterUserSCRAMCredentialsResponse()
	exchange(c, alter, 0, done)
	want := map[string]kafkaproto.Code{
		"bob": 0, "mallory": kafkaproto.UnsupportedSaslMechanism, "carol": kafkaproto.UnacceptableCredential, "nobody": kafkaproto.ResourceNotFound,
	}
	if len(done.Results) != len(want) {
		t.Errorf("%+v", done.Results)
	}
	for _, r := range done.Results {
		if kafkaproto.Code(r.ErrorCode) != want[r.User] {
			t.Errorf("%s: %d", r.User, r.ErrorCode)
		}
	}
	describe, told := kmsg.NewPtrDescribeUserSCRAMCredentialsRequest(), kmsg.NewPtrDescribeUserSCRAMCredentialsResponse()
	exchange(c, describe, 0, told)
	if len(told.Results) != 2 || told.Results[1].User != "bob" || len(told.Results[1].CredentialInfos) != 2 || told.Results[1].CredentialInfos[0].Iterations != 4096 {
		t.Errorf("%+v", told.Results)
	}
	for _, name := range []string{"alice", "eve", "bob", "bob"} {
		u := kmsg.NewDescribeUserSCRAMCredentialsRequestUser()
		u.Name = name
		describe.Users = append(describe.Users, u)
	}
	told = kmsg.NewPtrDescribeUserSCRAMCredentialsResponse()
	exchange(c, describe, 0, told)
	codes := []kafkaproto.Code{0, kafkaproto.ResourceNotFound, kafkaproto.DuplicateResource}
	if len(told.Results) != len(codes) {
		t.Fatalf("%+v", told.Results)
	}
	for i, r := range told.Results {
		if kafkaproto.Code(r.ErrorCode) != codes[i] {
			t.Errorf("%s: %d", r.User, r.ErrorCode)
		}
	}
}
