package controller

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller/metapb"
)

// Mechanism is a way in which a user proves to know a password; the numbers are those of DescribeUserScramCredentials
// (KIP-554).
type Mechanism uint8

// The mechanisms of RFC 5802 and RFC 7677.
const (
	ScramSHA256 Mechanism = 1
	ScramSHA512 Mechanism = 2
)

// KeySize is the size of the mechanism's keys in bytes, 0 for an unknown one.
func (m Mechanism) KeySize() int {
	switch m {
	case ScramSHA256:
		return sha256.Size
	case ScramSHA512:
		return sha512.Size
	}
	return 0
}

// Bounds of users and credentials.
const (
	// MinIterations and MaxIterations are Kafka's. Fewer make a stolen credential cheap to guess, more make logging in an attack.
	MinIterations, MaxIterations = 4096, 16384
	// MaxUserName is the longest name in bytes.
	MaxUserName = 256
	// MaxSalt is the longest salt in bytes; honest ones have up to 32.
	MaxSalt = 256
	// MaxUsers bounds the users of a cluster: all of them are in the memory and in the snapshots of every node.
	MaxUsers = 10_000
	// MaxCredentialChanges is the most changes that one call of Users.Alter may make.
	MaxCredentialChanges = 2_000
	// usersSecretSize is the size of what unknown users' salts are made of, in bytes.
	usersSecretSize = 32
)

// Credential is what is kept of a password: enough to recognise who knows it, too little to log in with. It never changes.
type Credential struct {
	Salt                 []byte
	Iterations           int
	StoredKey, ServerKey []byte
}

// User is somebody with at least one credential. Users of an image never change.
type User struct {
	Name        string
	Credentials map[Mechanism]Credential
}

// CredentialChange sets a credential of a user or, without one, removes it.
type CredentialChange struct {
	User       string
	Mechanism  Mechanism
	Credential *Credential
}

// Users changes the users of a cluster.
type Users struct{ c *Controller }

// NewUsers returns the users of a controller's cluster.
func NewUsers(c *Controller) Users { return Users{c} }

// Image is the newest image.
func (u Users) Image() *Image { return u.c.Image() }

// Alter changes credentials, all or none. Removing what is not there changes nothing and is no error.
func (u Users) Alter(ctx context.Context, changes []CredentialChange) error {
	_, err := u.alter(ctx, changes, false)
	return err
}

// Found makes the first users of a cluster. If there ever were any, it changes nothing and returns false.
func (u Users) Found(ctx context.Context, changes []CredentialChange) (made bool, err error) {
	if len(u.c.Image().UsersSecret) > 0 {
		return false, nil
	}
	return u.alter(ctx, changes, true)
}

func (u Users) alter(ctx context.Context, changes []CredentialChange, first bool) (bool, error) {
	alter := &metapb.AlterUsers{First: first}
	for _, change := range changes {
		alter.Changes = append(alter.Changes, &metapb.CredentialChange{
			User: change.User, Mechanism: metapb.Mechanism(change.Mechanism), Credential: fromCredential(change.Credential),
		})
	}
	if len(u.c.Image().UsersSecret) == 0 { // the one that is there stays, whatever the command says
		alter.Secret = make([]byte, usersSecretSize)
		rand.Read(alter.Secret)
	}
	// Applied twice it changes nothing more: the second time finds what the first has set.
	r, err := u.c.submitRepeatable(ctx, &metapb.Command{Kind: &metapb.Command_AlterUsers{AlterUsers: alter}})
	if err != nil {
		return false, err
	}
	return r.Changed, nil
}

func (s *stepper) alterUsers(c *metapb.AlterUsers) {
	secret := s.draft.next.UsersSecret
	switch {
	case c.GetFirst() && len(secret) > 0:
		return
	case len(secret) == 0:
		if secret = bytes.Clone(c.GetSecret()); len(secret) == 0 {
			s.refuse(errConflict)
			return
		}
	}
	users := maps.Clone(s.draft.next.Users)
	changed := false
	for _, change := range c.GetChanges() {
		if err := checkKeys(change); err != nil { // in every version of the rules: an image must not hold anything else
			s.refuse(err)
			return
		}
		if next, ok := changedUser(users[change.GetUser()], change); ok {
			changed = true
			if users[change.GetUser()] = next; next == nil {
				delete(users, change.GetUser())
			}
		}
	}
	switch {
	case !changed:
		return
	case len(users) > MaxUsers && len(users) > len(s.draft.next.Users):
		s.refuse(failf(replication.ErrPolicyViolation, "a cluster has at most %d users", MaxUsers))
		return
	}
	s.draft.next.Users, s.draft.next.UsersSecret, s.changed = users, secret, true
}

// changedUser is a user after a change, nil if no credential is left. ok is false if the change changes nothing. A name that
// nobody has stands for a user without credentials.
func changedUser(u *User, change *metapb.CredentialChange) (next *User, ok bool) {
	next = &User{Name: change.GetUser(), Credentials: map[Mechanism]Credential{}}
	if u != nil {
		maps.Copy(next.Credentials, u.Credentials)
	}
	m := Mechanism(change.GetMechanism())
	old, had := next.Credentials[m]
	if change.GetCredential() == nil {
		if delete(next.Credentials, m); len(next.Credentials) == 0 {
			next = nil
		}
		return next, had
	}
	credential := toCredential(change.GetCredential())
	next.Credentials[m] = credential
	return next, !had || !old.equal(credential)
}

