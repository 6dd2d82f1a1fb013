// Package compaction proves compacted topics from the outside: real nodes, a real client, kills.
package compaction

import (
	"context"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestOneNode and TestThreeNodes write updates of a few keys to a compacted topic, with kill -9 of the leader in between,
// while a reader reads it from the beginning again and again.
func TestOneNode(t *testing.T) { updates(t, 1, 1) }

func TestThreeNodes(t *testing.T) { updates(t, 3, 3) }

const topic = "updates"

// run is one test.
type run struct {
	t       *testing.T
	c       *testcluster.Cluster
	keys    int
	segment int
	rate    int // updates per second; 0: as fast as they are taken
	next    int

	mu struct { // what the writer and a reader beside it share
		sync.Mutex
		sent []int // by key: the newest update that was handed to the client, -1 for none
		last []int // by key: the newest that was acknowledged, -1 for none
	}
}

// cold is that of so many keys one is rarely updated: at the beginning of each write only. While that is long over, a reader that does
// not find such a key's update has missed it; of a key that is updated all the time it may have come too late for the one, and have
// stopped before the next.
const cold = 10

func updates(t *testing.T, nodes int, replicas int16) {
	r := &run{t: t, keys: rig.Count(2_000, 10_000, 100_000), segment: rig.Count(1<<20, 4<<20, 64<<20)}
	if rig.Full() { // a latency says something where nothing queues
		r.rate = 20_000
	}
	total, kills := rig.Count(120_000, 1_000_000, 10_000_000), rig.Count(1, 3, 10)
	r.c = testcluster.StartCluster(t, testcluster.ClusterOptions{Nodes: nodes, Args: []string{
		"--set", "log.cleaner.backoff.ms=200", "--set", "log.retention.check.interval.ms=1000",
	}})
	r.forget()
	r.c.CreateTopic("plain", 1, replicas, fmt.Sprintf("segment.bytes=%d", r.segment))
	reader := r.startReader("plain")
	before := r.write("plain", total/(kills+1))
	reader.stop()
	r.forget()
	r.c.CreateTopic(topic, 1, replicas, "cleanup.policy=compact", "min.cleanable.dirty.ratio=0.1", fmt.Sprintf("segment.bytes=%d", r.segment))
	reader = r.startReader(topic)
	var during []float64
	for k := range kills + 1 {
		during = append(during, r.write(topic, total/(kills+1)))
		if k < kills {
			leader := r.c.LeaderOf(topic, 0)
			r.c.Kill(leader)
			r.c.StartAll(leader)
			rig.AwaitWhole(t, r.c) // what a restart costs is measured elsewhere
		}
	}
	passes, checked := reader.stop()
	t.Logf("%d updates of %d keys, %d reads from the beginning meanwhile, which had to find %d updates", total, r.keys, passes, checked)
	middle := slices.Sorted(slices.Values(during))[len(during)/2]
	t.Logf("p99 of a produce: %.1f ms without compaction, %.1f ms with (the middle of %.1f), ratio %.2f", before, middle, during, middle/before)
	if rig.Full() && middle > 2*before {
		t.Error("the aim is that compaction doubles it at most")
	}
	r.checkEnd()
	r.checkSize(nodes, total)
	r.c.Kill(r.c.IDs()...)
	r.c.StartAll(r.c.IDs()...)
	r.checkEnd()
	r.checkKcat()
}

// forget is for a topic in which nothing is yet.
func (r *run) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.sent = slices.Repeat([]int{-1}, r.keys)
	r.mu.last = slices.Clone(r.mu.sent)
}

func (r *run) acknowledged() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.mu.last)
}

// reader reads a topic from the beginning again and again until it is stopped, and counts.
type reader struct {
	t       *testing.T
	done    chan struct{}
	ended   sync.WaitGroup
	passes  int
	checked atomic.Int64 // updates that had to be there, in all passes
}

func (r *run) startReader(topic string) *reader {
	d := &reader{t: r.t, done: make(chan struct{})}
	d.ended.Go(func() {
		for !rig.Idle(10*time.Millisecond, d.done) {
			want := r.acknowledged()
			if found := r.read(topic); found != nil {
				checked, wrong := r.missed(want, found)
				if wrong != "" {
					r.t.Errorf("a read of %s beside the updates: %s", topic, wrong)
				}
				d.passes++
				d.checked.Add(int64(checked))
			}
		}
	})
	return d
}

