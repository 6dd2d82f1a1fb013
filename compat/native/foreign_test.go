package native

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/grpcapi/client"
	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
)

// foreignLines is how many records go each way.
const foreignLines = 500

// run runs a program of somebody else and returns what it prints.
func (w *world) run(argv ...string) string {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		w.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, errs.String())
	}
	return out.String()
}

// lines are written to a file, too.
func (w *world) lines(from string) (file string, lines []string) {
	w.Helper()
	for i := range foreignLines {
		lines = append(lines, fmt.Sprintf("%s %d", from, i))
	}
	file = filepath.Join(w.TempDir(), from)
	w.must(os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	return file, lines
}

// TestPython: a client that is generated from the protos, in Python, beside Kafka's.
func TestPython(t *testing.T) {
	python := rig.Python("native.py", "grpc_tools")(t)
	w := newWorld(t, 3)
	w.topic("python", 1)
	file, lines := w.lines("python")
	w.run(slices.Concat(python, []string{"produce", w.addrs[0], "python", file})...)
	cl := w.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"python": {0: kgo.NewOffset().AtStart()}}))
	for n := 0; n < len(lines); {
		fetches := cl.PollFetches(w.ctx)
		w.must(fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			if string(r.Value) != lines[n] || len(r.Headers) != 2 || string(r.Headers[0].Value) != "python" || r.Headers[1].Value != nil || r.Key != nil {
				w.Errorf("%d: %v", n, r)
			}
			n++
		})
	}
	w.topic("to-python", 1)
	_, lines = w.lines("kafka")
	for _, line := range lines {
		w.kafka.Produce(w.ctx, &kgo.Record{Topic: "to-python", Value: []byte(line)}, nil)
	}
	w.must(w.kafka.Flush(w.ctx))
	got := w.run(slices.Concat(python, []string{"consume", w.addrs[1], "to-python", fmt.Sprint(len(lines))})...)
	if got != strings.Join(lines, "\n")+"\n" {
		w.Errorf("Python reads %d bytes: %.200s", len(got), got)
	}
	if got := w.run(slices.Concat(python, []string{"refused", w.addrs[w.leader("python", 0)], "python", ""})...); got != "OUT_OF_RANGE OFFSET_OUT_OF_RANGE 0 500\n" {
		w.Errorf("an error tells %q", got)
	}
}

// TestKcat: what kcat writes, gRPC reads, and the other way round, with every codec that kcat has, keys, headers, times and nulls.
func TestKcat(t *testing.T) {
	kcat := rig.Tool(t, "kcat")
	w := newWorld(t, 1)
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		topic := "kcat-" + codec
		w.topic(topic, 1)
		file := filepath.Join(w.TempDir(), topic)
		w.must(os.WriteFile(file, []byte("key:value\n:no key\ntombstone:\n"), 0o600))
		w.run(kcat, "-b", w.addrs[0], "-t", topic, "-P", "-Z", "-K:", "-H", "a=1", "-H", "a=2", "-z", codec, "-l", file)
		got, err := w.records(0).Consume(w.ctx, &quorlogv1.ConsumeRequest{Topic: topic})
		w.must(err)
		const headers = ` [a=[]byte{0x31} a=[]byte{0x32}]`
		var shapes []string
		for _, r := range got.GetRecords() {
			if r.GetTimestampMs() < 1_700_000_000_000 {
				w.Errorf("%v", r)
			}
			r.TimestampMs = nil
			shapes = append(shapes, shapeOf(r))
		}
		want := []string{
			shape([]byte("key"), []byte("value"), 0, nil), shape(nil, []byte("no key"), 0, nil), shape([]byte("tombstone"), nil, 0, nil),
		}
		for i := range want {
			want[i] = strings.TrimSuffix(want[i], " []") + headers
		}
		if !slices.Equal(shapes, want) {
			w.Errorf("%s: %q, want %q", codec, shapes, want)
		}
	}
	w.topic("for-kcat", 1)
	_, err := w.records(0).Produce(w.ctx, &quorlogv1.ProduceRequest{Topic: "for-kcat", Records: odd()})
	w.must(err)
	got := w.run(kcat, "-b", w.addrs[0], "-t", "for-kcat", "-C", "-e", "-q", "-f", `%o %T %K/%k %S/%s %h\n`)
	want := "0 1700000000123 3/key 5/value \n1 1700000000000 -1/ 6/no key \n2 1700000000001 9/tombstone -1/ \n" +
		"3 1700000000002 0/ 0/ \n4 1700000000003 2/\x00\xff 1/\x01 a=1,a=2,null=NULL,=\n"
	if got != want {
		w.Errorf("kcat reads %q, want %q", got, want)
	}
}

