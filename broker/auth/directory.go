package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/quorlog/quorlog/internal/turns"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
)

// Images gives the newest image of the cluster, in which the users are.
type Images interface{ Image() *controller.Image }

// Directory knows the credentials of the users of a cluster, and recognises their passwords. All listeners of a node share one, so
// that the bounds on what passwords cost hold for the node. Its methods may be called from any goroutine.
type Directory struct {
	images  Images
	unknown unknownUsers
	lines   lines        // between addresses
	heavy   *turns.Turns // between passwords and everything else
	known   remembered
}

// NewDirectory returns the directory of the users of the newest image. What passwords take of a processor is done in the node's turns.
func NewDirectory(images Images, heavy *turns.Turns) *Directory {
	d := &Directory{images: images, heavy: heavy}
	// Recognising a password takes milliseconds of a processor: whoever floods a node with passwords must leave half of it to others.
	d.lines.init(max(1, runtime.GOMAXPROCS(0)/2))
	d.known.init()
	return d
}

// credential finds a user's credential, or makes one up that nobody has the password of: the exchange with somebody who does
// not exist looks and lasts like any other, to its end.
func (d *Directory) credential(user string, m controller.Mechanism) controller.Credential {
	im := d.images.Image()
	madeUp := d.unknown.credential(im, user, m) // always, so that it takes no less time to find somebody
	if u := im.Users[user]; u != nil {
		if c, ok := u.Credentials[m]; ok {
			return c
		}
	}
	return madeUp
}

// passwordPatience bounds how long a password waits for its turns while many come, or other heavy work does.
const passwordPatience = 5 * time.Second

var errManyPasswords = fmt.Errorf("%w: too many passwords are being checked", replication.ErrOverloaded)

// patiently is ctx until passwordPatience is over, which is errManyPasswords for a cause.
func patiently(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, passwordPatience, errManyPasswords)
}

// check holds a password against the credential of a user, whichever there is. For somebody who does not exist the same is
// computed in vain. Errors are replication.ErrOverloaded after passwordPatience, and that of ctx.
func (d *Directory) check(ctx context.Context, from netip.Addr, user, password string) (bool, error) {
	if d.known.has(d.images.Image().Users[user], password) {
		return true, nil
	}
	ctx, cancel := patiently(ctx)
	defer cancel()
	leave, err := d.lines.take(ctx, from)
	if err != nil {
		return false, err
	}
	defer leave()
	u := d.images.Image().Users[user]
	if d.known.has(u, password) { // by one that waited before this
		return true, nil
	}
	m := controller.ScramSHA512
	if u != nil {
		if _, ok := u.Credentials[m]; !ok {
			m = controller.ScramSHA256
		}
	}
	stored := d.credential(user, m)
	var given controller.Credential
	err = d.heavy.Do(ctx, func() (err error) {
		given, err = derive(m, password, stored.Salt, stored.Iterations)
		return err
	})
	if err != nil {
		return false, err
	}
	if subtle.ConstantTimeCompare(given.StoredKey, stored.StoredKey) != 1 {
		return false, nil
	}
	d.known.add(u, password)
	return true, nil
}

// lines lets a few compute at once, and half of those at most for one address: a flood from there leaves others their turns.
type lines struct {
	all chan struct{}

	mu struct {
		sync.Mutex
		from map[netip.Prefix]*line // those for which somebody waits or computes, so no more than there are connections
	}
}

// line is who comes from one address.
type line struct {
	turn   chan struct{}
	people int
}

func (t *lines) init(most int) {
	t.all = make(chan struct{}, most)
	t.mu.from = map[netip.Prefix]*line{}
}

// networkBits is how much of an IPv6 address tells one customer from another: whoever has one address has 2^64 of them.
const networkBits = 64

// take waits for a turn until ctx ends, whose cause is its only error; leave ends the turn.
func (t *lines) take(ctx context.Context, from netip.Addr) (leave func(), err error) {
	bits := from.BitLen()
	if from.Is6() {
		bits = networkBits
	}
	where, _ := from.Prefix(bits) // all that have no address are one
	l := t.enter(where)
	for i, turn := range []chan struct{}{l.turn, t.all} {
		select {
		case turn <- struct{}{}:
			continue
		case <-ctx.Done():
		}
		if i > 0 {
			<-l.turn
		}
		t.exit(where, l)
		return nil, context.Cause(ctx)
	}
	return func() {
		<-t.all
		<-l.turn
		t.exit(where, l)
	}, nil
}

func (t *lines) enter(where netip.Prefix) *line {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.mu.from[where]
	if l == nil {
		l = &line{turn: make(chan struct{}, max(1, cap(t.all)/2))}
		t.mu.from[where] = l
	}
	l.people++
	return l
}

func (t *lines) exit(where netip.Prefix, l *line) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l.people--; l.people == 0 {
		delete(t.mu.from, where)
	}
}

// maxRemembered is how many users' passwords are remembered.
const maxRemembered = 1024

// remembered recognises passwords that were right before, so that who shows one with each request costs one computation. It
// forgets them with any change of the user. What it keeps is a hash with a key of this process, never written anywhere.
type remembered struct {
	key [sha256.Size]byte

	mu struct {
		sync.Mutex
		users map[*controller.User][sha256.Size]byte // a user that is changed is another one
	}
}

func (r *remembered) init() {
	rand.Read(r.key[:])
	r.mu.users = map[*controller.User][sha256.Size]byte{}
}

func (r *remembered) hash(password string) (out [sha256.Size]byte) {
	mac := hmac.New(sha256.New, r.key[:])
	mac.Write([]byte(password))
	mac.Sum(out[:0])
	return out
}

func (r *remembered) has(u *controller.User, password string) bool {
	given := r.hash(password) // in any case: how long it takes tells nothing about the user
	r.mu.Lock()
	defer r.mu.Unlock()
	known, ok := r.mu.users[u]
	return ok && u != nil && subtle.ConstantTimeCompare(known[:], given[:]) == 1
}

func (r *remembered) add(u *controller.User, password string) {
	if u == nil {
		return
	}
	hash := r.hash(password)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.mu.users) >= maxRemembered {
		clear(r.mu.users)
	}
	r.mu.users[u] = hash
}