// stop waits until something had to be found, if nothing was yet.
func (d *reader) stop() (passes int, checked int64) {
	d.t.Helper()
	rig.Await(d.t, func() string {
		if d.checked.Load() == 0 {
			return "no read beside the updates had to find anything"
		}
		return ""
	})
	close(d.done)
	d.ended.Wait()
	return d.passes, d.checked.Load()
}

// missed asks that a read has found what was acknowledged before it began, of all keys for which nothing was sent since. It returns how
// many these were, and what is wrong with them; "" is nothing.
func (r *run) missed(want []int, found map[string]int) (checked int, wrong string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	missed := 0
	for key, n := range want {
		if n < 0 || r.mu.sent[key] > n {
			continue
		}
		checked++
		if got, ok := found[strconv.Itoa(key)]; !ok || got != n {
			if missed++; missed == 1 {
				wrong = fmt.Sprintf("key %d is %d (%t), acknowledged before was %d", key, got, ok, n)
			}
		}
	}
	if missed > 1 {
		wrong += fmt.Sprintf(", and %d more of %d", missed-1, checked)
	}
	return checked, wrong
}

// TestMissed shows the check what it must find, and what it must let pass.
func TestMissed(t *testing.T) {
	r := &run{keys: 3}
	r.forget()
	r.mu.sent = []int{4, 7, -1}
	want := []int{4, 6, -1} // key 1 was updated while the read went on
	for _, c := range []struct {
		found map[string]int
		wrong string
	}{
		{map[string]int{"0": 4, "1": 6}, ""},
		{map[string]int{"0": 4, "1": 7}, ""},
		{map[string]int{"0": 4}, ""},
		{map[string]int{"1": 6}, "key 0 is 0 (false), acknowledged before was 4"},
		{map[string]int{"0": 3, "1": 6}, "key 0 is 3 (true), acknowledged before was 4"},
	} {
		if checked, wrong := r.missed(want, c.found); checked != 1 || wrong != c.wrong {
			t.Errorf("%v: %d were checked: %q, want %q", c.found, checked, wrong, c.wrong)
		}
	}
}

func (r *run) client(opts ...kgo.Opt) *kgo.Client {
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(r.c.Addrs()...)}, opts...)...)
	if err != nil {
		r.t.Error(err)
	}
	return cl
}

// value is one update: its number, in as many bytes as a small record has.
func value(n int) []byte { return fmt.Appendf(nil, "%d %s", n, strings.Repeat("x", 100)) }

func number(b []byte) int {
	n, err := strconv.Atoi(strings.Fields(string(b))[0])
	if err != nil {
		return -2
	}
	return n
}