// TestForeignHeaders: a header whose name is no text, which Kafka's clients may write, keeps nobody from reading on.
func TestForeignHeaders(t *testing.T) {
	w := newWorld(t, 3)
	w.topic("headers", 1)
	for _, r := range []*kgo.Record{
		{Value: []byte("a")}, {Value: []byte("odd"), Headers: []kgo.RecordHeader{{Key: "\xff", Value: []byte("\xfe")}}}, {Value: []byte("b")},
	} {
		r.Topic = "headers"
		w.must(w.kafka.ProduceSync(w.ctx, r).FirstErr())
	}
	check := func(how string, records []*quorlogv1.Record) {
		w.Helper()
		if len(records) != 3 || string(records[0].GetValue()) != "a" || string(records[2].GetValue()) != "b" {
			w.Errorf("%s: %v", how, records)
			return
		}
		if h := records[1].GetHeaders(); len(h) != 1 || h[0].GetKey() != "\ufffd" || string(h[0].GetValue()) != "\xfe" {
			w.Errorf("%s: %q", how, h)
		}
	}
	for node := range w.addrs {
		check("Consume", headersConsumed(w, node))
		check("ConsumeStream", headersStreamed(w, node))
	}
	base := "http://" + w.addrs[w.leader("headers", 0)] + "/v1/topics/headers/partitions/0/"
	status, text := w.http(http.MethodGet, base+"records?offset=0", nil)
	answer := new(quorlogv1.ConsumeResponse)
	if err := protojson.Unmarshal([]byte(text), answer); err != nil || status != http.StatusOK {
		w.Error(status, text, err)
	}
	check("HTTP", answer.GetRecords())
	check("a stream by HTTP", headersByWeb(w, base+"stream"))
	var records []*quorlogv1.Record
	for r, err := range newClient(t, w.addrs, client.Options{}).Read(w.ctx, client.ReadOptions{Topic: "headers"}) {
		if err != nil {
			w.Error(err)
			break
		}
		out := &quorlogv1.Record{Value: r.Value}
		for _, h := range r.Headers {
			out.Headers = append(out.Headers, &quorlogv1.Header{Key: h.Key, Value: h.Value})
		}
		if records = append(records, out); len(records) == 3 {
			break
		}
	}
	check("the client", records)
}

// headersConsumed reads three records by calls, from wherever the one before ended.
func headersConsumed(w *world, node int) (records []*quorlogv1.Record) {
	w.Helper()
	for next := int64(0); len(records) < 3; {
		got, err := w.records(node).Consume(w.ctx, &quorlogv1.ConsumeRequest{
			Topic: "headers", Start: &quorlogv1.ConsumeRequest_Offset{Offset: next}, MaxWaitMs: 10_000,
		})
		if err != nil {
			w.Error(err)
			return records
		}
		records, next = append(records, got.GetRecords()...), got.GetNextOffset()
	}
	return records
}

// headersStreamed reads three records by a stream.
func headersStreamed(w *world, node int) (records []*quorlogv1.Record) {
	w.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	stream, err := w.records(node).ConsumeStream(ctx, &quorlogv1.ConsumeRequest{Topic: "headers"})
	w.must(err)
	for len(records) < 3 {
		got, err := stream.Recv()
		if err != nil {
			w.Error(err)
			return records
		}
		records = append(records, got.GetRecords()...)
	}
	return records
}

// headersByWeb does so by HTTP.
func headersByWeb(w *world, url string) (records []*quorlogv1.Record) {
	w.Helper()
	req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, url, nil)
	w.must(err)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	w.must(err)
	defer func() { _ = resp.Body.Close() }()
	for lines := bufio.NewScanner(resp.Body); len(records) < 3 && lines.Scan(); {
		var line struct{ Result json.RawMessage }
		w.must(json.Unmarshal(lines.Bytes(), &line))
		got := new(quorlogv1.ConsumeResponse)
		if err := protojson.Unmarshal(line.Result, got); err != nil {
			w.Error(err, lines.Text())
			return records
		}
		records = append(records, got.GetRecords()...)
	}
	return records
}
