package compat

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// closePatience bounds the wait for the broker to close a connection; it is longer than every limit of its own.
const closePatience = 60 * time.Second

// dial opens a raw connection.
func dial(t *testing.T, node *testcluster.Node) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", node.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(closePatience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// mustClose checks that the broker closes the connection, whatever it says before.
func mustClose(t *testing.T, c net.Conn) {
	t.Helper()
	_, err := io.Copy(io.Discard, c)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Error("the broker kept the connection open")
	}
}

// stillServes proves that other clients are unharmed: a record goes in and comes out.
func stillServes(t *testing.T, node *testcluster.Node) {
	t.Helper()
	cl := newClient(t, node, kgo.AllowAutoTopicCreation())
	want := fmt.Sprint(time.Now().UnixNano())
	res := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "health", Partition: 0, Value: []byte(want)})
	if err := res.FirstErr(); err != nil {
		t.Fatalf("the broker no longer serves: %v", err)
	}
	r := res[0].Record
	reader := newClient(t, node, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"health": {r.Partition: kgo.NewOffset().At(r.Offset)}}))
	got := reader.PollRecords(t.Context(), 1).Records()
	if len(got) != 1 || string(got[0].Value) != want {
		t.Fatalf("read %v, want %q", got, want)
	}
}

// frame prefixes a request with its length.
func frame(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// apiVersionsWithTags is an ApiVersions v3 request whose six-byte body claims 2^32-1 tagged fields.
func apiVersionsWithTags() []byte {
	body := []byte{0, 18, 0, 3, 0, 0, 0, 1, 0xff, 0xff, 0x00} // key, version, correlation id, no client id, no header tags
	return frame(append(body, 1, 0xff, 0xff, 0xff, 0xff, 0x0f))
}

// TestGarbage sends what no client should and checks that only that connection suffers.
func TestGarbage(t *testing.T) {
	node := testcluster.Start(t, testcluster.Options{})
	for name, bytes := range map[string][]byte{
		"negative length":    {0xff, 0xff, 0xff, 0xff},
		"zero length":        {0, 0, 0, 0},
		"huge length":        {0x7f, 0xff, 0xff, 0xff, 0, 0},
		"over the limit":     {0x06, 0x50, 0, 0, 0, 18, 0, 0},
		"unknown key":        frame([]byte{0x03, 0xe7, 0, 0, 0, 0, 0, 1, 0xff, 0xff}),
		"unknown version":    frame([]byte{0, 3, 0, 99, 0, 0, 0, 1, 0xff, 0xff}),
		"short header":       frame([]byte{0, 18, 0}),
		"2^32 tagged fields": apiVersionsWithTags(),
		"random bytes":       []byte("\x00\x00\x00\x40 these sixty-four bytes are not a request of any kind at all, no"),
		"another protocol":   []byte("\x99\x88\x77\x66\x55"),
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, node)
			if _, err := c.Write(bytes); err != nil {
				t.Fatal(err)
			}
			mustClose(t, c)
		})
	}
	stillServes(t, node)
}

// TestHTTPOnKafkaPort: a browser is told in words what it has reached.
func TestHTTPOnKafkaPort(t *testing.T) {
	node := testcluster.Start(t, testcluster.Options{})
	resp, err := http.Get("http://" + node.Addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(body), "Kafka") {
		t.Errorf("got %q, %v; want a sentence about Kafka", body, err)
	}
	stillServes(t, node)
}

// TestTLSOnPlainPort: a TLS client gets an error at once instead of waiting.
func TestTLSOnPlainPort(t *testing.T) {
	node := testcluster.Start(t, testcluster.Options{})
	dialer := &net.Dialer{Timeout: closePatience}
	c, err := tls.DialWithDialer(dialer, "tcp", node.Addr, &tls.Config{InsecureSkipVerify: true})
	if err == nil {
		c.Close()
		t.Fatal("a TLS handshake succeeded on the plain port")
	}
	stillServes(t, node)
}

// rawProduce sends one batch without a client library and returns the partition's error code, or an error when the
// connection was closed.
func rawProduce(t *testing.T, node *testcluster.Node, topic string, records []byte) (int16, error) {
	t.Helper()
	req := kmsg.NewProduceRequest()
	req.Version = 9
	req.Acks = -1
	req.TimeoutMillis = 30_000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Records = records
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	c := dial(t, node)
	if _, err := c.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("raw")).AppendRequest(nil, &req, 7)); err != nil {
		return 0, err
	}
	var length [4]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		return 0, err
	}
	body := make([]byte, binary.BigEndian.Uint32(length[:]))
	if _, err := io.ReadFull(c, body); err != nil {
		return 0, err
	}
	resp := kmsg.NewPtrProduceResponse()
	resp.Version = req.Version
	if err := resp.ReadFrom(body[5:]); err != nil { // correlation id and the header's empty tags
		t.Fatal(err)
	}
	return resp.Topics[0].Partitions[0].ErrorCode, nil
}

// TestSlowloris: connections that send a byte now and then, or nothing, do not keep others out, and 5,000 idle ones cost
// little memory.
func TestIdleConnections(t *testing.T) {
	const idle = 5000
	node := testcluster.Start(t, testcluster.Options{Args: []string{"--set", "max.connections=10000", "--set", "max.connections.per.ip=10000", "--set", "max.connection.creation.rate=100000"}})
	before := residentKiB(t, node.Pid)
	request := kmsg.NewRequestFormatter(kmsg.FormatterClientID("idle")).AppendRequest(nil, kmsg.NewPtrApiVersionsRequest(), 1)
	for i := range idle {
		c := dial(t, node)
		switch i % 3 {
		case 0: // one whole request, then nothing
			if _, err := c.Write(request); err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
			if _, err := io.ReadFull(c, make([]byte, 8)); err != nil {
				t.Fatalf("connection %d got no answer: %v", i, err)
			}
		case 1: // half a request: the slowloris
			if _, err := c.Write(request[:len(request)/2]); err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
		}
	}
	stillServes(t, node)
	grown := residentKiB(t, node.Pid) - before
	t.Logf("%d idle connections: %d KiB more resident memory, %.1f KiB each", idle, grown, float64(grown)/idle)
	if grown > 256<<10 {
		t.Errorf("%d idle connections cost %d KiB", idle, grown)
	}
}

// residentKiB reads a process's resident memory.
func residentKiB(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Skipf("no /proc here: %v", err)
	}
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte("VmRSS:")); ok {
			kib, err := strconv.Atoi(strings.Fields(string(rest))[0])
			if err != nil {
				t.Fatal(err)
			}
			return kib
		}
	}
	t.Fatal("no VmRSS in /proc")
	return 0
}