func (c Credential) equal(d Credential) bool {
	return c.Iterations == d.Iterations && bytes.Equal(c.Salt, d.Salt) && bytes.Equal(c.StoredKey, d.StoredKey) && bytes.Equal(c.ServerKey, d.ServerKey)
}

// checkUsers checks an AlterUsers as far as that needs no image.
func checkUsers(c *metapb.AlterUsers) error {
	if n := len(c.GetChanges()); n > MaxCredentialChanges {
		return failf(replication.ErrInvalidRequest, "%d changes of credentials are more than %d", n, MaxCredentialChanges)
	}
	if n := len(c.GetSecret()); n != 0 && n != usersSecretSize {
		return failf(replication.ErrInvalidRequest, "the secret has %d bytes, not %d", n, usersSecretSize)
	}
	for _, change := range c.GetChanges() {
		if err := ValidateUserName(change.GetUser()); err != nil {
			return err
		}
		if err := checkKeys(change); err != nil {
			return err
		}
		if err := checkCredential(change.GetCredential()); err != nil {
			return err
		}
	}
	return nil
}

// ValidateUserName says whether a user may have a name: 1 to 256 bytes of UTF-8 without control characters, which would
// deceive whoever reads a log or a list.
func ValidateUserName(name string) error {
	control := func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }
	switch {
	case name == "" || len(name) > MaxUserName:
		return failf(replication.ErrInvalidRequest, "the name of a user has 1 to %d bytes", MaxUserName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, control):
		return failf(replication.ErrInvalidRequest, "the name of a user is UTF-8 without control characters")
	}
	return nil
}

// checkKeys checks what every image relies on: a user has a name, and keys have the length of their mechanism.
func checkKeys(change *metapb.CredentialChange) error {
	m, c := Mechanism(change.GetMechanism()), change.GetCredential()
	size := m.KeySize()
	switch {
	case change.GetUser() == "":
		return failf(replication.ErrInvalidRequest, "a user has a name")
	case size == 0:
		return failf(replication.ErrInvalidRequest, "unknown mechanism %d", m)
	case c != nil && (len(c.GetStoredKey()) != size || len(c.GetServerKey()) != size):
		return failf(replication.ErrInvalidRequest, "the keys of mechanism %d have %d bytes", m, size)
	}
	return nil
}

// checkCredential checks the numbers of a credential; there may be none.
func checkCredential(c *metapb.Credential) error {
	switch {
	case c == nil:
	case c.GetIterations() < MinIterations || c.GetIterations() > MaxIterations:
		return failf(replication.ErrInvalidRequest, "%d iterations are not between %d and %d", c.GetIterations(), MinIterations, MaxIterations)
	case len(c.GetSalt()) == 0 || len(c.GetSalt()) > MaxSalt:
		return failf(replication.ErrInvalidRequest, "a salt has 1 to %d bytes", MaxSalt)
	}
	return nil
}

func toCredential(c *metapb.Credential) Credential {
	return Credential{
		Salt: bytes.Clone(c.GetSalt()), Iterations: int(c.GetIterations()),
		StoredKey: bytes.Clone(c.GetStoredKey()), ServerKey: bytes.Clone(c.GetServerKey()),
	}
}

func fromCredential(c *Credential) *metapb.Credential {
	if c == nil {
		return nil
	}
	return &metapb.Credential{Salt: c.Salt, Iterations: int32(c.Iterations), StoredKey: c.StoredKey, ServerKey: c.ServerKey}
}

// encodeUsers lists users and their credentials in order.
func encodeUsers(users map[string]*User) (out []*metapb.User) {
	for _, name := range slices.Sorted(maps.Keys(users)) {
		one := &metapb.User{Name: name}
		for _, m := range slices.Sorted(maps.Keys(users[name].Credentials)) {
			c := users[name].Credentials[m]
			one.Credentials = append(one.Credentials, &metapb.UserCredential{Mechanism: metapb.Mechanism(m), Credential: fromCredential(&c)})
		}
		out = append(out, one)
	}
	return out
}

// restoreUsers refuses what could let somebody in who has no password: keys of no length.
func (im *Image) restoreUsers(in *metapb.Image) error {
	im.UsersSecret = bytes.Clone(in.GetUsersSecret())
	for _, u := range in.GetUsers() {
		user := &User{Name: u.GetName(), Credentials: map[Mechanism]Credential{}}
		for _, c := range u.GetCredentials() {
			m := Mechanism(c.GetMechanism())
			size := m.KeySize()
			if size == 0 || len(c.GetCredential().GetStoredKey()) != size || len(c.GetCredential().GetServerKey()) != size {
				return failf(ErrDamaged, "user %q: a credential of mechanism %d", user.Name, m)
			}
			user.Credentials[m] = toCredential(c.GetCredential())
		}
		if user.Name == "" || im.Users[user.Name] != nil || len(user.Credentials) == 0 || len(im.UsersSecret) == 0 {
			return failf(ErrDamaged, "user %q: its name is empty or not the only one, or it has no credentials", user.Name)
		}
		im.Users[user.Name] = user
	}
	return nil
}
