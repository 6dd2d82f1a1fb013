package auth

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xdg-go/scram"

	"github.com/quorlog/quorlog/internal/turns"
	"github.com/quorlog/quorlog/replication/controller"
)

// store keeps users in an image.
type store struct {
	image atomic.Pointer[controller.Image]
}

func (s *store) Image() *controller.Image { return s.image.Load() }

func (s *store) Alter(_ context.Context, changes []controller.CredentialChange) error {
	next := *s.Image()
	next.Users = map[string]*controller.User{}
	for name, u := range s.Image().Users {
		next.Users[name] = u
	}
	for _, c := range changes {
		u := &controller.User{Name: c.User, Credentials: map[controller.Mechanism]controller.Credential{}}
		if old := next.Users[c.User]; old != nil {
			for m, k := range old.Credentials {
				u.Credentials[m] = k
			}
		}
		if delete(u.Credentials, c.Mechanism); c.Credential != nil {
			u.Credentials[c.Mechanism] = *c.Credential
		}
		if next.Users[c.User] = u; len(u.Credentials) == 0 {
			delete(next.Users, c.User)
		}
	}
	if len(next.UsersSecret) == 0 {
		next.UsersSecret = make([]byte, 32)
		rand.Read(next.UsersSecret)
	}
	s.image.Store(&next)
	return nil
}

func (s *store) Found(ctx context.Context, changes []controller.CredentialChange) (bool, error) {
	if len(s.Image().UsersSecret) > 0 {
		return false, nil
	}
	return true, s.Alter(ctx, changes)
}

func newStore(t testing.TB, users ...NewUser) *store {
	t.Helper()
	s := &store{}
	s.image.Store(&controller.Image{})
	if len(users) > 0 {
		if made, err := NewUsers(s).Found(t.Context(), users); !made || err != nil {
			t.Fatal(made, err)
		}
	}
	return s
}

var (
	localhost = netip.MustParseAddr("127.0.0.1")
	away      = netip.MustParseAddr("192.0.2.1")
	alice     = NewUser{"alice", "a password, with =signs"}
)

