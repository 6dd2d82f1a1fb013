package hostile

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/quorlog/quorlog/compat/rig"
	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
)

// attack is something that attackers do again and again.
type attack struct {
	name   string
	people int
	every  time.Duration // about how long they rest in between
	try    func(*attacker, context.Context)
}

// attacker is one goroutine of an attack. It comes from an address of its own.
type attacker struct {
	target
	rnd  *rand.Rand
	from net.IP
	did  *atomic.Int64 // connections and calls that came about, of all attackers of its kind
}

// attacks are all of them, with so many times fewer people than there might be.
func attacks(divisor int) []attack {
	n := func(most int) int { return max(1, most/divisor) }
	return []attack{
		{"silent", n(10_000), time.Second, (*attacker).silent},
		{"half a frame", n(40), 100 * time.Millisecond, (*attacker).half},
		{"a byte at a time", n(200), 100 * time.Millisecond, (*attacker).trickle},
		{"garbage", n(20), 20 * time.Millisecond, (*attacker).garbage},
		{"wrong counts", n(20), 20 * time.Millisecond, (*attacker).counts},
		{"takes nothing", n(40), 100 * time.Millisecond, (*attacker).takesNothing},
		{"giant SASL", n(40), 50 * time.Millisecond, (*attacker).giantSASL},
		{"wrong passwords", n(20), 10 * time.Millisecond, (*attacker).passwords},
		{"gRPC streams", n(10), 100 * time.Millisecond, (*attacker).streams},
		{"slow HTTP", n(300), 100 * time.Millisecond, (*attacker).slowHTTP},
	}
}

// The attackers are a process of their own, which yields to others: in the world they have processors of their own, and what is to
// be measured is what the node lets them take of its.
const (
	attackEnv = "HOSTILE_TO" // open, sasl and own address, seed
	sizeEnv   = "HOSTILE_SIZE"
	onlyEnv   = "HOSTILE_ONLY" // the name of one attack, to look at it alone
	politely  = "19"
)

// unleash starts the attackers; retreat ends them, and checks that none of the attacks has come to nothing.
func unleash(t *testing.T, at target, seed uint64) (retreat func()) {
	t.Helper()
	cmd := exec.Command(rig.Tool(t, "nice"), "-n", politely, os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s,%s,%s,%d", attackEnv, at.open, at.sasl, at.own, seed), fmt.Sprintf("%s=%d", sizeEnv, rig.Count(10, 4, 1)))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var report bytes.Buffer
	cmd.Stdout, cmd.Stderr = &report, os.Stderr
	keep, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	retreat = sync.OnceFunc(func() {
		_ = keep.Close()
		did := map[string]int64{}
		if err := errors.Join(cmd.Wait(), json.Unmarshal(report.Bytes(), &did)); err != nil {
			t.Errorf("the attackers: %v: %s", err, &report)
			return
		}
		t.Logf("connections, of gRPC calls: %v", did)
		for _, what := range attacks(1) {
			if !rig.Default() && os.Getenv(onlyEnv) == "" && did[what.name] == 0 {
				t.Errorf("%s: no attack came about", what.name)
			}
		}
	})
	t.Cleanup(retreat)
	return retreat
}

// attackers are the process: they attack until their standard input ends.
func attackers(where string) {
	var at target
	var seed uint64
	var divisor int
	part := strings.Split(where, ",")
	at.open, at.sasl, at.own = part[0], part[1], part[2]
	if _, err := fmt.Sscan(part[3]+" "+os.Getenv(sizeEnv), &seed, &divisor); err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	gone, did := launch(ctx, at, seed, divisor)
	_, _ = io.Copy(io.Discard, os.Stdin)
	cancel()
	gone.Wait()
	counts := map[string]int64{}
	for name, n := range did {
		counts[name] = n.Load()
	}
	if err := json.NewEncoder(os.Stdout).Encode(counts); err != nil {
		log.Fatal(err)
	}
}

// launch starts all attackers; they are gone soon after ctx ends. did is what each attack has done by then.
func launch(ctx context.Context, at target, seed uint64, divisor int) (gone *sync.WaitGroup, did map[string]*atomic.Int64) {
	gone, did = new(sync.WaitGroup), map[string]*atomic.Int64{}
	next := 0
	for _, what := range attacks(divisor) {
		if only := os.Getenv(onlyEnv); only != "" && only != what.name {
			continue
		}
		did[what.name] = new(atomic.Int64)
		for range what.people {
			next++
			a := &attacker{at, rand.New(rand.NewPCG(seed, uint64(next))), net.IPv4(127, 0, byte(1+next/200%200), byte(1+next%200)), did[what.name]}
			gone.Go(func() {
				pause(ctx, a.rnd, time.Second)
				for ctx.Err() == nil {
					what.try(a, ctx)
					pause(ctx, a.rnd, what.every)
				}
			})
		}
	}
	return gone, did
}

// dial connects; the connection ends with ctx at the latest. What is sent and does not arrive is the attacker's bad luck.
func (a *attacker) dial(ctx context.Context, addr string, use func(nc net.Conn)) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: a.from}, Timeout: 5 * time.Second}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return
	}
	a.did.Add(1)
	defer context.AfterFunc(ctx, func() { _ = nc.Close() })()
	defer func() { _ = nc.Close() }()
	use(nc)
}

