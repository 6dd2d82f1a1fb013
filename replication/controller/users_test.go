package controller

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller/metapb"
)

func credential(fill byte, m Mechanism) *Credential {
	keys := bytes.Repeat([]byte{fill}, m.KeySize())
	return &Credential{Salt: []byte{fill}, Iterations: MinIterations, StoredKey: keys, ServerKey: keys}
}

func TestAlterUsers(t *testing.T) {
	c, _ := newTestController(t, nil)
	alter := func(changes ...CredentialChange) {
		t.Helper()
		if err := NewUsers(c).Alter(t.Context(), changes); err != nil {
			t.Fatal(err)
		}
	}
	alter(CredentialChange{"alice", ScramSHA256, credential(1, ScramSHA256)}, CredentialChange{"alice", ScramSHA512, credential(2, ScramSHA512)},
		CredentialChange{"bob", ScramSHA256, credential(3, ScramSHA256)})
	first := c.Image()
	if u := first.Users["alice"]; len(first.Users) != 2 || len(u.Credentials) != 2 || !u.Credentials[ScramSHA256].equal(*credential(1, ScramSHA256)) {
		t.Fatalf("%+v", first.Users)
	}
	if len(first.UsersSecret) != usersSecretSize {
		t.Errorf("a secret of %d bytes", len(first.UsersSecret))
	}
	alter(CredentialChange{User: "alice", Mechanism: ScramSHA256}, CredentialChange{User: "bob", Mechanism: ScramSHA256}, CredentialChange{User: "nobody", Mechanism: ScramSHA256})
	if u := c.Image().Users; len(u) != 1 || len(u["alice"].Credentials) != 1 || len(first.Users["alice"].Credentials) != 2 {
		t.Errorf("%+v, and before %+v", u, first.Users)
	}
	alter(CredentialChange{User: "alice", Mechanism: ScramSHA512})
	if im := c.Image(); len(im.Users) != 0 || !bytes.Equal(im.UsersSecret, first.UsersSecret) {
		t.Errorf("%+v", im.Users)
	}
	made, err := NewUsers(c).Found(t.Context(), []CredentialChange{{"eve", ScramSHA256, credential(1, ScramSHA256)}})
	if made || err != nil || len(c.Image().Users) != 0 {
		t.Errorf("users were founded in a cluster that had some: %v, %v", made, err)
	}
}

// TestFoundingUsersTwice: nodes that begin a cluster together all propose its first users, and one of them wins.
func TestFoundingUsersTwice(t *testing.T) {
	im := emptyImage(nil)
	found := func(user string, fill byte) *metapb.Command {
		return &metapb.Command{Level: metadataLevel, Rules: rulesVersion, Kind: &metapb.Command_AlterUsers{AlterUsers: &metapb.AlterUsers{
			First: true, Secret: bytes.Repeat([]byte{fill}, usersSecretSize),
			Changes: []*metapb.CredentialChange{{User: user, Mechanism: metapb.Mechanism_MECHANISM_SCRAM_SHA_256, Credential: sampleCredential(32)}},
		}}}
	}
	im, r := step(im, 1, found("alice", 1))
	if !r.Changed || r.Err != nil {
		t.Fatalf("%+v", r)
	}
	after, r := step(im, 2, found("bob", 2))
	if after != im || r.Changed || r.Err != nil || after.Users["bob"] != nil || after.UsersSecret[0] != 1 {
		t.Errorf("%+v: %+v", r, after.Users)
	}
}

