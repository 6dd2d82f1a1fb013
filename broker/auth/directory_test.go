package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/internal/turns"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
)

// setPassword gives a user another password.
func setPassword(t *testing.T, users *store, name, password string) {
	t.Helper()
	var changes []controller.CredentialChange
	for _, m := range []controller.Mechanism{controller.ScramSHA256, controller.ScramSHA512} {
		c, err := derive(m, password, []byte("another salt"), controller.MinIterations)
		if err != nil {
			t.Fatal(err)
		}
		changes = append(changes, controller.CredentialChange{User: name, Mechanism: m, Credential: &c})
	}
	if err := users.Alter(t.Context(), changes); err != nil {
		t.Fatal(err)
	}
}

// removeUser removes a user.
func removeUser(t *testing.T, users *store, name string) {
	t.Helper()
	err := users.Alter(t.Context(), []controller.CredentialChange{{User: name, Mechanism: controller.ScramSHA256}, {User: name, Mechanism: controller.ScramSHA512}})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPasswordsAreForgotten: a password that was right is recognised without computing, until the moment that it is changed.
func TestPasswordsAreForgotten(t *testing.T) {
	users := newStore(t, alice, NewUser{"bob", "secret"})
	d := NewDirectory(users, turns.New())
	check := func(user, password string, want bool) {
		t.Helper()
		if got, err := d.check(t.Context(), away, user, password); got != want || err != nil {
			t.Errorf("%s: %t, %v", user, got, err)
		}
	}
	check("alice", alice.Password, true)
	leave, err := d.lines.take(t.Context(), away)
	if err != nil {
		t.Fatal(err)
	}
	for range cap(d.lines.all) - 1 {
		d.lines.all <- struct{}{}
	}
	check("alice", alice.Password, true) // without a turn, for which it would wait in vain
	for range cap(d.lines.all) - 1 {
		<-d.lines.all
	}
	leave()
	check("bob", "secret", true)
	check("alice", "secret", false)
	check("bob", alice.Password, false)
	check("nobody", alice.Password, false)
	setPassword(t, users, "alice", "changed")
	check("alice", alice.Password, false)
	check("alice", "changed", true)
	check("bob", "secret", true)
	removeUser(t, users, "alice")
	check("alice", "changed", false)
	check("alice", "", false)
}

// TestRememberedIsBounded: users that come and go leave nothing behind that grows.
func TestRememberedIsBounded(t *testing.T) {
	var r remembered
	r.init()
	for i := range 3 * maxRemembered {
		u := &controller.User{Name: fmt.Sprint(i)}
		r.add(u, "password")
		if !r.has(u, "password") || r.has(u, "Password") || len(r.mu.users) > maxRemembered {
			t.Fatalf("%d: %d", i, len(r.mu.users))
		}
	}
	if r.add(nil, "password"); r.has(nil, "password") {
		t.Error("nobody has a password")
	}
}

// TestLines: one address can't take all turns, and who gives up waiting is let go.
func TestLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines lines
		lines.init(4)
		take := func(from string) (leave func()) {
			t.Helper()
			leave, err := lines.take(t.Context(), netip.MustParseAddr(from))
			if err != nil {
				t.Fatal(err)
			}
			return leave
		}
		refused := func(from string) {
			t.Helper()
			began := time.Now()
			ctx, cancel := patiently(t.Context())
			defer cancel()
			_, err := lines.take(ctx, netip.MustParseAddr(from))
			if took := time.Since(began); !errors.Is(err, replication.ErrOverloaded) || took != passwordPatience {
				t.Errorf("%s: %v after %v", from, err, took)
			}
		}
		// A flood from one network leaves others their turns, until all are taken.
		leaves := []func(){take("2001:db8::1"), take("2001:db8::ffff")}
		refused("2001:db8::2")
		leaves = append(leaves, take("2001:db8:0:1::1"), take("192.0.2.1"))
		refused("192.0.2.2")
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := lines.take(gone, netip.MustParseAddr("192.0.2.2")); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		waited := make(chan func())
		go func() { waited <- take("192.0.2.2") }()
		synctest.Wait()
		leaves[0]()
		leaves[0] = <-waited
		for _, leave := range leaves {
			leave()
		}
		if len(lines.all) > 0 || len(lines.mu.from) > 0 {
			t.Errorf("%d turns and %d lines are left", len(lines.all), len(lines.mu.from))
		}
	})
}

// TestPasswordsWaitForHeavyWork: a password that has its line, but no turn beside other work, waits no longer than one without a line.
func TestPasswordsWaitForHeavyWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDirectory(newStore(t, alice), turns.New())
		release := make(chan struct{})
		for range max(1, runtime.GOMAXPROCS(0)/2) {
			go d.heavy.Do(t.Context(), func() error { <-release; return nil })
		}
		synctest.Wait()
		began := time.Now()
		_, err := d.check(t.Context(), away, "alice", alice.Password)
		if took := time.Since(began); !errors.Is(err, replication.ErrOverloaded) || took != passwordPatience {
			t.Errorf("%v after %v", err, took)
		}
		close(release)
		if right, err := d.check(t.Context(), away, "alice", alice.Password); err != nil || !right {
			t.Errorf("afterwards: %t, %v", right, err)
		}
	})
}

// TestNoTurnIsNoRefusal: a client whose turn does not come is not told that its password is wrong.
func TestNoTurnIsNoRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSASL(t, newStore(t, alice), nil)
		for range cap(s.o.Users.lines.all) {
			s.o.Users.lines.all <- struct{}{}
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		for ctx, want := range map[context.Context]error{t.Context(): replication.ErrOverloaded, gone: context.Canceled} {
			l := s.NewLogin(away)
			if _, err := l.Handshake(Plain); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Step(ctx, []byte("\x00alice\x00"+alice.Password)); !errors.Is(err, want) || l.State() != LoggedOut {
				t.Error(err)
			}
			if _, err := l.Handshake(Plain); !errors.Is(err, ErrSASLState) {
				t.Errorf("another try on the same connection: %v", err)
			}
		}
		if _, err := s.Basic(t.Context(), away, basic("alice", alice.Password)); !errors.Is(err, replication.ErrOverloaded) {
			t.Error(err)
		}
		if c := s.Counts(); c != (Counts{}) {
			t.Errorf("%+v", c)
		}
	})
}
