package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/quorlog/quorlog/replication/controller"
)

// Errors of changes of users.
var (
	// ErrUnacceptableCredential: no user, or no number of iterations, may be so (UNACCEPTABLE_CREDENTIAL).
	ErrUnacceptableCredential = errors.New("unacceptable credential")
	// ErrNoSuchUser: the user, or its credential, does not exist (RESOURCE_NOT_FOUND).
	ErrNoSuchUser = errors.New("the user has no such credential")
	// ErrDuplicateUser: the same stands twice in one request (DUPLICATE_RESOURCE).
	ErrDuplicateUser = errors.New("named twice in one request")
	// ErrUnknownMechanism: there is no such mechanism of SCRAM (UNSUPPORTED_SASL_MECHANISM).
	ErrUnknownMechanism = errors.New("unknown SCRAM mechanism")
)

const (
	// defaultIterations are those of credentials that are made here. Kafka's tools take 4096.
	defaultIterations = 8192
	// saltSize is the size in bytes of the salts that are made here, and of those of our commands, so that all look alike.
	saltSize = 24
)

// UserStore keeps users. controller.Users is one.
type UserStore interface {
	Images
	Alter(ctx context.Context, changes []controller.CredentialChange) error
	Found(ctx context.Context, changes []controller.CredentialChange) (made bool, err error)
}

// Users tells of the users of SCRAM, and changes them (KIP-554).
type Users struct{ store UserStore }

// NewUsers returns the users of a store.
func NewUsers(store UserStore) *Users { return &Users{store} }

// CredentialInfo is what may be told of a credential.
type CredentialInfo struct {
	Mechanism  controller.Mechanism
	Iterations int
}

// UserInfo is what may be told of a user.
type UserInfo struct {
	Name        string
	Credentials []CredentialInfo // by mechanism
	Err         error            // ErrNoSuchUser, ErrDuplicateUser
}

// Describe tells of users, each once; of all if none is named.
func (u *Users) Describe(names []string) []UserInfo {
	users := u.store.Image().Users
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(users))
	}
	asked := make(map[string]int, len(names))
	for _, name := range names {
		asked[name]++
	}
	var out []UserInfo
	for _, name := range names {
		info := UserInfo{Name: name}
		switch n, user := asked[name], users[name]; {
		case n == 0:
			continue // told already
		case n > 1:
			info.Err = fmt.Errorf("%w: user %q", ErrDuplicateUser, name)
		case user == nil:
			info.Err = fmt.Errorf("%w: user %q", ErrNoSuchUser, name)
		default:
			for _, m := range slices.Sorted(maps.Keys(user.Credentials)) {
				info.Credentials = append(info.Credentials, CredentialInfo{m, user.Credentials[m].Iterations})
			}
		}
		asked[name] = 0
		out = append(out, info)
	}
	return out
}

// UserChange sets or removes a credential.
type UserChange struct {
	User      string
	Mechanism controller.Mechanism
	Remove    bool
	// What follows is of those that are set: the password, salted by these (RFC 5802, 3).
	Iterations           int
	Salt, SaltedPassword []byte
}

// UserResult is what became of a user.
type UserResult struct {
	Name string
	Err  error
}

// Alter changes users, and returns a result for each in the order in which they first appear. What is wrong with one change of
// a user keeps all of that user's from being made, and no other user's.
func (u *Users) Alter(ctx context.Context, changes []UserChange) []UserResult {
	im := u.store.Image()
	var results []UserResult
	index := map[string]int{}
	type credential struct {
		user      string
		mechanism controller.Mechanism
	}
	seen := map[credential]bool{}
	for i := range changes {
		c := &changes[i]
		at, known := index[c.User]
		if !known {
			at = len(results)
			results, index[c.User] = append(results, UserResult{Name: c.User}), at
		}
		err := checkUserChange(im, c)
		if key := (credential{c.User, c.Mechanism}); seen[key] {
			err = fmt.Errorf("%w: user %q", ErrDuplicateUser, c.User)
		} else {
			seen[key] = true
		}
		if results[at].Err == nil {
			results[at].Err = err
		}
	}
	var good []controller.CredentialChange
	for i := range changes {
		if c := &changes[i]; results[index[c.User]].Err == nil {
			good = append(good, c.credentialChange())
		}
	}
	if len(good) == 0 {
		return results
	}
	err := u.store.Alter(ctx, good)
	for i := range results {
		if results[i].Err == nil {
			results[i].Err = err
		}
	}
	return results
}