func newSASL(t testing.TB, users Images, change func(*SASLOptions)) *SASL {
	t.Helper()
	o := SASLOptions{Users: NewDirectory(users, turns.New()), Mechanisms: Mechanisms(), TLS: true, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if change != nil {
		change(&o)
	}
	s, err := NewSASL(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// generatorOf is a mechanism's hash function for clients.
func generatorOf(mechanism string) scram.HashGeneratorFcn {
	if mechanism == ScramSHA512 {
		return scram.SHA512
	}
	return scram.SHA256
}

// scramLogin runs an exchange as a client does.
func scramLogin(t *testing.T, l *Login, mechanism string, u NewUser, as string) (Answer, error) {
	t.Helper()
	if _, err := l.Handshake(mechanism); err != nil {
		return Answer{}, err
	}
	client, err := generatorOf(mechanism).NewClientUnprepped(u.Name, u.Password, as)
	if err != nil {
		t.Fatal(err)
	}
	c := client.NewConversation()
	say := ""
	for {
		if say, err = c.Step(say); err != nil {
			t.Fatalf("the client does not like the answer: %v", err)
		}
		answer, err := l.Step(t.Context(), []byte(say))
		if err != nil || answer.Done {
			if answer.Done {
				if _, err := c.Step(string(answer.Message)); err != nil || !c.Valid() {
					t.Errorf("the server did not prove itself: %v", err)
				}
			}
			return answer, err
		}
		say = string(answer.Message)
	}
}

func plainLogin(t *testing.T, l *Login, message string) (Answer, error) {
	t.Helper()
	if _, err := l.Handshake(Plain); err != nil {
		return Answer{}, err
	}
	return l.Step(t.Context(), []byte(message))
}

func TestScram(t *testing.T) {
	strange := NewUser{"a,b=c d", "päßword 🔑"} // what SASLprep would refuse or change, and what must be escaped
	users := newStore(t, alice, strange)
	s := newSASL(t, users, nil)
	for _, mechanism := range []string{ScramSHA256, ScramSHA512} {
		for _, u := range []NewUser{alice, strange} {
			for _, as := range []string{"", u.Name} {
				l := s.NewLogin(away)
				if l.State() != LoggedOut {
					t.Fatal("logged in from the start")
				}
				answer, err := scramLogin(t, l, mechanism, u, as)
				if err != nil || !answer.Done || answer.Principal != UserPrincipal(u.Name) || answer.Lifetime != 0 || l.State() != LoggedIn {
					t.Errorf("%s by %s as %q: %+v, %v, %d", u.Name, mechanism, as, answer, err, l.State())
				}
			}
		}
		for name, c := range map[string]struct {
			user NewUser
			as   string
		}{
			"wrong password": {NewUser{"alice", "a passwort"}, ""},
			"nobody":         {NewUser{"nobody", "a password, with =signs"}, ""},
			"as another":     {alice, "a,b=c d"},
			"empty":          {NewUser{"alice", ""}, ""},
		} {
			l := s.NewLogin(away)
			answer, err := scramLogin(t, l, mechanism, c.user, c.as)
			if !errors.Is(err, ErrAuthentication) || err != ErrAuthentication || //nolint:errorlint // not even wrapped: the text is the same for all
				answer.Done || l.State() != LoggedOut {
				t.Errorf("%s by %s: %+v, %v", name, mechanism, answer, err)
			}
			if _, err := l.Handshake(mechanism); !errors.Is(err, ErrSASLState) {
				t.Errorf("%s by %s: another try on the same connection: %v", name, mechanism, err)
			}
		}
	}
}

// TestNobodyLooksLikeSomebody: what a client is told before it shows its proof does not tell which users there are.
func TestNobodyLooksLikeSomebody(t *testing.T) {
	users := newStore(t, alice, NewUser{"bob", "secret"})
	first := func(s *SASL, user string) string {
		l := s.NewLogin(away)
		if _, err := l.Handshake(ScramSHA256); err != nil {
			t.Fatal(err)
		}
		answer, err := l.Step(t.Context(), []byte("n,,n="+user+",r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		_, tail, ok := strings.Cut(string(answer.Message), ",s=")
		if !ok {
			t.Fatalf("%q", answer.Message)
		}
		return tail
	}
	one, other := newSASL(t, users, nil), newSASL(t, users, nil) // two nodes
	if a, b := first(one, "nobody"), first(other, "nobody"); a != b || first(one, "nobody") != a {
		t.Errorf("two nodes show two salts: %q, %q", a, b)
	}
	known, unknown := first(one, "alice"), first(one, "nobody")
	if len(known) != len(unknown) || known[len(known)-7:] != unknown[len(unknown)-7:] || known == unknown || unknown == first(one, "noone") {
		t.Errorf("%q and %q", known, unknown)
	}
	// Most users have other figures: then nobody has them, too.
	for i := range 5 {
		change := controller.CredentialChange{User: fmt.Sprint("user-", i), Mechanism: controller.ScramSHA256,
			Credential: &controller.Credential{Salt: make([]byte, 40), Iterations: 4096, StoredKey: make([]byte, 32), ServerKey: make([]byte, 32)}}
		if err := users.Alter(t.Context(), []controller.CredentialChange{change}); err != nil {
			t.Fatal(err)
		}
	}
	if got := first(one, "nobody"); !strings.HasSuffix(got, ",i=4096") || len(got) != len(first(one, "user-1")) {
		t.Errorf("%q", got)
	}
	if got := first(newSASL(t, newStore(t), nil), "nobody"); !strings.HasSuffix(got, ",i=8192") {
		t.Errorf("without any user: %q", got)
	}
}

func TestPlain(t *testing.T) {
	users := newStore(t, alice, NewUser{"bob", "secret"})
	if err := users.Alter(t.Context(), []controller.CredentialChange{{User: "bob", Mechanism: controller.ScramSHA512}}); err != nil {
		t.Fatal(err)
	}
	s := newSASL(t, users, nil)
	for message, want := range map[string]string{
		"\x00alice\x00" + alice.Password: "User:alice", "alice\x00alice\x00" + alice.Password: "User:alice", "\x00bob\x00secret": "User:bob",
		"\x00alice\x00secret": "", "\x00nobody\x00secret": "", "bob\x00alice\x00" + alice.Password: "", "\x00\x00secret": "", "\x00bob\x00": "",
		"": "", "bob": "", "\x00bob": "", "\x00bob\x00secret\x00": "", "\x00bob\x00sec\xffret": "", "\x00bob\x00" + strings.Repeat("x", MaxToken): "",
	} {
		l := s.NewLogin(away)
		answer, err := plainLogin(t, l, message)
		if ok := err == nil && answer.Done; ok != (want != "") || string(answer.Principal) != want || !ok && !errors.Is(err, ErrAuthentication) {
			t.Errorf("%.40q: %+v, %v", message, answer, err)
		}
	}
}

// TestPlainIsNotShownToListeners: without TLS it is offered to this machine only, and only if that is wanted.
func TestPlainIsNotShownToListeners(t *testing.T) {
	users := newStore(t, alice)
	for _, c := range []struct {
		tls, loopback bool
		from          netip.Addr
		offered       bool
	}{
		{false, false, localhost, false}, {false, false, away, false}, {false, true, localhost, true}, {false, true, away, false},
		{true, false, away, true}, {false, true, netip.Addr{}, false},
	} {
		s := newSASL(t, users, func(o *SASLOptions) { o.TLS, o.PlainOnLoopback = c.tls, c.loopback })
		l := s.NewLogin(c.from)
		offered, err := l.Handshake(Plain)
		if got := err == nil; got != c.offered || len(offered) != len(Mechanisms()) != !c.offered {
			t.Errorf("%+v: %v, %v", c, offered, err)
		}
		if _, err := l.Step(t.Context(), []byte("\x00alice\x00"+alice.Password)); !c.offered && !errors.Is(err, ErrSASLState) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestStates(t *testing.T) {
	users := newStore(t, alice)
	s := newSASL(t, users, func(o *SASLOptions) { o.Mechanisms = []string{ScramSHA256} })
	l := s.NewLogin(away)
	if _, err := l.Step(t.Context(), []byte("n,,n=alice,r=abc")); !errors.Is(err, ErrSASLState) {
		t.Errorf("a message before the handshake: %v", err)
	}
	if _, err := l.Handshake(ScramSHA256); !errors.Is(err, ErrSASLState) {
		t.Errorf("and then a handshake: %v", err)
	}
	l = s.NewLogin(away)
	if offered, err := l.Handshake("GSSAPI"); !errors.Is(err, ErrUnsupportedMechanism) || len(offered) != 1 {
		t.Error(offered, err)
	}
	l = s.NewLogin(away)
	if _, err := l.Handshake(ScramSHA256); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Handshake(ScramSHA256); !errors.Is(err, ErrSASLState) {
		t.Errorf("two handshakes: %v", err)
	}
	l = s.NewLogin(away)
	if _, err := scramLogin(t, l, ScramSHA256, alice, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Handshake(ScramSHA256); !errors.Is(err, ErrSASLState) || l.State() != LoggedIn {
		t.Errorf("a handshake after a login that does not expire: %v, %d", err, l.State())
	}
	if _, err := l.Step(t.Context(), nil); !errors.Is(err, ErrSASLState) || l.State() != LoggedIn {
		t.Errorf("a message after the login: %v, %d", err, l.State())
	}
}

// TestGarbage: whatever a client sends, it gets an error and is not let in.
func TestGarbage(t *testing.T) {
	s := newSASL(t, newStore(t, alice), nil)
	for _, first := range []string{
		"", "n", "n,,", "n,,n=alice", "n,,n=alice,r", "x,,n=alice,r=abc", "n,,n=al=ice,r=abc", "n,a=al=,n=alice,r=abc", "p=tls-unique,,n=alice,r=abc",
		"n,,m=x,n=alice,r=abc", "n,,n=,r=abc", "n,,n=alice,r=", "n,,n=alice,r=a b", "n,,n=alice,r=\u00e4", "n,,n=\xff,r=abc", "n,a=bob,n=alice,r=abc", "n,a=,n=alice,r=abc",
		"n,bob,n=alice,r=abc", "n,,r=abc,n=alice", "\x00alice\x00secret", strings.Repeat("n", MaxToken+1), "n,,n=alice,r=" + strings.Repeat("x", MaxToken),
	} {
		l := s.NewLogin(away)
		if _, err := l.Handshake(ScramSHA512); err != nil {
			t.Fatal(err)
		}
		if answer, err := l.Step(t.Context(), []byte(first)); !errors.Is(err, ErrAuthentication) || l.State() != LoggedOut {
			t.Errorf("%.40q: %+v, %v", first, answer, err)
		}
	}
	// The nonce of the second message must be the server's (CVE-2024-56128).
	for _, second := range []string{"", "c=biws", "c=biws,r=%s", "c=biws,r=abc,p=AAAA", "c=biws,r=%s,p=", "c=biws,r=%s,p=AAAA", "c=biws,r=%sx,p=AAAA", "c=eSws,r=%s,p=AAAA", "v=x", "n,,n=alice,r=abc", ",p=", "c=biws,p=AAAA",
		"c=biws,r=%s,p=" + base64.StdEncoding.EncodeToString(make([]byte, 64)), "c=biws,r=%s,p=" + base64.StdEncoding.EncodeToString(make([]byte, 32))} {
		l := s.NewLogin(away)
		if _, err := l.Handshake(ScramSHA512); err != nil {
			t.Fatal(err)
		}
		answer, err := l.Step(t.Context(), []byte("n,,n=alice,r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		nonce, _, _ := strings.Cut(strings.TrimPrefix(string(answer.Message), "r="), ",")
		if answer, err := l.Step(t.Context(), []byte(strings.ReplaceAll(second, "%s", nonce))); !errors.Is(err, ErrAuthentication) || answer.Done {
			t.Errorf("%q: %+v, %v", second, answer, err)
		}
	}
}

// TestLoginAgain follows a login that expires (KIP-368).
func TestLoginAgain(t *testing.T) {
	now := time.Unix(1000, 0)
	users := newStore(t, alice, NewUser{"bob", "secret"})
	s := newSASL(t, users, func(o *SASLOptions) { o.Lifetime, o.Now = time.Minute, func() time.Time { return now } })
	login := func() *Login {
		l := s.NewLogin(away)
		if answer, err := scramLogin(t, l, ScramSHA256, alice, ""); err != nil || answer.Lifetime != time.Minute {
			t.Fatal(answer, err)
		}
		return l
	}
	l := login()
	if _, err := scramLogin(t, l, ScramSHA256, alice, ""); err != nil || l.State() != LoggedIn { // as in Kafka: where logins are short, this one comes soon
		t.Errorf("the first time again: %v", err)
	}
	now = now.Add(time.Second - 1)
	if _, err := l.Handshake(ScramSHA256); !errors.Is(err, ErrSASLState) || l.State() != LoggedIn {
		t.Errorf("again within a second: %v", err)
	}
	now = now.Add(50 * time.Second)
	if _, err := l.Handshake(ScramSHA256); err != nil || l.State() != LoginExpired {
		t.Errorf("nothing else belongs between the messages of a login: %v, %d", err, l.State())
	}
	l = login()
	now = now.Add(time.Minute)
	if l.State() != LoginExpired {
		t.Error("a login does not expire")
	}
	if _, err := scramLogin(t, l, ScramSHA256, alice, ""); err != nil || l.State() != LoggedIn {
		t.Errorf("%v, %d", err, l.State())
	}
	now = now.Add(59 * time.Second)
	if l.State() != LoggedIn {
		t.Error("the second login is shorter")
	}
	for name, again := range map[string]func(*Login) (Answer, error){
		"another user":      func(l *Login) (Answer, error) { return scramLogin(t, l, ScramSHA256, NewUser{"bob", "secret"}, "") },
		"another mechanism": func(l *Login) (Answer, error) { return scramLogin(t, l, ScramSHA512, alice, "") },
		"a wrong password":  func(l *Login) (Answer, error) { return scramLogin(t, l, ScramSHA256, NewUser{"alice", "x"}, "") },
	} {
		l := login()
		now = now.Add(2 * time.Second)
		if answer, err := again(l); !errors.Is(err, ErrAuthentication) || answer.Done || l.State() != LoggedOut {
			t.Errorf("%s: %+v, %v, %d", name, answer, err, l.State())
		}
	}
	if c := s.Counts(); c != (Counts{Succeeded: 5, Renewed: 2, NotRenewed: 3}) {
		t.Errorf("%+v", c)
	}
}

// TestLogHoldsNoPassword: a client that sends PLAIN's message to SCRAM shows its password to the node, not to its log; and a
// flood of refusals is a handful of lines.
func TestLogHoldsNoPassword(t *testing.T) {
	var log bytes.Buffer
	s := newSASL(t, newStore(t, alice), func(o *SASLOptions) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	for range 100 {
		l := s.NewLogin(away)
		if _, err := l.Handshake(ScramSHA256); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Step(t.Context(), []byte("\x00alice\x00hunter2")); !errors.Is(err, ErrAuthentication) {
			t.Error(err)
		}
	}
	if c := s.Counts(); c != (Counts{Failed: 100}) {
		t.Errorf("%+v", c)
	}
	if n := strings.Count(log.String(), "\n"); strings.Contains(log.String(), "hunter2") || n != refusalLines {
		t.Errorf("%d lines:\n%s", n, log.String())
	}
}

func TestNewSASLRefuses(t *testing.T) {
	for _, mechanisms := range [][]string{nil, {"GSSAPI"}, {Plain, Plain}, {"scram-sha-256"}} {
		if _, err := NewSASL(SASLOptions{Mechanisms: mechanisms}); err == nil {
			t.Error(mechanisms)
		}
	}
}
