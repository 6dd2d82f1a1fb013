package compat

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// TestHTTPOnKafkaPort: a browser is told in words what it has reached, and nothing takes what it sends.
func TestHTTPOnKafkaPort(t *testing.T) {
	node := testcluster.Start(t, testcluster.Options{})
	for method, want := range map[string]int{http.MethodGet: http.StatusOK, http.MethodPost: http.StatusMethodNotAllowed} {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+node.Addr+"/", strings.NewReader(strings.Repeat("x", 16<<10)))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != want || want == http.StatusOK && !strings.Contains(string(body), "Kafka") {
			t.Errorf("%s: %s %q, %v; want %d and a sentence about Kafka", method, resp.Status, body, err, want)
		}
	}
	unharmed(t, node)
}

// TestTLSOnPlainPort: a TLS client gets an alert at once instead of waiting.
func TestTLSOnPlainPort(t *testing.T) {
	node := testcluster.Start(t, testcluster.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), closePatience)
	defer cancel()
	_, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(ctx, "tcp", node.Addr)
	var alert *net.OpError
	if !errors.As(err, &alert) || alert.Op != "remote error" {
		t.Errorf("got %v, want an alert", err)
	}
	unharmed(t, node)
	logged(t, node, "TLS handshake on a plaintext port")
}

// logged checks that the broker said something about it.
func logged(t *testing.T, node *testcluster.Node, text string) {
	t.Helper()
	if !strings.Contains(node.Log(), text) {
		t.Errorf("no line of the log says %q", text)
	}
}

// strangers are the first words of other protocols.
var strangers = map[string]string{
	"SSH":                 "SSH-2.0-OpenSSH_9.6\r\n",
	"HTTP in small":       "get / http/1.0\r\n\r\n",
	"SMTP":                "EHLO mail.example.com\r\n",
	"Redis":               "*1\r\n$4\r\nPING\r\n",
	"PostgreSQL":          "\x00\x00\x00\x08\x04\xd2\x16\x2f",
	"PostgreSQL start":    "\x00\x00\x00\x17\x00\x03\x00\x00user\x00postgres\x00\x00",
	"MongoDB":             "\x3f\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xd4\x07\x00\x00",
	"AMQP":                "AMQP\x00\x00\x09\x01",
	"MQTT":                "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
	"NATS":                "CONNECT {}\r\n",
	"ZooKeeper":           "ruok",
	"DNS":                 "\x00\x1d\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01",
	"SSL 2":               "\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10",
	"proxy protocol":      "PROXY TCP4 10.0.0.1 10.0.0.2 40000 9092\r\n",
	"proxy protocol 2":    "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c",
	"telnet":              "\xff\xfd\x03\xff\xfb\x18",
	"a line of text":      "hello?\n",
	"RDP":                 "\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00",
	"a terminal's return": "\r\n",
}

// TestStrangers: every other protocol's greeting ends its connection, also in the middle of a Kafka conversation.
func TestStrangers(t *testing.T) {
	node := testcluster.Start(t, testcluster.Options{})
	for name, greeting := range strangers {
		t.Run(name, func(t *testing.T) {
			w := dialWire(t, node)
			_, _ = io.WriteString(w, greeting)
			w.halfClose() // what looks like the beginning of a large frame is one, until nothing more comes
			if got := w.rest(); len(got) > 0 && !bytes.HasPrefix(got, []byte("HTTP/1.1 400")) {
				t.Errorf("answered %q", got)
			}
			talking := dialWire(t, node)
			talking.ask(kmsg.NewPtrApiVersionsRequest())
			_, _ = io.WriteString(talking, greeting)
			talking.halfClose()
			if got := talking.rest(); len(got) > 0 {
				t.Errorf("answered %q in the middle of a conversation", got)
			}
		})
	}
	unharmed(t, node)
}

