package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync/atomic"

	"github.com/quorlog/quorlog/replication/controller"
)

// unknownUsers makes up credentials. Their salts come from the secret of the metadata, so that every node shows the same one
// for a name, now and later. Their other figures are those that most users have.
type unknownUsers struct {
	usual atomic.Pointer[usualFigures]
	// own stands in for the secret while the cluster has none, and so no user either.
	own atomic.Pointer[[sha256.Size]byte]
}

// usualFigures are the commonest figures of the credentials of an image.
type usualFigures struct {
	image *controller.Image
	by    map[controller.Mechanism]figures
}

// figures are what a client is told about a credential beside the salt itself.
type figures struct{ iterations, salt int }

func (u *unknownUsers) credential(im *controller.Image, user string, m controller.Mechanism) controller.Credential {
	f := u.figures(im, m)
	keys := make([]byte, 2*m.KeySize())
	rand.Read(keys)
	return controller.Credential{
		Salt: u.salt(im, user, m, f.salt), Iterations: f.iterations, StoredKey: keys[:m.KeySize()], ServerKey: keys[m.KeySize():],
	}
}

// salt makes up the salt of a name.
func (u *unknownUsers) salt(im *controller.Image, user string, m controller.Mechanism, size int) (salt []byte) {
	secret := im.UsersSecret
	if len(secret) == 0 {
		secret = u.ownSecret()
	}
	for block := uint32(0); len(salt) < size; block++ {
		mac := hmac.New(sha256.New, secret)
		mac.Write(binary.BigEndian.AppendUint32([]byte{byte(m)}, block))
		mac.Write([]byte(user))
		salt = mac.Sum(salt)
	}
	return salt[:size]
}

func (u *unknownUsers) ownSecret() []byte {
	if u.own.Load() == nil {
		var secret [sha256.Size]byte
		rand.Read(secret[:])
		u.own.CompareAndSwap(nil, &secret)
	}
	return u.own.Load()[:]
}

// figures are the usual ones of an image. They are counted once for each image: whoever knocks with names of nobody
// must not make a node go through all users every time.
func (u *unknownUsers) figures(im *controller.Image, m controller.Mechanism) figures {
	known := u.usual.Load()
	if known == nil || known.image != im {
		known = &usualFigures{image: im, by: map[controller.Mechanism]figures{}}
		for _, m := range []controller.Mechanism{controller.ScramSHA256, controller.ScramSHA512} {
			known.by[m] = usual(im, m)
		}
		u.usual.Store(known)
	}
	return known.by[m]
}

func usual(im *controller.Image, m controller.Mechanism) figures {
	counts := map[figures]int{}
	best := figures{defaultIterations, saltSize}
	for _, u := range im.Users {
		c, ok := u.Credentials[m]
		if !ok {
			continue
		}
		f := figures{c.Iterations, len(c.Salt)}
		counts[f]++
		more := counts[f] - counts[best]
		if more > 0 || more == 0 && (f.iterations > best.iterations || f.iterations == best.iterations && f.salt > best.salt) {
			best = f // of equals the greatest, whatever the order of the map
		}
	}
	return best
}
