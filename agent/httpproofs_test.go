package agent

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quorlog/quorlog/replication"
)

// Whoever shows wrong passwords from one address, over as many connections as may be, holds up nobody else: neither those who are known
// nor the next who proves itself.
func TestWrongPasswordsHoldUpNobodyElse(t *testing.T) {
	users := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(users, []byte("admin:admin-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := testNode(t, map[string]string{"sasl": "true", "bootstrap-users-file": users}, nil,
		"authorizer=acl", "super.users=User:admin", "sasl.enabled.mechanisms=PLAIN", "quorlog.sasl.plain.on.loopback=true",
		"connection.failed.authentication.delay.ms=9000")
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	elsewhere := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.2")}, Timeout: time.Minute}
	const user = "nobody:wrong-secret"
	for path, most := range map[string]int{"/metrics": webScrapes, "/v1/cluster": webCalls} {
		refused := make(chan struct{}, webConnections)
		guesses := most + 8 // more than there was room for
		for range guesses {
			nc, err := elsewhere.Dial("tcp", a.Addr())
			if err != nil {
				t.Skipf("no second address here: %v", err)
			}
			t.Cleanup(func() { _ = nc.Close() })
			guess := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic %s\r\n\r\n", path, base64.StdEncoding.EncodeToString([]byte(user)))
			if _, err := io.WriteString(nc, guess); err != nil {
				t.Fatal(err)
			}
			go func() {
				resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
				if err == nil && (resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusTooManyRequests) {
					if resp.Header.Get("Retry-After") == "" {
						t.Errorf("%s: it is not told when to come again", path)
					}
					refused <- struct{}{}
				}
			}()
		}
		for range guesses - most {
			select {
			case <-refused:
			case <-time.After(time.Minute):
				t.Fatal("not even those that are too many are refused")
			}
		}
		if resp := httpAs(t, a.Addr(), path, "admin", "admin-secret"); resp.StatusCode != http.StatusOK {
			t.Errorf("%s, while another address guesses: %s", path, resp.Status)
		}
	}
}

// One customer has a part of what is left, each further one less, and there is a place for each until all are taken.
func TestProofsAreShared(t *testing.T) {
	p := proofs{most: 16}
	taken := func(ip string) (n int, leave []func()) {
		for {
			l, err := p.enter(netip.MustParseAddr(ip))
			if err != nil {
				if !errors.Is(err, replication.ErrOverloaded) {
					t.Fatal(err)
				}
				return n, leave
			}
			n, leave = n+1, append(leave, l)
		}
	}
	first, leave := taken("10.0.0.1")
	if other, _ := taken("10.0.0.2"); first >= p.most/2 || other == 0 || other > first {
		t.Errorf("%d and %d of %d places", first, other, p.most)
	}
	one, _ := taken("2001:db8::1")
	if more, _ := taken("2001:db8::2"); one == 0 || more > 1 {
		t.Errorf("%d places, and %d for another address of the same network", one, more)
	}
	for i := range 32 {
		_, _ = taken(fmt.Sprintf("10.0.1.%d", i))
	}
	if p.mu.taken != p.most {
		t.Errorf("%d of %d places are taken", p.mu.taken, p.most)
	}
	for _, l := range leave {
		l()
	}
	if again, _ := taken("10.0.0.3"); again == 0 || p.mu.from[customer(netip.MustParseAddr("10.0.0.1"))] != 0 {
		t.Errorf("%d places of those that were left, %d are still taken", again, p.mu.from[customer(netip.MustParseAddr("10.0.0.1"))])
	}
}