// await waits until the node ends the connection.
func await(nc net.Conn) { _, _ = io.Copy(io.Discard, nc) }

func (a *attacker) silent(ctx context.Context) { a.dial(ctx, a.open, await) }

// frame is the start of a frame that says that it is n bytes long.
func frame(n int, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(n)), body...)
}

func (a *attacker) half(ctx context.Context) {
	a.dial(ctx, a.open, func(nc net.Conn) {
		size := []int{8 << 10, 60 << 10, 1 << 20, 8 << 20, 90 << 20}[a.rnd.IntN(5)]
		_, _ = nc.Write(frame(size, make([]byte, min(size/2, 4<<20))))
		await(nc)
	})
}

func (a *attacker) trickle(ctx context.Context) {
	a.dial(ctx, a.open, func(nc net.Conn) {
		for _, b := range frame(60<<10, make([]byte, 60<<10)) {
			if _, err := nc.Write([]byte{b}); err != nil || ctx.Err() != nil {
				return
			}
			rig.Idle(200*time.Millisecond, ctx.Done())
		}
	})
}

func (a *attacker) garbage(ctx context.Context) {
	a.dial(ctx, []string{a.open, a.sasl, a.own}[a.rnd.IntN(3)], func(nc net.Conn) {
		noise := make([]byte, 1+a.rnd.IntN(8<<10))
		for i := range noise {
			noise[i] = byte(a.rnd.Uint32())
		}
		start := []string{"", "\x00\x00\x10\x00", "\xf1", "\x16\x03\x01", "GET / HTTP/1.1\r\n", "POST /v1/topics HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n",
			"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"}
		_, _ = nc.Write(append([]byte(start[a.rnd.IntN(len(start))]), noise...))
		_ = nc.SetReadDeadline(time.Now().Add(time.Second))
		await(nc)
	})
}

// counts sends requests whose counts and lengths are none that the rest could hold.
func (a *attacker) counts(ctx context.Context) {
	a.dial(ctx, a.open, func(nc net.Conn) {
		for range 20 {
			key, version := int16(a.rnd.IntN(95)), int16(a.rnd.IntN(19))
			body := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, uint16(key)), uint16(version))
			body = append(body, 0, 0, 0, 1, 0xff, 0xff) // correlation id, no client id
			for range 1 + a.rnd.IntN(40) {
				body = append(body, []byte{0, 0xff, 0x7f, 1, byte(a.rnd.Uint32())}[a.rnd.IntN(5)])
			}
			if _, err := nc.Write(frame(len(body), body)); err != nil {
				return
			}
		}
		_ = nc.SetReadDeadline(time.Now().Add(time.Second))
		await(nc)
	})
}

