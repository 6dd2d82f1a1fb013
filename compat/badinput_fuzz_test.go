package compat

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/quorlog/quorlog/internal/testcluster"
	"github.com/quorlog/quorlog/kafkaproto"
)

// fuzzSeed repeats a run of TestFuzzSockets.
var fuzzSeed = flag.Uint64("fuzzseed", 0, "seed of the spoilt requests; 0 takes one by the clock")

// fuzzArgs keep spoilt requests from costing time that tells nothing: topics by typing error, sixteen partitions of offsets.
var fuzzArgs = append(slices.Clone(fastAccept), "--set", "auto.create.topics.enable=false", "--set", "offsets.topic.num.partitions=1")

// fuzzer sends spoilt requests. It goes on with a connection for as long as the broker does.
type fuzzer struct {
	node *testcluster.Node
	w    *wire
	rng  *rand.Rand
	keep *sample // whose topic no request may delete; nil: none

	answered, closed, silent, skipped int
}

func newFuzzer(t testing.TB, node *testcluster.Node, seed uint64) *fuzzer {
	t.Helper()
	return &fuzzer{node: node, rng: rand.New(rand.NewPCG(seed, seed))}
}

func (f *fuzzer) close() {
	if f.w != nil {
		f.w.Close()
	}
}

// sentinel is a request that is sent behind each spoilt one: as answers come in order, its answer tells that the spoilt one
// was dealt with, and whether it was answered.
const sentinelID = 0x5e471e1

var sentinel = requestFrame(&kmsg.ApiVersionsRequest{}, sentinelID)

// send sends a spoilt request behind a fitting length. It must be answered in a way that decodes, or end the connection.
func (f *fuzzer) send(t *testing.T, body []byte) {
	t.Helper()
	if len(body) == 0 {
		return
	}
	req := understood(body)
	switch {
	case req != nil && (costly(req) || f.keep != nil && f.keep.deletedBy(req)):
		f.skipped++
	case req != nil && waits(req):
		f.sendAndLeave(t, frame(body))
	default:
		f.sendAndAsk(t, body, req)
	}
}

// sendAndLeave sends bytes and hangs up, so that no long poll is waited for: the broker must let go of the connection.
func (f *fuzzer) sendAndLeave(t *testing.T, raw []byte) {
	t.Helper()
	w := dialWire(t, f.node)
	_, _ = w.Write(raw)
	w.halfClose()
	if len(w.rest()) > 0 {
		f.answered++
	} else {
		f.closed++
	}
}

func (f *fuzzer) sendAndAsk(t *testing.T, body []byte, req kmsg.Request) {
	t.Helper()
	if f.w == nil {
		f.w = dialWire(t, f.node)
	}
	f.w.patient()
	_, err := f.w.Write(slices.Concat(frame(body), sentinel))
	first := []byte{}
	if err == nil {
		first, err = f.w.frame()
	}
	if err != nil {
		f.hungUp(t, err, body)
		return
	}
	if binary.BigEndian.Uint32(first) == sentinelID {
		f.silent++
		if p, ok := req.(*kmsg.ProduceRequest); !ok || p.Acks != 0 {
			t.Errorf("no answer to %x, but to what came behind it", body)
		}
		return
	}
	f.answered++
	if err := checkAnswer(body, first); err != nil {
		t.Errorf("%v\nin answer to %x", err, body)
	}
	if second, err := f.w.frame(); err != nil {
		f.hungUp(t, err, body)
	} else if binary.BigEndian.Uint32(second) != sentinelID {
		t.Errorf("a second answer %x to %x", second, body)
	}
}

// hungUp notes that the broker closed the connection, which it may always do.
func (f *fuzzer) hungUp(t *testing.T, err error, body []byte) {
	t.Helper()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("neither answer nor end after %x", body)
	}
	f.closed++
	f.w.Close()
	f.w = nil
}

// checkAnswer decodes an answer by the key and version that the spoilt request has now.
func checkAnswer(body, answer []byte) error {
	key, version := int16(binary.BigEndian.Uint16(body[posKey:])), int16(binary.BigEndian.Uint16(body[posVersion:]))
	req := kmsg.RequestForKey(key)
	if req == nil {
		return fmt.Errorf("an answer to unknown key %d", key)
	}
	if key == int16(kmsg.ApiVersions) && (version < 0 || version > req.MaxVersion()) {
		version = 0 // KIP-511
	}
	req.SetVersion(version)
	_, err := decodeAnswer(req, int32(binary.BigEndian.Uint32(body[posCorrelation:])), answer)
	return err
}

// understood decodes a spoilt request if it is still a valid one. Only what to expect hangs on it: the broker's own guard
// is asked first because kmsg would count a tag bomb to its end.
func understood(body []byte) kmsg.Request {
	h, rest, err := kafkaproto.ParseHeader(body)
	if err != nil {
		return nil
	}
	req, err := kafkaproto.Decode(h, rest)
	if err != nil {
		return nil
	}
	return req
}

