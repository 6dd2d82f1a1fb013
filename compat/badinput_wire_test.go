package compat

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// The tests of bad input speak to the built binary through raw sockets, and decode its answers with kmsg alone: nothing of
// the broker's own protocol code takes part, so a mistake in it can't hide itself.

// closePatience bounds the wait for an answer or for the broker to close a connection; it is longer than every limit of
// the broker's.
const closePatience = 60 * time.Second

// Positions in a request frame behind its length.
const (
	posKey, posVersion, posCorrelation, fixedHeader = 0, 2, 4, 8
)

// wire is a raw connection to a broker.
type wire struct {
	net.Conn
	t    testing.TB
	next int32 // correlation id
}

// dialWire opens a raw connection.
func dialWire(t testing.TB, node *testcluster.Node) *wire {
	t.Helper()
	c, err := net.Dial("tcp", node.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	w := &wire{Conn: c, t: t, next: 1}
	w.patient()
	return w
}

// patient gives the next steps their time.
func (w *wire) patient() {
	w.t.Helper()
	if err := w.SetDeadline(time.Now().Add(closePatience)); err != nil {
		w.t.Fatal(err)
	}
}

// rest reads until the broker closes the connection, and fails the test if it doesn't. A reset is a close too: the broker
// need not read what it will not answer.
func (w *wire) rest() []byte {
	w.t.Helper()
	got, err := io.ReadAll(w)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		w.t.Errorf("the broker kept the connection open; it sent %x", got)
	}
	w.Close()
	return got
}

// refused sends bytes and checks that the broker closes the connection without a word.
func (w *wire) refused(sent []byte) {
	w.t.Helper()
	_, _ = w.Write(sent) // the broker may close before it has taken all
	if got := w.rest(); len(got) > 0 {
		w.t.Errorf("%d bytes sent, got the answer %x", len(sent), got)
	}
}

// frame reads one answer, without its length.
func (w *wire) frame() ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(w, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n < 4 || n > 256<<20 {
		return nil, fmt.Errorf("an answer of %d bytes", n)
	}
	body := make([]byte, n)
	_, err := io.ReadFull(w, body)
	return body, err
}

// ask sends a request at the version that it carries and returns the answer; the test ends if there is none.
func (w *wire) ask(req kmsg.Request) kmsg.Response {
	w.t.Helper()
	resp, err := w.tryAsk(req)
	if err != nil {
		w.t.Fatalf("%s v%d: %v", kmsg.NameForKey(req.Key()), req.GetVersion(), err)
	}
	return resp
}

func (w *wire) tryAsk(req kmsg.Request) (kmsg.Response, error) {
	w.t.Helper()
	w.patient()
	w.next++
	if _, err := w.Write(requestFrame(req, w.next)); err != nil {
		return nil, err
	}
	body, err := w.frame()
	if err != nil {
		return nil, err
	}
	return decodeAnswer(req, w.next, body)
}

// requestFrame encodes a request with its length.
func requestFrame(req kmsg.Request, correlation int32) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("raw")).AppendRequest(nil, req, correlation)
}

// decodeAnswer decodes an answer completely: what kmsg makes of it must encode to the same bytes again, so nothing was left
// over, and nothing was read as something else.
func decodeAnswer(req kmsg.Request, correlation int32, frame []byte) (kmsg.Response, error) {
	if got := int32(binary.BigEndian.Uint32(frame)); got != correlation {
		return nil, fmt.Errorf("correlation id %d, want %d", got, correlation)
	}
	body := frame[4:]
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if resp.IsFlexible() && req.Key() != int16(kmsg.ApiVersions) {
		if len(body) == 0 || body[0] != 0 {
			return nil, fmt.Errorf("the header has tags: %x", frame)
		}
		body = body[1:]
	}
	if err := resp.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("the answer does not decode: %w: %x", err, body)
	}
	if again := resp.AppendTo(nil); !bytes.Equal(again, body) {
		return nil, fmt.Errorf("the answer decodes to something else\n got %x\nmade %x", body, again)
	}
	return resp, nil
}