// TestSlowSenders: clients that send a byte at a time are served in the end, those that stop in the middle are closed, and
// nobody else waits for either.
func TestSlowSenders(t *testing.T) {
	t.Parallel()
	const slow, partial = 500, 30 * time.Second
	node := testcluster.Start(t, testcluster.Options{Args: fastAccept})
	request := requestFrame(kmsg.NewPtrApiVersionsRequest(), 1)
	silent, stuck := dialWire(t, node), dialWire(t, node)
	began := time.Now()
	if _, err := stuck.Write(request[:len(request)-1]); err != nil {
		t.Fatal(err)
	}
	stuckLarge := dialWire(t, node)
	if _, err := stuckLarge.Write(append([]byte{0, 0x10, 0, 0}, make([]byte, 70<<10)...)); err != nil {
		t.Fatal(err)
	}

	connections := make([]*wire, slow)
	send := func(i int, b byte) {
		if _, err := connections[i].Write([]byte{b}); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	for i := range connections {
		connections[i] = dialWire(t, node)
		send(i, request[0]) // which must come soon, however long the others take to connect
	}
	// Each round brings every one of them a byte further and lets a healthy client work. What it needs is logged: the test
	// is that it works at all, with 500 requests half read around it.
	longest := time.Duration(0)
	for _, b := range request[1:] {
		for i := range connections {
			send(i, b)
		}
		from := time.Now()
		stillServes(t, node)
		longest = max(longest, time.Since(from))
	}
	for i, w := range connections {
		body, err := w.frame()
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		if _, err := decodeAnswer(kmsg.NewPtrApiVersionsRequest(), 1, body); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		w.Close()
	}
	t.Logf("%d slow senders; a healthy client's produce and consume, with both clients made anew, took %v at most", slow, longest)

	silent.patient()
	if got := silent.rest(); len(got) > 0 {
		t.Errorf("a silent client was told %x", got)
	}
	for _, w := range []*wire{stuck, stuckLarge} {
		w.patient()
		if got := w.rest(); len(got) > 0 {
			t.Errorf("half a request was answered: %x", got)
		}
	}
	if took := time.Since(began); took < partial {
		t.Errorf("a client that paused in its request was closed after %v, it has %v", took, partial)
	}
	unharmed(t, node)
}

// TestSlowReader: a client that asks for much and takes nothing is closed, and its answers don't pile up in memory.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	const patience, most = 3 * time.Second, 64 << 10
	node := testcluster.Start(t, testcluster.Options{})
	newSample(t, node)
	meta := kmsg.NewPtrMetadataRequest()
	meta.Version = 12
	many := bytes.Repeat(requestFrame(meta, 1), 1000)
	grown := memoryPeak(t, node.Pid, func() {
		w := dialWire(t, node)
		// Writing stops when both directions are full: the broker reads no further than it can answer.
		if err := w.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		sent, err := int64(0), error(nil)
		for n := 0; err == nil; sent += int64(n) {
			n, err = w.Write(many)
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("writing ended with %v", err)
		}
		t.Logf("%d KiB of requests were taken until the broker stopped reading", sent>>10)
		unharmed(t, node)
	})
	t.Logf("%d KiB more at the peak", grown)
	if grown > most {
		t.Errorf("a client that reads nothing cost %d KiB", grown)
	}
}

// TestIdleConnections: 5,000 connections that do nothing, or stopped in the middle of a request, cost little memory and keep
// nobody out.
func TestIdleConnections(t *testing.T) {
	const idle, most = 5000, 128 << 10
	node := testcluster.Start(t, testcluster.Options{Args: fastAccept})
	stillServes(t, node)
	before := residentKiB(t, node.Pid)
	request := requestFrame(kmsg.NewPtrApiVersionsRequest(), 1)
	for i := range idle {
		w := dialWire(t, node)
		if i%3 == 0 { // half a request
			if _, err := w.Write(request[:len(request)/2]); err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
			continue
		}
		w.ask(kmsg.NewPtrApiVersionsRequest())
	}
	unharmed(t, node)
	grown := residentKiB(t, node.Pid) - before
	t.Logf("%d idle connections: %d KiB more resident memory, %.1f KiB each; %d threads", idle, grown, float64(grown)/idle, threads(t, node.Pid))
	if grown > most {
		t.Errorf("%d idle connections cost %d KiB", idle, grown)
	}
}

// threads counts a process's threads.
func threads(t testing.TB, pid int) int {
	t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Skipf("no /proc here: %v", err)
	}
	return len(tasks)
}

// TestConnectionLimits: connections above max.connections are closed at once, and a place that becomes free is given again.
func TestConnectionLimits(t *testing.T) {
	const most = 10
	node := testcluster.Start(t, testcluster.Options{Args: []string{"--set", fmt.Sprintf("max.connections=%d", most)}})
	fillAndRefill(t, most, func() (net.Conn, error) { return net.Dial("tcp", node.Addr) })
	logged(t, node, "too many connections")
	awaitRoom(t, node, most)
	unharmed(t, node)
}