func checkUserChange(im *controller.Image, c *UserChange) error {
	if err := controller.ValidateUserName(c.User); err != nil {
		return fmt.Errorf("%w: %w", ErrUnacceptableCredential, err)
	}
	size := c.Mechanism.KeySize()
	if size == 0 {
		return fmt.Errorf("%w: %d", ErrUnknownMechanism, c.Mechanism)
	}
	if c.Remove {
		if user := im.Users[c.User]; user != nil {
			if _, ok := user.Credentials[c.Mechanism]; ok {
				return nil
			}
		}
		return fmt.Errorf("%w: user %q", ErrNoSuchUser, c.User)
	}
	switch {
	case c.Iterations < controller.MinIterations || c.Iterations > controller.MaxIterations:
		return fmt.Errorf("%w: %d iterations are not between %d and %d", ErrUnacceptableCredential, c.Iterations, controller.MinIterations, controller.MaxIterations)
	case len(c.Salt) == 0 || len(c.Salt) > controller.MaxSalt:
		return fmt.Errorf("%w: a salt has 1 to %d bytes", ErrUnacceptableCredential, controller.MaxSalt)
	case len(c.SaltedPassword) != size:
		return fmt.Errorf("%w: a salted password of this mechanism has %d bytes", ErrUnacceptableCredential, size)
	}
	return nil
}

func (c *UserChange) credentialChange() controller.CredentialChange {
	out := controller.CredentialChange{User: c.User, Mechanism: c.Mechanism}
	if !c.Remove {
		made := fromSalted(c.Mechanism, c.SaltedPassword, c.Salt, c.Iterations)
		out.Credential = &made
	}
	return out
}

// Found makes the first users of a cluster, by both mechanisms. Where there ever were users it does nothing.
func (u *Users) Found(ctx context.Context, first []NewUser) (made bool, err error) {
	if len(u.store.Image().UsersSecret) > 0 {
		return false, nil
	}
	var changes []controller.CredentialChange
	for _, user := range first {
		for _, m := range []controller.Mechanism{controller.ScramSHA256, controller.ScramSHA512} {
			salt := make([]byte, saltSize)
			rand.Read(salt)
			c, err := derive(m, user.Password, salt, defaultIterations)
			if err != nil {
				return false, err
			}
			changes = append(changes, controller.CredentialChange{User: user.Name, Mechanism: m, Credential: &c})
		}
	}
	return u.store.Found(ctx, changes)
}

// NewUser is a user that is to be made.
type NewUser struct{ Name, Password string }

// maxFirstUsers bounds a file of users.
const maxFirstUsers = 100

// UsersFileError is what is wrong with a file of users, and in which line, counted from 1; 0 is the file as a whole. It never shows
// a password.
type UsersFileError struct {
	Line int
	Err  error
}

// Error names the line.
func (e *UsersFileError) Error() string {
	if e.Line == 0 {
		return e.Err.Error()
	}
	return fmt.Sprintf("line %d: %v", e.Line, e.Err)
}

// Unwrap returns what is wrong.
func (e *UsersFileError) Unwrap() error { return e.Err }

// ParseUsers reads users of a file: a line "name:password" for each, where the first colon ends the name. Empty lines and those
// that begin with # count for nothing. Errors are *UsersFileError.
func ParseUsers(text string) (users []NewUser, err error) {
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSuffix(line, "\r")
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, password, ok := strings.Cut(line, ":")
		switch {
		case !ok || password == "":
			err = errors.New("expected name:password")
		case !utf8.ValidString(password) || strings.Contains(password, "\x00"):
			err = errors.New("a password is UTF-8 without NUL") // PLAIN can't carry another
		case slices.ContainsFunc(users, func(u NewUser) bool { return u.Name == name }):
			err = fmt.Errorf("user %q stands there twice", name)
		case len(users) == maxFirstUsers:
			err = fmt.Errorf("more than %d users", maxFirstUsers)
		default:
			err = controller.ValidateUserName(name)
		}
		if err != nil {
			return nil, &UsersFileError{i + 1, err}
		}
		users = append(users, NewUser{name, password})
	}
	if len(users) == 0 {
		return nil, &UsersFileError{Err: errors.New("there is no user in it")}
	}
	return users, nil
}