func TestAlterUsersRefuses(t *testing.T) {
	c, _ := newTestController(t, nil)
	if err := NewUsers(c).Alter(t.Context(), []CredentialChange{{"alice", ScramSHA256, credential(1, ScramSHA256)}}); err != nil {
		t.Fatal(err)
	}
	with := func(change func(*Credential)) *Credential {
		out := credential(9, ScramSHA256)
		change(out)
		return out
	}
	before := c.Image()
	for name, change := range map[string]CredentialChange{
		"no name":             {"", ScramSHA256, credential(1, ScramSHA256)},
		"a long name":         {strings.Repeat("x", MaxUserName+1), ScramSHA256, credential(1, ScramSHA256)},
		"a control character": {"a\x1b[2J", ScramSHA256, credential(1, ScramSHA256)},
		"no UTF-8":            {"a\xff", ScramSHA256, credential(1, ScramSHA256)},
		"no mechanism":        {"alice", 0, nil},
		"unknown mechanism":   {"alice", 3, credential(1, ScramSHA256)},
		"keys of another":     {"alice", ScramSHA512, credential(1, ScramSHA256)},
		"empty keys":          {"alice", ScramSHA256, with(func(c *Credential) { c.StoredKey = nil })},
		"no server key":       {"alice", ScramSHA256, with(func(c *Credential) { c.ServerKey = nil })},
		"too few iterations":  {"alice", ScramSHA256, with(func(c *Credential) { c.Iterations = MinIterations - 1 })},
		"too many iterations": {"alice", ScramSHA256, with(func(c *Credential) { c.Iterations = MaxIterations + 1 })},
		"no salt":             {"alice", ScramSHA256, with(func(c *Credential) { c.Salt = nil })},
		"a long salt":         {"alice", ScramSHA256, with(func(c *Credential) { c.Salt = make([]byte, MaxSalt+1) })},
	} {
		good := CredentialChange{"bob", ScramSHA256, credential(2, ScramSHA256)}
		if err := NewUsers(c).Alter(t.Context(), []CredentialChange{good, change}); !errors.Is(err, replication.ErrInvalidRequest) {
			t.Errorf("%s: %v", name, err)
		}
		if c.Image() != before {
			t.Errorf("%s: half of it was done", name)
		}
	}
	many := make([]CredentialChange, MaxCredentialChanges+1)
	for i := range many {
		many[i] = CredentialChange{"u", ScramSHA256, nil}
	}
	if err := NewUsers(c).Alter(t.Context(), many); !errors.Is(err, replication.ErrInvalidRequest) {
		t.Error(err)
	}
}

// TestUsersAreBounded: one more than MaxUsers is refused, and a change of one that exists is not.
func TestUsersAreBounded(t *testing.T) {
	im := emptyImage(nil)
	im.UsersSecret = []byte{1}
	for i := range MaxUsers {
		name := string(rune('a'+i%26)) + string(rune(0x4e00+i))
		im.Users[name] = &User{Name: name, Credentials: map[Mechanism]Credential{ScramSHA256: *credential(1, ScramSHA256)}}
	}
	set := func(user string) *metapb.Command {
		return &metapb.Command{Level: metadataLevel, Rules: rulesVersion, Kind: &metapb.Command_AlterUsers{AlterUsers: &metapb.AlterUsers{
			Changes: []*metapb.CredentialChange{{User: user, Mechanism: metapb.Mechanism_MECHANISM_SCRAM_SHA_512, Credential: sampleCredential(64)}},
		}}}
	}
	if _, r := step(im, 1, set("one more")); !errors.Is(r.Err, replication.ErrPolicyViolation) {
		t.Errorf("%+v", r)
	}
	for name := range im.Users {
		if _, r := step(im, 1, set(name)); r.Err != nil || !r.Changed {
			t.Errorf("%+v", r)
		}
		break
	}
}

// TestUsersOfOldRules: a command that was checked by other rules must not bring in keys of no length, with which nothing could be
// proven.
func TestUsersOfOldRules(t *testing.T) {
	for _, change := range []*metapb.CredentialChange{
		{User: "a", Mechanism: metapb.Mechanism_MECHANISM_SCRAM_SHA_256, Credential: &metapb.Credential{}},
		{User: "", Mechanism: metapb.Mechanism_MECHANISM_SCRAM_SHA_256, Credential: sampleCredential(32)},
		{User: "a", Mechanism: 9, Credential: sampleCredential(32)},
	} {
		c := &metapb.Command{Level: metadataLevel, Rules: rulesVersion + 1, Kind: &metapb.Command_AlterUsers{AlterUsers: &metapb.AlterUsers{
			Secret: []byte{1}, Changes: []*metapb.CredentialChange{change},
		}}}
		if im, r := step(emptyImage(nil), 1, c); r.Err == nil || len(im.Users) != 0 {
			t.Errorf("%v: %+v", change, r)
		}
	}
}

func TestDamagedUsersAreNotRestored(t *testing.T) {
	good := func() *metapb.User {
		return &metapb.User{Name: "alice", Credentials: []*metapb.UserCredential{{Mechanism: metapb.Mechanism_MECHANISM_SCRAM_SHA_256, Credential: sampleCredential(32)}}}
	}
	short := good()
	short.Credentials[0].Credential.StoredKey = nil
	for name, users := range map[string][]*metapb.User{
		"twice": {good(), good()}, "no name": {{Credentials: good().Credentials}}, "no credential": {{Name: "bob"}}, "no key": {short},
	} {
		data, err := seal(&metapb.Image{Users: users, UsersSecret: []byte{1}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeImage(data, nil); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
