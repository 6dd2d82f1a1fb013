package auth

import (
	"crypto/pbkdf2"
	"errors"
	"hash"
	"strings"
	"testing"

	"github.com/quorlog/quorlog/replication/controller"
)

func TestDescribeUsers(t *testing.T) {
	u := NewUsers(newStore(t, alice, NewUser{"bob", "secret"}))
	all := u.Describe(nil)
	if len(all) != 2 || all[0].Name != "alice" || all[1].Name != "bob" || len(all[0].Credentials) != 2 {
		t.Fatalf("%+v", all)
	}
	if c := all[0].Credentials[1]; c != (CredentialInfo{controller.ScramSHA512, defaultIterations}) {
		t.Errorf("%+v", c)
	}
	some := u.Describe([]string{"bob", "nobody", "alice", "alice"})
	if len(some) != 3 || some[0].Err != nil || !errors.Is(some[1].Err, ErrNoSuchUser) || !errors.Is(some[2].Err, ErrDuplicateUser) || some[2].Credentials != nil {
		t.Errorf("%+v", some)
	}
}

func TestAlterUsers(t *testing.T) {
	s := newStore(t, alice)
	u := NewUsers(s)
	// What a client sends: the salted password of "secret".
	salted := func(m controller.Mechanism) []byte { return make([]byte, m.KeySize()) }
	set := func(user string, m controller.Mechanism) UserChange {
		return UserChange{User: user, Mechanism: m, Iterations: 4096, Salt: []byte("salt"), SaltedPassword: salted(m)}
	}
	with := func(change func(*UserChange)) UserChange {
		c := set("bob", controller.ScramSHA256)
		change(&c)
		return c
	}
	for name, c := range map[string]struct {
		change UserChange
		want   error
	}{
		"fine":                {set("bob", controller.ScramSHA256), nil},
		"no name":             {set("", controller.ScramSHA256), ErrUnacceptableCredential},
		"unknown mechanism":   {set("bob", 3), ErrUnknownMechanism},
		"too few iterations":  {with(func(c *UserChange) { c.Iterations = 4095 }), ErrUnacceptableCredential},
		"too many iterations": {with(func(c *UserChange) { c.Iterations = 16385 }), ErrUnacceptableCredential},
		"no salt":             {with(func(c *UserChange) { c.Salt = nil }), ErrUnacceptableCredential},
		"short":               {with(func(c *UserChange) { c.SaltedPassword = c.SaltedPassword[1:] }), ErrUnacceptableCredential},
		"removes nobody":      {UserChange{User: "nobody", Mechanism: controller.ScramSHA256, Remove: true}, ErrNoSuchUser},
		"removes what is not": {UserChange{User: "bob", Mechanism: controller.ScramSHA512, Remove: true}, ErrNoSuchUser},
	} {
		r := u.Alter(t.Context(), []UserChange{c.change})
		if len(r) != 1 || r[0].Name != c.change.User || !errors.Is(r[0].Err, c.want) || c.want == nil && r[0].Err != nil {
			t.Errorf("%s: %+v", name, r)
		}
		if err := s.Alter(t.Context(), []controller.CredentialChange{{User: "bob", Mechanism: controller.ScramSHA256}}); err != nil {
			t.Fatal(err)
		}
	}
	// One user's error is no other's, and spoils all of that user's changes.
	r := u.Alter(t.Context(), []UserChange{
		set("bob", controller.ScramSHA256), {User: "alice", Mechanism: controller.ScramSHA256, Remove: true}, set("carol", controller.ScramSHA256), set("bob", 9),
		set("carol", controller.ScramSHA512), set("dave", controller.ScramSHA256), set("dave", controller.ScramSHA256),
	})
	if len(r) != 4 || !errors.Is(r[0].Err, ErrUnknownMechanism) || r[1].Err != nil || r[2].Err != nil || !errors.Is(r[3].Err, ErrDuplicateUser) {
		t.Errorf("%+v", r)
	}
	users := s.Image().Users
	if users["bob"] != nil || users["dave"] != nil || len(users["alice"].Credentials) != 1 || len(users["carol"].Credentials) != 2 {
		t.Errorf("%+v", users)
	}
}

// TestSaltedPasswordIsThePassword: what a client salts itself lets it in by its password.
func TestSaltedPasswordIsThePassword(t *testing.T) {
	for _, number := range []controller.Mechanism{controller.ScramSHA256, controller.ScramSHA512} {
		want, err := derive(number, "secret", []byte("salt"), 4096)
		if err != nil {
			t.Fatal(err)
		}
		got := fromSalted(number, saltedPassword(t, hashing(number), "secret", "salt", 4096), []byte("salt"), 4096)
		if string(got.StoredKey) != string(want.StoredKey) || string(got.ServerKey) != string(want.ServerKey) {
			t.Errorf("%d: other keys", number)
		}
	}
}

func TestFoundUsersOnce(t *testing.T) {
	s := newStore(t, alice)
	if made, err := NewUsers(s).Found(t.Context(), []NewUser{{"eve", "x"}}); made || err != nil || s.Image().Users["eve"] != nil {
		t.Error(made, err)
	}
}

func TestParseUsers(t *testing.T) {
	users, err := ParseUsers("# the first ones\nadmin:pass:word \r\n\nclient:x\n")
	if err != nil || len(users) != 2 || users[0] != (NewUser{"admin", "pass:word "}) || users[1] != (NewUser{"client", "x"}) {
		t.Errorf("%q, %v", users, err)
	}
	for text, line := range map[string]int{
		"": 0, "# nobody": 0, "a:x\nadmin": 2, "admin:": 1, ":x": 1, "a:x\nb:y\na:z": 3, "a\x00:x": 1, strings.Repeat("n", 257) + ":x": 1,
		"a:x\x00": 1, "a:x\xff": 1,
	} {
		var wrong *UsersFileError
		if _, err := ParseUsers(text); !errors.As(err, &wrong) || wrong.Line != line {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

// saltedPassword is what a client makes of a password.
func saltedPassword(t *testing.T, generator func() hash.Hash, password, salt string, iterations int) []byte {
	t.Helper()
	out, err := pbkdf2.Key(generator, password, []byte(salt), iterations, generator().Size())
	if err != nil {
		t.Fatal(err)
	}
	return out
}