// frame prefixes a request with its length.
func frame(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// advertised asks for the versions that the broker offers.
func advertised(t testing.TB, node *testcluster.Node) []kmsg.ApiVersionsResponseApiKey {
	t.Helper()
	w := dialWire(t, node)
	defer w.Close()
	resp := w.ask(&kmsg.ApiVersionsRequest{Version: 3, ClientSoftwareName: "badinput", ClientSoftwareVersion: "1"}).(*kmsg.ApiVersionsResponse)
	if resp.ErrorCode != 0 || len(resp.ApiKeys) == 0 {
		t.Fatalf("ApiVersions: %+v", resp)
	}
	return resp.ApiKeys
}

// topicID asks for a topic's id.
func topicID(t testing.TB, node *testcluster.Node, name string) [16]byte {
	t.Helper()
	w := dialWire(t, node)
	defer w.Close()
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 12
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = &name
	req.Topics = append(req.Topics, topic)
	got := w.ask(req).(*kmsg.MetadataResponse).Topics
	if len(got) != 1 || got[0].ErrorCode != 0 {
		t.Fatalf("metadata of %s: %+v", name, got)
	}
	return got[0].TopicID
}

// offsetAt asks ListOffsets about partition 0 of a topic.
func (w *wire) offsetAt(topic string, timestamp int64) (offset int64, code int16) {
	w.t.Helper()
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version, req.ReplicaID = 7, -1
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Timestamp, rp.CurrentLeaderEpoch = timestamp, -1
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	p := w.ask(req).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
	return p.Offset, p.ErrorCode
}

// highWatermark is where the next record of partition 0 would go.
func (w *wire) highWatermark(topic string) int64 {
	w.t.Helper()
	return w.offsetOnce(topic, -1)
}

// offsetOnce asks until there is an answer: a partition that was just opened elects its leader first.
func (w *wire) offsetOnce(topic string, timestamp int64) int64 {
	w.t.Helper()
	for deadline := time.Now().Add(closePatience); ; {
		offset, code := w.offsetAt(topic, timestamp)
		if code == 0 {
			return offset
		}
		if code != codeNotLeader || time.Now().After(deadline) {
			w.t.Fatalf("offset %d of %s: error code %d", timestamp, topic, code)
		}
	}
}

// stillServes proves that other clients are unharmed: a record goes in and comes out.
func stillServes(t testing.TB, node *testcluster.Node) {
	t.Helper()
	w := dialWire(t, node)
	defer w.Close()
	w.ask(createRequest("health", 1)) // it may exist
	cl, err := kgo.NewClient(kgo.SeedBrokers(node.Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	want := fmt.Sprint(time.Now().UnixNano())
	res := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "health", Partition: 0, Value: []byte(want)})
	if err := res.FirstErr(); err != nil {
		t.Fatalf("the broker no longer serves: %v", err)
	}
	r := res[0].Record
	reader, err := kgo.NewClient(kgo.SeedBrokers(node.Addr),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"health": {r.Partition: kgo.NewOffset().At(r.Offset)}}))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	got := reader.PollRecords(t.Context(), 1).Records()
	if len(got) != 1 || string(got[0].Value) != want {
		t.Fatalf("read %v, want %q", got, want)
	}
}

// unharmed checks at the end of a test that the process never stopped, that no handler panicked, and that it serves.
func unharmed(t testing.TB, node *testcluster.Node) {
	t.Helper()
	stillServes(t, node)
	select {
	case <-node.Exited():
		t.Errorf("the process has ended: %v", node.ExitError())
	default:
	}
	if log := node.Log(); strings.Contains(log, "panic") {
		t.Errorf("something panicked:\n%s", log)
	}
}

// procKiB reads a field of /proc/PID/status that is given in KiB, such as VmRSS or VmHWM.
func procKiB(t testing.TB, pid int, field string) int {
	t.Helper()
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Skipf("no /proc here: %v", err)
	}
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte(field+":")); ok {
			kib, err := strconv.Atoi(strings.Fields(string(rest))[0])
			if err != nil {
				t.Fatal(err)
			}
			return kib
		}
	}
	t.Fatalf("no %s in /proc", field)
	return 0
}

// residentKiB reads a process's resident memory.
func residentKiB(t testing.TB, pid int) int { return procKiB(t, pid, "VmRSS") }

// memoryPeak returns by how many KiB a process's resident memory rose at most while do ran.
func memoryPeak(t testing.TB, pid int, do func()) int {
	t.Helper()
	const resetPeak = "5" // see clear_refs in proc(5)
	if err := os.WriteFile("/proc/"+strconv.Itoa(pid)+"/clear_refs", []byte(resetPeak), 0); err != nil {
		t.Skipf("the peak of memory can't be reset: %v", err)
	}
	before := residentKiB(t, pid)
	do()
	return procKiB(t, pid, "VmHWM") - before
}

// clockTick is the unit of CPU times in /proc: 1/sysconf(_SC_CLK_TCK) s, which is 10 ms on every Linux.
const clockTick = 10 * time.Millisecond

// cpuTime is the CPU time that a process has used.
func cpuTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Skipf("no /proc here: %v", err)
	}
	// The second field is the program's name in parentheses. User and system time are fields 14 and 15.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	ticks := 0
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick
}

// errorCodes collects all error codes in a response.
func errorCodes(resp kmsg.Response) []int16 {
	var codes []int16
	eachField(resp, func(name string, field any) {
		if code, ok := field.(*int16); ok && name == "ErrorCode" {
			codes = append(codes, *code)
		}
	})
	slices.Sort(codes)
	return slices.Compact(codes)
}