// costly tells that a request would make the broker do much honest work: it has become one for many partitions.
func costly(req kmsg.Request) bool {
	const many = 32
	count := int32(0)
	switch r := req.(type) {
	case *kmsg.CreateTopicsRequest:
		for _, t := range r.Topics {
			count += max(t.NumPartitions, int32(len(t.ReplicaAssignment)))
		}
	case *kmsg.CreatePartitionsRequest:
		for _, t := range r.Topics {
			count = max(count, t.Count)
		}
	}
	return count > many
}

// deletedBy tells that a request asks to delete the sample's topic: two that were cut and joined may do so.
func (s sample) deletedBy(req kmsg.Request) bool {
	r, ok := req.(*kmsg.DeleteTopicsRequest)
	return ok && (slices.Contains(r.TopicNames, s.topic) || slices.ContainsFunc(r.Topics, func(t kmsg.DeleteTopicsRequestTopic) bool {
		return t.Topic != nil && *t.Topic == s.topic || t.TopicID == s.id
	}))
}

// waits tells that an answer may rightly take its time.
func waits(req kmsg.Request) bool {
	const patience = 100
	switch r := req.(type) {
	case *kmsg.FetchRequest:
		return r.MaxWaitMillis > patience
	case *kmsg.JoinGroupRequest, *kmsg.SyncGroupRequest:
		return true
	}
	return false
}

// halfClose ends this side's stream.
func (w *wire) halfClose() {
	if tcp, ok := w.Conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite() // the broker may have reset it already
	}
}

// spoil changes a request, without its length, in one of several ways.
func (f *fuzzer) spoil(body []byte, others [][]byte) []byte {
	b, r := slices.Clone(body), f.rng
	at := r.IntN(len(b))
	switch r.IntN(8) {
	case 0, 1, 2:
		for range 1 + r.IntN(8) {
			b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		}
	case 3:
		for i := at; i < min(len(b), at+4); i++ {
			b[i] = byte(r.Uint32())
		}
	case 4:
		b = slices.Insert(b, at, byte(r.Uint32()), byte(r.Uint32()))
	case 5:
		b = slices.Delete(b, at, min(len(b), at+1+r.IntN(8)))
	case 6:
		b = append(b[:at:at], b[at/2:]...)
	case 7:
		other := others[r.IntN(len(others))]
		b = append(b[:at:at], other[min(at, len(other)):]...)
	}
	return b
}

// produce returns a Produce request whose batch was spoilt and then sealed with a right CRC, so that the broker has to look
// inside. Half of them are compressed.
func (f *fuzzer) produce(s sample) []byte {
	var records [][]byte
	for i := range 1 + f.rng.IntN(20) {
		records = append(records, plainRecord(int64(i)))
	}
	b := batchOf(records...)
	if codec := f.rng.IntN(8); codec >= 1 && codec <= 4 {
		b.Attributes, b.Records = int16(codec), compress(codec, b.Records)
	}
	for range 1 + f.rng.IntN(3) {
		b.Records[f.rng.IntN(len(b.Records))] ^= 1 << f.rng.IntN(8)
	}
	switch f.rng.IntN(6) {
	case 0:
		b.Attributes ^= 1 << f.rng.IntN(16)
	case 1:
		b.NumRecords += int32(f.rng.IntN(5)) - 2
	case 2:
		b.LastOffsetDelta += int32(f.rng.IntN(5)) - 2
	}
	req := s.request(int16(kmsg.Produce), 3+int16(f.rng.IntN(11)), filled).(*kmsg.ProduceRequest)
	req.Topics[0].Partitions[0].Records = b.encode()
	return requestFrame(req, int32(f.rng.Uint32()))[4:]
}

// TestFuzzSockets sends spoilt requests from several connections at once. The broker must answer or hang up, stay alive,
// let go of what it took, keep what others have stored, and hand out whatever it accepted; also after a restart.
func TestFuzzSockets(t *testing.T) {
	t.Parallel()
	const workers, records = 4, 500
	seed := *fuzzSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	// A spoilt FindCoordinator makes this topic, and its files stay open.
	args := append(slices.Clone(fuzzArgs), "--set", "transaction.state.log.num.partitions=1")
	node := testcluster.Start(t, testcluster.Options{Args: args})
	s := newSample(t, node)
	corpus := fuzzCorpus(t, node, s)
	want := writeReference(t, node, records)
	files := openFiles(t, node.Pid)

	fuzzers := make([]*fuzzer, workers)
	var left atomic.Int64
	left.Store(int64(scaled(6000, 400_000)))
	var wg sync.WaitGroup
	for i := range fuzzers {
		f := newFuzzer(t, node, seed+uint64(i))
		f.keep = &s
		fuzzers[i] = f
		wg.Go(func() {
			for left.Add(-1) >= 0 && !t.Failed() {
				f.step(t, s, corpus)
			}
			f.close()
		})
	}
	wg.Wait()
	total := fuzzer{}
	for _, f := range fuzzers {
		total.answered += f.answered
		total.closed += f.closed
		total.silent += f.silent
		total.skipped += f.skipped
	}
	t.Logf("-fuzzseed %d: %d answered, %d closed, %d rightly without answer, %d skipped", seed, total.answered, total.closed, total.silent, total.skipped)
	if total.answered == 0 || total.closed == 0 {
		t.Error("the spoilt requests were all of one kind")
	}
	unharmedReference(t, node, want, records)
	readable(t, node, s.topic)
	filesReturned(t, node, files)

	node.Stop()
	if err := node.ExitError(); err != nil {
		t.Errorf("the stop failed: %v", err)
	}
	node.Restart()
	unharmedReference(t, node, want, records)
	readable(t, node, s.topic)
}

