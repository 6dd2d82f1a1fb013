package auth

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/quorlog/quorlog/internal/turns"
	"github.com/quorlog/quorlog/replication/controller"
)

// TestScramIsRFC7677 plays the RFC's example.
func TestScramIsRFC7677(t *testing.T) {
	salt := []byte{0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81}
	credential, err := derive(controller.ScramSHA256, "pencil", salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	users := newStore(t)
	if err := users.Alter(t.Context(), []controller.CredentialChange{{User: "user", Mechanism: controller.ScramSHA256, Credential: &credential}}); err != nil {
		t.Fatal(err)
	}
	x := &scramExchange{users: NewDirectory(users, turns.New()), mechanism: controller.ScramSHA256}
	said, err := x.first("n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
	if err != nil || !strings.HasPrefix(string(said), "r=rOprNGfwEbeRWgbNEkqO") || !strings.HasSuffix(string(said), ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096") {
		t.Fatalf("%q, %v", said, err)
	}
	const nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	x.begun, x.nonce = strings.ReplaceAll(x.begun, x.nonce, nonce), nonce // the server's of the example
	said, err = x.last("c=biws,r=" + nonce + ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
	if err != nil || string(said) != "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" {
		t.Errorf("%q, %v", said, err)
	}
}

// lastMessage is what somebody who knows a password says last, with a proof that is right for whatever stands in it.
func lastMessage(t *testing.T, m controller.Mechanism, password, first, answer, bare string) string {
	t.Helper()
	fields := strings.Split(answer, ",")
	salt, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(fields[1], "s="))
	if err != nil {
		t.Fatal(err)
	}
	salted := saltedPassword(t, hashing(m), password, string(salt), defaultIterations)
	clientKey := sign(m, salted, "Client Key")
	proof := sign(m, digest(m, clientKey), first+","+answer+","+bare)
	subtle.XORBytes(proof, proof, clientKey)
	return bare + ",p=" + base64.StdEncoding.EncodeToString(proof)
}

// TestNonceOfTheLastMessage: it is the server's, whole, though a proof fits what else is said (CVE-2024-56128). librdkafka before
// 2.6.1 repeats its own before that; nothing else may.
func TestNonceOfTheLastMessage(t *testing.T) {
	s := newSASL(t, newStore(t, alice), nil)
	const mine = "abc"
	for name, c := range map[string]struct {
		bare string // with N for the nonce
		ok   bool
	}{
		"as it was sent":             {"c=biws,r=N", true},
		"repeated by librdkafka":     {"c=biws,r=abcN", true},
		"with an extension":          {"c=biws,r=N,x=y", true},
		"repeated twice":             {"c=biws,r=abcabcN", false},
		"behind another":             {"c=biws,r=abdN", false},
		"behind half of it":          {"c=biws,r=bcN", false},
		"the client's behind it":     {"c=biws,r=Nabc", false},
		"the server's twice":         {"c=biws,r=NN", false},
		"the client's only":          {"c=biws,r=abc", false},
		"none":                       {"c=biws,r=", false},
		"no field":                   {"c=biws", false},
		"as an extension":            {"c=biws,x=y,r=N", false},
		"with another header":        {"c=eSws,r=N", false},
		"with a header of no base64": {"c=n,,,r=N", false},
		"without a header":           {"r=N", false},
	} {
		for _, mechanism := range []string{ScramSHA256, ScramSHA512} {
			l := s.NewLogin(away)
			if _, err := l.Handshake(mechanism); err != nil {
				t.Fatal(err)
			}
			const first = "n=alice,r=" + mine
			answer, err := l.Step(t.Context(), []byte("n,,"+first))
			if err != nil {
				t.Fatal(err)
			}
			nonce, _, _ := strings.Cut(strings.TrimPrefix(string(answer.Message), "r="), ",")
			bare := strings.ReplaceAll(c.bare, "N", nonce)
			last, err := l.Step(t.Context(), []byte(lastMessage(t, scramNumber(mechanism), alice.Password, first, string(answer.Message), bare)))
			if last.Done != c.ok || (err == nil) != c.ok || (l.State() == LoggedIn) != c.ok {
				t.Errorf("%s, %s: %+v, %v", name, mechanism, last, err)
			}
		}
	}
}

// TestLastMessagesOfOthers: what has let somebody in lets nobody in on another connection.
func TestLastMessagesOfOthers(t *testing.T) {
	s := newSASL(t, newStore(t, alice), nil)
	begin := func() (l *Login, answer string) {
		l = s.NewLogin(away)
		if _, err := l.Handshake(ScramSHA512); err != nil {
			t.Fatal(err)
		}
		said, err := l.Step(t.Context(), []byte("n,,n=alice,r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		return l, string(said.Message)
	}
	nonceOf := func(answer string) string {
		nonce, _, _ := strings.Cut(strings.TrimPrefix(answer, "r="), ",")
		return nonce
	}
	first, answer := begin()
	message := lastMessage(t, controller.ScramSHA512, alice.Password, "n=alice,r=abc", answer, "c=biws,r="+nonceOf(answer))
	if got, err := first.Step(t.Context(), []byte(message)); err != nil || !got.Done {
		t.Fatal(got, err)
	}
	for name, change := range map[string]func(string, string) string{
		"as it was":             func(m, _ string) string { return m },
		"with the nonce of now": func(m, now string) string { return strings.ReplaceAll(m, nonceOf(answer), nonceOf(now)) },
	} {
		l, now := begin()
		if got, err := l.Step(t.Context(), []byte(change(message, now))); !errors.Is(err, ErrAuthentication) || got.Done {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// TestUsersThatChangeMeanwhile: an exchange that began with a password ends with it only if it still is the user's.
func TestUsersThatChangeMeanwhile(t *testing.T) {
	for name, change := range map[string]func(*store){
		"removed": func(s *store) { removeUser(t, s, "alice") },
		"another": func(s *store) { setPassword(t, s, "alice", "another password") },
		"the same again": func(s *store) {
			removeUser(t, s, "alice")
			setPassword(t, s, "alice", alice.Password) // by another salt
		},
	} {
		users := newStore(t, alice)
		l := newSASL(t, users, nil).NewLogin(away)
		if _, err := l.Handshake(ScramSHA512); err != nil {
			t.Fatal(err)
		}
		const first = "n=alice,r=abc"
		answer, err := l.Step(t.Context(), []byte("n,,"+first))
		if err != nil {
			t.Fatal(err)
		}
		change(users)
		nonce, _, _ := strings.Cut(strings.TrimPrefix(string(answer.Message), "r="), ",")
		last := lastMessage(t, controller.ScramSHA512, alice.Password, first, string(answer.Message), "c=biws,r="+nonce)
		if got, err := l.Step(t.Context(), []byte(last)); !errors.Is(err, ErrAuthentication) || got.Done || l.State() != LoggedOut {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestSASLNames(t *testing.T) {
	for field, want := range map[string]string{
		"n=alice": "alice", "n=a=2Cb=3Dc": "a,b=c", "n==3D2C": "=2C", "n=": "", "alice": "", "n=a=b": "", "n=a=2c": "", "n=a=": "", "n==": "",
	} {
		if got, ok := saslName(field, "n="); ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q, %t", field, got, ok)
		}
	}
}

// FuzzLogin: whoever knows no password is not let in, whatever it says, and nothing panics.
func FuzzLogin(f *testing.F) {
	s := newSASL(f, newStore(f, alice), nil)
	for _, seed := range [][2]string{
		{"n,,n=alice,r=abc", "c=biws,r=abcN,p=AAAA"}, {"n,a=alice,n=alice,r=abc", "c=,r=N,p="}, {"y,,n=a=2Cb,r=x,e=f", ",p="},
		{"\x00alice\x00secret", ""}, {"alice\x00alice\x00", "x"},
	} {
		for which := range Mechanisms() {
			f.Add(uint8(which), seed[0], seed[1])
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, first, second string) {
		if strings.Contains(first+second, alice.Password) {
			t.Skip("it knows the password")
		}
		l := s.NewLogin(away)
		if _, err := l.Handshake(Mechanisms()[int(which)%len(Mechanisms())]); err != nil {
			t.Fatal(err)
		}
		answer, err := l.Step(t.Context(), []byte(first))
		if err == nil {
			nonce, _, _ := strings.Cut(strings.TrimPrefix(string(answer.Message), "r="), ",")
			answer, err = l.Step(t.Context(), []byte(strings.ReplaceAll(second, "N", nonce)))
		}
		if !errors.Is(err, ErrAuthentication) || answer.Done || l.State() != LoggedOut {
			t.Errorf("%+v, %v, %d", answer, err, l.State())
		}
	})
}