// write sends so many updates, in the order of their numbers, and returns the p99 of their latencies in ms, each from the
// moment when it was due.
func (r *run) write(topic string, n int) float64 {
	cl := r.client(kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MaxBufferedRecords(2_000), kgo.MetadataMinAge(100*time.Millisecond))
	defer cl.Close()
	latencies := make([]float64, 0, n)
	due := newSchedule(r.rate)
	for i := range n {
		number := r.next
		r.next++
		key := number * 7919 % r.keys
		if i >= r.keys && key%cold == 0 {
			key++
		}
		began := due.next()
		r.send(key, number)
		cl.Produce(context.Background(), &kgo.Record{Key: strconv.AppendInt(nil, int64(key), 10), Value: value(number)}, func(_ *kgo.Record, err error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if err != nil {
				r.t.Errorf("update %d: %v", number, err)
				return
			}
			latencies = append(latencies, float64(time.Since(began).Microseconds())/1000)
			r.mu.last[key] = number
		})
	}
	if err := cl.Flush(context.Background()); err != nil {
		r.t.Error(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.Sort(latencies)
	return latencies[len(latencies)*99/100]
}

// send notes that an update is about to be sent.
func (r *run) send(key, number int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.sent[key] = number
}

// schedule hands out times at a rate, those of a millisecond together.
type schedule struct {
	rate int
	from time.Time
	sent int
}

func newSchedule(rate int) *schedule { return &schedule{rate: rate, from: time.Now()} }

// next waits until the next one is due, and returns when that was; without a rate, now.
func (s *schedule) next() time.Time {
	if s.rate == 0 {
		return time.Now()
	}
	due := s.from.Add((time.Duration(s.sent) * time.Second / time.Duration(s.rate)).Truncate(time.Millisecond))
	s.sent++
	if early := time.Until(due); early > 0 {
		rig.Idle(early, nil)
	}
	return due
}

// read reads the topic from the beginning to what is its end then, and returns the last number of each key. Offsets and a
// key's numbers must rise.
func (r *run) read(topic string) map[string]int {
	ends, err := r.c.Admin().ListEndOffsets(context.Background(), topic)
	end, ok := ends.Lookup(topic, 0)
	if err != nil || !ok || end.Err != nil {
		return nil // the leader was just killed
	}
	cl := r.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}), kgo.KeepControlRecords())
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	found, at := map[string]int{}, int64(-1)
	for at < end.Offset-1 {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			r.t.Errorf("reading stopped at %d of %d", at, end.Offset)
			return nil
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			n, key := number(rec.Value), string(rec.Key)
			if rec.Offset <= at {
				r.t.Errorf("offset %d follows %d", rec.Offset, at)
			}
			if old, ok := found[key]; ok && n <= old {
				r.t.Errorf("key %s: update %d at offset %d follows %d", key, n, rec.Offset, old)
			}
			found[key], at = n, rec.Offset
		})
	}
	return found
}

// checkEnd asks that the last value of every key is there.
func (r *run) checkEnd() {
	r.t.Helper()
	var found map[string]int
	rig.Await(r.t, func() string {
		if found = r.read(topic); found == nil {
			return "the topic's end is not known"
		}
		return ""
	})
	for key, want := range r.acknowledged() {
		got, ok := found[strconv.Itoa(key)]
		if want >= 0 && (!ok || got != want) {
			r.t.Fatalf("key %d is %d (%t), acknowledged was %d", key, got, ok, want)
		}
	}
}

// checkKcat asks the same of librdkafka, which meets batches without records here.
func (r *run) checkKcat() {
	r.t.Helper()
	kcat, err := exec.LookPath("kcat")
	if err != nil {
		testcluster.Missing(r.t, "kcat", err)
	}
	out, err := exec.Command(kcat, "-C", "-b", strings.Join(r.c.Addrs(), ","), "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%k %s\n").Output()
	if err != nil {
		r.t.Fatalf("kcat: %v", err)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if words := strings.Fields(line); len(words) > 1 {
			found[words[0]] = words[1]
		}
	}
	for key, want := range r.acknowledged() {
		if got := found[strconv.Itoa(key)]; want >= 0 && got != strconv.Itoa(want) {
			r.t.Fatalf("kcat: key %d is %q, acknowledged was %d", key, got, want)
		}
	}
}

// checkSize waits until every node's partition is as small as its keys and a few segments.
func (r *run) checkSize(nodes, updates int) {
	r.t.Helper()
	id := r.topicID()
	limit := int64(3*r.keys*len(value(1<<20)) + 4*r.segment)
	for node := 1; node <= nodes; node++ {
		var size int64
		rig.Await(r.t, func() string {
			if size = r.size(node, id); size <= limit {
				return ""
			}
			return fmt.Sprintf("node %d has %d bytes of the topic, more than %d", node, size, limit)
		})
		r.t.Logf("node %d has %d bytes of the topic, a limit of %d; %d updates were %d bytes", node, size, limit, updates, updates*len(value(updates)))
	}
}

func (r *run) topicID() string {
	topics, err := r.c.Admin().ListTopics(context.Background(), topic)
	if err != nil {
		r.t.Fatal(err)
	}
	id := topics[topic].ID
	return hex.EncodeToString(id[:])
}

// size adds up the .log files of a topic at a node.
func (r *run) size(node int, id string) (bytes int64) {
	_ = filepath.WalkDir(filepath.Join(r.c.Node(node).DataDir, "partitions"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".log") && strings.Contains(path, id) {
			if info, err := d.Info(); err == nil {
				bytes += info.Size()
			}
		}
		return nil
	})
	return bytes
}