// step sends one spoilt request.
func (f *fuzzer) step(t *testing.T, s sample, corpus [][]byte) {
	body := corpus[f.rng.IntN(len(corpus))]
	switch f.rng.IntN(10) {
	case 0, 1: // the length is wrong
		raw := frame(f.spoil(body, corpus))
		raw[f.rng.IntN(4)] ^= 1 << f.rng.IntN(8)
		if raw[0] != 0 || raw[1] > 0x10 || f.rng.IntN(2) == 0 {
			f.sendAndLeave(t, raw)
		}
	case 2, 3, 4:
		f.send(t, f.produce(s))
	default:
		f.send(t, f.spoil(body, corpus))
	}
}

// fuzzCorpus are the requests to spoil, without their lengths.
func fuzzCorpus(t *testing.T, node *testcluster.Node, s sample) (corpus [][]byte) {
	for _, k := range advertised(t, node) {
		from, to := served(k)
		for version := from; version <= to; version++ {
			req := s.request(k.ApiKey, version, filled)
			switch r := req.(type) {
			case *kmsg.CreateTopicsRequest:
				r.ValidateOnly = true
			case *kmsg.CreatePartitionsRequest:
				r.ValidateOnly = true
			case *kmsg.FetchRequest:
				r.MaxWaitMillis = 1
			}
			corpus = append(corpus, requestFrame(req, int32(version)+1)[4:])
		}
	}
	return corpus
}

// writeReference writes records that no spoilt request names, and returns their digest.
func writeReference(t *testing.T, node *testcluster.Node, count int) [sha256.Size]byte {
	t.Helper()
	createTopic(t, node, "reference", 1)
	cl := newClient(t, node, kgo.DefaultProduceTopic("reference"))
	all := sha256.New()
	for i := range count {
		value := fmt.Appendf(nil, "record %d of what must survive", i)
		all.Write(value)
		cl.Produce(t.Context(), kgo.SliceRecord(value), func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := cl.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	return [sha256.Size]byte(all.Sum(nil))
}

// unharmedReference checks that the reference is what it was, and that nothing panicked.
func unharmedReference(t *testing.T, node *testcluster.Node, want [sha256.Size]byte, count int) {
	t.Helper()
	all := sha256.New()
	for _, value := range consumeAll(t, node, "reference", count) {
		io.WriteString(all, value)
	}
	if got := [sha256.Size]byte(all.Sum(nil)); got != want {
		t.Error("the reference has changed")
	}
	unharmed(t, node)
}

// readable reads partition 0 of a topic to its end, and returns how many records it holds: what the broker accepted,
// consumers must be able to read.
func readable(t *testing.T, node *testcluster.Node, topic string) int {
	t.Helper()
	w := dialWire(t, node)
	defer w.Close()
	high := w.highWatermark(topic)
	start := w.offsetOnce(topic, -2)
	cl, err := kgo.NewClient(kgo.SeedBrokers(node.Addr), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	count, next := 0, start
	for next < high {
		fetches := cl.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatalf("at offset %d of %d: %v", next, high, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset != next {
				t.Errorf("offset %d follows %d", r.Offset, next-1)
			}
			next = r.Offset + 1
			count++
		})
	}
	t.Logf("%s: %d records read, offsets %d to %d", topic, count, start, high)
	return count
}

// openFiles counts a process's descriptors.
func openFiles(t testing.TB, pid int) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	if err != nil {
		t.Skipf("no /proc here: %v", err)
	}
	return len(fds)
}

// filesReturned checks that the broker closes its connections once their clients are gone. Each look is paced by a round
// trip.
func filesReturned(t *testing.T, node *testcluster.Node, before int) {
	t.Helper()
	const slack = 64 // files of topics, and the connections of this very test
	w := dialWire(t, node)
	defer w.Close()
	for deadline := time.Now().Add(closePatience); ; {
		now := openFiles(t, node.Pid)
		if now <= before+slack {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d files are open, %d were before", now, before)
		}
		w.ask(kmsg.NewPtrApiVersionsRequest())
	}
}
