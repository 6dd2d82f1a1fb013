package auth

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"hash"
	"strings"
	"unicode/utf8"

	"github.com/quorlog/quorlog/replication/controller"
)

// scramNumber is the number of a mechanism of SCRAM in the metadata.
func scramNumber(mechanism string) controller.Mechanism {
	if mechanism == ScramSHA512 {
		return controller.ScramSHA512
	}
	return controller.ScramSHA256
}

// scramExchange is the server's side of an exchange by SCRAM (RFC 5802, RFC 7677) without channel binding:
//
//	C: n,[a=user],n=user,r=<client's nonce>
//	S: r=<client's nonce><ours>,s=<salt>,i=<iterations>
//	C: c=<base64 of "n,[a=user],">,r=<client's nonce><ours>,p=<proof>
//	S: v=<our proof>
type scramExchange struct {
	users       *Directory
	mechanism   controller.Mechanism
	user        string
	header      string // of GS2: the first message up to its second comma
	clientNonce string
	nonce       string // the client's and ours
	begun       string // the two messages before the client's last, as both sides sign them; empty before those
	credential  controller.Credential
}

func (x *scramExchange) step(_ context.Context, message []byte) (answer []byte, user string, done bool, err error) {
	switch {
	case len(message) > MaxToken:
		return nil, x.user, false, errTooLong
	case !utf8.Valid(message):
		return nil, x.user, false, errMalformed
	case x.begun == "":
		answer, err = x.first(string(message))
		return answer, x.user, false, err
	}
	answer, err = x.last(string(message))
	return answer, x.user, err == nil, err
}

func (x *scramExchange) first(message string) ([]byte, error) {
	binding, rest, _ := strings.Cut(message, ",")
	as, bare, _ := strings.Cut(rest, ",")
	fields := strings.Split(bare, ",") // "m=", an extension that must be understood, would stand before the name
	// A client that could bind the channel but sees that we can't says "y"; one that insists says "p=" and is refused.
	if binding != "n" && binding != "y" || len(fields) < 2 {
		return nil, errMalformed
	}
	user, isUser := saslName(fields[0], "n=")
	nonce, isNonce := strings.CutPrefix(fields[1], "r=")
	if !isUser || !isNonce || !printableASCII(nonce) {
		return nil, errMalformed
	}
	x.user = user
	if as != "" {
		switch as, ok := saslName(as, "a="); {
		case !ok:
			return nil, errMalformed
		case as != user:
			return nil, errAnotherUser
		}
	}
	x.header, x.clientNonce, x.nonce = strings.TrimSuffix(message, bare), nonce, nonce+rand.Text()
	x.credential = x.users.credential(user, x.mechanism)
	answer := fmt.Sprintf("r=%s,s=%s,i=%d", x.nonce, base64.StdEncoding.EncodeToString(x.credential.Salt), x.credential.Iterations)
	x.begun = bare + "," + answer
	return []byte(answer), nil
}

func (x *scramExchange) last(message string) ([]byte, error) {
	at := strings.LastIndex(message, ",p=")
	if at < 0 {
		return nil, errMalformed
	}
	bare := message[:at]
	fields := strings.Split(bare, ",")
	if len(fields) < 2 || fields[0] != "c="+base64.StdEncoding.EncodeToString([]byte(x.header)) {
		return nil, errMalformed
	}
	// The second form is that of librdkafka before 2.6.1 (docs/decisions/0009).
	if nonce, ok := strings.CutPrefix(fields[1], "r="); !ok || nonce != x.nonce && nonce != x.clientNonce+x.nonce {
		return nil, errMalformed
	}
	proof, err := base64.StdEncoding.DecodeString(message[at+len(",p="):])
	if err != nil || len(proof) != x.mechanism.KeySize() {
		return nil, errMalformed
	}
	signed := x.begun + "," + bare
	clientKey := sign(x.mechanism, x.credential.StoredKey, signed)
	subtle.XORBytes(clientKey, clientKey, proof)
	if subtle.ConstantTimeCompare(digest(x.mechanism, clientKey), x.credential.StoredKey) != 1 {
		return nil, errNotAccepted
	}
	// The user may be gone, or have another password, by now: where a login is to be renewed, its client may take its time.
	if now := x.users.credential(x.user, x.mechanism); subtle.ConstantTimeCompare(now.StoredKey, x.credential.StoredKey) != 1 {
		return nil, errNotAccepted
	}
	return []byte("v=" + base64.StdEncoding.EncodeToString(sign(x.mechanism, x.credential.ServerKey, signed))), nil
}

// saslName reads a name behind a prefix; false if it is not there or empty. "," and "=" stand in it as "=2C" and "=3D".
func saslName(field, prefix string) (name string, ok bool) {
	escaped, ok := strings.CutPrefix(field, prefix)
	name = strings.NewReplacer("=2C", ",", "=3D", "=").Replace(escaped)
	escapes := strings.Count(escaped, "=2C") + strings.Count(escaped, "=3D")
	return name, ok && name != "" && strings.Count(escaped, "=") == escapes
}

// printableASCII tells whether there is something, and nothing but printable ASCII.
func printableASCII(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// hashing is the hash function of a mechanism.
func hashing(m controller.Mechanism) func() hash.Hash {
	if m == controller.ScramSHA512 {
		return sha512.New
	}
	return sha256.New
}

func digest(m controller.Mechanism, data []byte) []byte {
	h := hashing(m)()
	h.Write(data)
	return h.Sum(nil)
}

func sign(m controller.Mechanism, key []byte, what string) []byte {
	mac := hmac.New(hashing(m), key)
	mac.Write([]byte(what))
	return mac.Sum(nil)
}

// derive makes the credential of a password. The password is taken as it is, as Kafka does, without SASLprep.
func derive(m controller.Mechanism, password string, salt []byte, iterations int) (controller.Credential, error) {
	salted, err := pbkdf2.Key(hashing(m), password, salt, iterations, m.KeySize())
	if err != nil {
		return controller.Credential{}, err
	}
	return fromSalted(m, salted, salt, iterations), nil
}

// fromSalted makes a credential of a salted password, which is all that AlterUserScramCredentials brings (RFC 5802, 3). The
// salted password itself is as good as the password and is not kept.
func fromSalted(m controller.Mechanism, salted, salt []byte, iterations int) controller.Credential {
	return controller.Credential{
		Salt: salt, Iterations: iterations, StoredKey: digest(m, sign(m, salted, "Client Key")), ServerKey: sign(m, salted, "Server Key"),
	}
}