// takesNothing asks for all of the topic, many times, and reads none of it.
func (a *attacker) takesNothing(ctx context.Context) {
	a.dial(ctx, a.open, func(nc net.Conn) {
		if tcp, ok := nc.(*net.TCPConn); ok {
			_ = tcp.SetReadBuffer(4 << 10)
		}
		q := kmsg.NewPtrFetchRequest()
		q.Version, q.MaxBytes, q.MinBytes, q.ReplicaID = 11, 50<<20, 1, -1
		of := kmsg.NewFetchRequestTopic()
		of.Topic = topic
		p := kmsg.NewFetchRequestTopicPartition()
		p.PartitionMaxBytes, p.CurrentLeaderEpoch = 50<<20, -1
		of.Partitions = append(of.Partitions, p)
		q.Topics = append(q.Topics, of)
		for range 30 {
			if _, err := nc.Write(kmsg.NewRequestFormatter().AppendRequest(nil, q, 1)); err != nil {
				return
			}
		}
		rig.Idle(10*time.Second, ctx.Done())
	})
}

func (a *attacker) handshake(nc net.Conn, mechanism string) {
	q := kmsg.NewPtrSASLHandshakeRequest()
	q.Version, q.Mechanism = 1, mechanism
	_, _ = nc.Write(kmsg.NewRequestFormatter().AppendRequest(nil, q, 1))
}

func (a *attacker) giantSASL(ctx context.Context) {
	a.dial(ctx, a.sasl, func(nc net.Conn) {
		a.handshake(nc, "SCRAM-SHA-512")
		q := kmsg.NewPtrSASLAuthenticateRequest()
		q.Version = 1
		q.SASLAuthBytes = bytes.Repeat([]byte{'n'}, []int{7 << 10, 15 << 10, 1 << 20, 64 << 20}[a.rnd.IntN(4)])
		_, _ = nc.Write(kmsg.NewRequestFormatter().AppendRequest(nil, q, 2))
		await(nc)
	})
}

func (a *attacker) passwords(ctx context.Context) {
	a.dial(ctx, a.sasl, func(nc net.Conn) {
		a.handshake(nc, "PLAIN")
		q := kmsg.NewPtrSASLAuthenticateRequest()
		q.Version, q.SASLAuthBytes = 1, fmt.Appendf(nil, "\x00%s\x00wrong%d", []string{"admin", "nobody"}[a.rnd.IntN(2)], a.rnd.Uint64())
		_, _ = nc.Write(kmsg.NewRequestFormatter().AppendRequest(nil, q, 2))
		await(nc)
	})
}

// streams opens as many calls as a connection takes, and lets them hang: some send halves, some take nothing, some are no calls.
func (a *attacker) streams(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	cc, err := grpc.NewClient("passthrough:///"+a.open, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithInitialWindowSize(64<<10),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return (&net.Dialer{LocalAddr: &net.TCPAddr{IP: a.from}}).DialContext(ctx, "tcp", addr)
		}))
	if err != nil {
		return
	}
	defer func() { _ = cc.Close() }()
	records := quorlogv1.NewRecordsClient(cc)
	for i := range 90 {
		switch i % 3 {
		case 0:
			if _, err := records.ConsumeStream(ctx, &quorlogv1.ConsumeRequest{Topic: topic, Start: &quorlogv1.ConsumeRequest_Edge{Edge: quorlogv1.Edge_EDGE_EARLIEST}}); err == nil {
				a.did.Add(1)
			}
		case 1:
			if stream, err := records.ProduceStream(ctx); err == nil {
				_ = stream.Send(&quorlogv1.ProduceStreamRequest{Batch: &quorlogv1.ProduceRequest{
					Topic: "no such topic", Records: []*quorlogv1.Record{{Value: make([]byte, 1<<20)}},
				}})
			}
		case 2:
			_ = cc.Invoke(ctx, "/quorlog.v1.Records/NoSuchMethod", &quorlogv1.ConsumeRequest{}, &quorlogv1.ConsumeResponse{})
		}
	}
	<-ctx.Done()
}

func (a *attacker) slowHTTP(ctx context.Context) {
	a.dial(ctx, a.open, func(nc net.Conn) {
		_, _ = io.WriteString(nc, []string{
			"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", // and then keeps the connection
			"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Long: ",
			"POST /v1/topics HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{",
			"G",
		}[a.rnd.IntN(4)])
		await(nc)
	})
}