// TestConnectionLimitPerIP: an address that has all its connections keeps others from nothing.
func TestConnectionLimitPerIP(t *testing.T) {
	const most = 10
	node := testcluster.Start(t, testcluster.Options{Args: []string{"--set", fmt.Sprintf("max.connections.per.ip=%d", most)}})
	from := func(ip string) func() (net.Conn, error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
		return func() (net.Conn, error) { return d.Dial("tcp", node.Addr) }
	}
	if c, err := from("127.0.0.2")(); err != nil {
		t.Skipf("no second address here: %v", err)
	} else {
		c.Close()
	}
	fillAndRefill(t, most, from("127.0.0.2"))
	unharmed(t, node) // from 127.0.0.1
	fillAndRefill(t, most, from("127.0.0.3"))
	logged(t, node, "too many connections from this address")
}

// fillAndRefill opens as many connections as are allowed, checks that another is closed, closes one, and checks that its
// place is given again. It closes all.
func fillAndRefill(t *testing.T, most int, dial func() (net.Conn, error)) {
	t.Helper()
	open := func() (*wire, error) {
		c, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		w := &wire{Conn: c, t: t}
		_, err = w.tryAsk(kmsg.NewPtrApiVersionsRequest())
		return w, err
	}
	held := make([]*wire, most)
	for i := range held {
		var err error
		for deadline := time.Now().Add(closePatience); ; { // connections of before may not be counted out yet
			if held[i], err = open(); err == nil || time.Now().After(deadline) {
				break
			}
		}
		if err != nil {
			t.Fatalf("connection %d of %d: %v", i+1, most, err)
		}
	}
	for range 5 {
		if _, err := open(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("connection %d of %d: %v", most+1, most, err)
		}
	}
	held[0].Close()
	for deadline := time.Now().Add(closePatience); ; {
		w, err := open()
		if err == nil {
			held[0] = w
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the free place was not given again: %v", err)
		}
	}
	for i, w := range held {
		w.ask(kmsg.NewPtrApiVersionsRequest()) // those that are there were not touched
		if w.Close(); t.Failed() {
			t.Fatalf("connection %d", i)
		}
	}
}

// awaitRoom waits until the broker has all its places again: what is closed here, it counts out later.
func awaitRoom(t *testing.T, node *testcluster.Node, places int) {
	t.Helper()
	for deadline := time.Now().Add(closePatience); ; {
		held, err := make([]*wire, 0, places), error(nil)
		for len(held) < places && err == nil {
			w := dialWire(t, node)
			held = append(held, w)
			_, err = w.tryAsk(kmsg.NewPtrApiVersionsRequest())
		}
		for _, w := range held {
			w.halfClose()
			w.rest() // until the broker has let go of it
		}
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestSlowLargeRequests: clients that announce large requests and then stop, more of them than the broker has memory for,
// hold others up for a few seconds at most, and not until their own time is over.
func TestSlowLargeRequests(t *testing.T) {
	t.Parallel()
	const stalled, most = 40, 15 * time.Second
	node := testcluster.Start(t, testcluster.Options{})
	healthy := dialWire(t, node)
	healthy.createTopic("healthy", 1)
	grown := memoryPeak(t, node.Pid, func() {
		for range stalled {
			w := dialWire(t, node)
			if _, err := w.Write(append([]byte{0x06, 0x3f, 0xff, 0xff}, make([]byte, 70<<10)...)); err != nil {
				t.Fatal(err)
			}
		}
		for _, size := range []int{1000, 10_000, 100_000, 1_000_000} {
			began := time.Now()
			if got, err := healthy.produceTo("healthy", 9, batchOfSize(size)); err != nil || got.ErrorCode != 0 {
				t.Fatalf("%d bytes: %+v, %v", size, got, err)
			}
			took := time.Since(began)
			t.Logf("%d bytes beside %d stalled requests of 100 MiB: %v", size, stalled, took)
			if took > most {
				t.Errorf("%d bytes took %v", size, took)
			}
		}
	})
	t.Logf("%d KiB more at the peak", grown)
	unharmed(t, node)
}
