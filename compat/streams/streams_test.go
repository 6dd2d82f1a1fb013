package streams

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

const (
	application = "wordcount"
	instances   = 2
	vocabulary  = 50
)

// TestWordCount feeds lines to two instances of the application while nodes and instances are killed.
func TestWordCount(t *testing.T) {
	if rig.Default() {
		t.Skip("with -ci or -full: two Java processes keep two processors busy for half a minute")
	}
	rng := rig.Chance(t)
	argv := rig.Java("WordCount")(t)
	c := testcluster.StartCluster(t, testcluster.ClusterOptions{})
	c.CreateTopic("lines", 4, 3)
	c.CreateTopic("counts", 4, 3)
	apps := make([]*app, instances)
	for i := range apps {
		apps[i] = start(t, c, argv, filepath.Join(t.TempDir(), fmt.Sprint(i)))
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.DefaultProduceTopic("lines"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	out := newReader(t, c)
	want, total := counts{}, 0
	for kill := range rig.Count(1, 4, 30) {
		total += write(t, cl, rng, want, rig.Count(100, 200, 1000))
		out.await(t, total/2)
		if kill%2 == 0 {
			node := rng.IntN(3) + 1
			if kill%4 == 2 {
				node = rig.Coordinator(t, c, application)
			}
			c.Kill(node)
			total += write(t, cl, rng, want, 50)
			out.await(t, total)
			c.StartAll(node)
			rig.AwaitWhole(t, c)
		} else {
			i := rng.IntN(instances)
			apps[i].kill()
			apps[i] = start(t, c, argv, apps[i].dir) // on the store that the crash has left
		}
	}
	out.await(t, total)
	out.awaitEnds(t, rig.SettledEnds(t, c.Admin(), "counts"))
	for _, fault := range out.seen.wrong(want) {
		t.Error(fault)
	}
	t.Logf("%d words counted", total)
}

// write sends lines and counts their words.
func write(t *testing.T, cl *kgo.Client, rng *rand.Rand, want counts, lines int) (words int) {
	t.Helper()
	records := make([]*kgo.Record, lines)
	for i := range records {
		line := make([]string, 1+rng.IntN(8))
		for j := range line {
			line[j] = fmt.Sprintf("word%d", rng.IntN(vocabulary))
			want[line[j]]++
		}
		words += len(line)
		records[i] = kgo.StringRecord(strings.Join(line, " "))
	}
	if err := cl.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return words
}

// reader reads the committed counts.
type reader struct {
	cl   *kgo.Client
	seen outputs
	got  int
	next map[int32]int64 // offset, by partition
}

func newReader(t *testing.T, c *testcluster.Cluster) *reader {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.ConsumeTopics("counts"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return &reader{cl: cl, seen: outputs{}, next: map[int32]int64{}}
}

// await reads until so many counts have come.
func (r *reader) await(t *testing.T, total int) {
	t.Helper()
	rig.Await(t, func() string {
		r.poll(t)
		if r.got >= total {
			return ""
		}
		return fmt.Sprintf("%d counts of %d have come", r.got, total)
	})
}

// awaitEnds reads up to the ends of all partitions: a count that came out twice may be the last.
func (r *reader) awaitEnds(t *testing.T, ends map[int32]int64) {
	t.Helper()
	rig.Await(t, func() string {
		for p, end := range ends {
			if r.next[p] < end {
				r.poll(t)
				return fmt.Sprintf("partition %d is read up to %d of %d", p, r.next[p], end)
			}
		}
		return ""
	})
}

// poll takes what has come; the last of a transaction is its marker.
func (r *reader) poll(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	r.cl.PollFetches(ctx).EachRecord(func(rec *kgo.Record) {
		if r.next[rec.Partition] = rec.Offset + 1; rec.Attrs.IsControl() {
			return
		}
		r.seen[string(rec.Key)] = append(r.seen[string(rec.Key)], string(rec.Value))
		r.got++
	})
}

// app is one instance of the application.
type app struct {
	cmd *exec.Cmd
	dir string
	log bytes.Buffer // the process writes it; it is read when the process is gone
}

func start(t *testing.T, c *testcluster.Cluster, argv []string, dir string) *app {
	t.Helper()
	args := append(argv[1:len(argv):len(argv)], strings.Join(c.Addrs(), ","), "lines", "counts", application, dir)
	a := &app{cmd: exec.Command(argv[0], args...), dir: dir}
	a.cmd.Stdout, a.cmd.Stderr = &a.log, &a.log
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.kill()
		if t.Failed() {
			t.Logf("the application in %s:\n%s", dir, a.tail())
		}
	})
	return a
}

// kill ends the process as a crash does and waits until it is gone.
func (a *app) kill() {
	_ = a.cmd.Process.Kill() // it may have ended
	_ = a.cmd.Wait()         // killed, so with an error
}

// tail is the end of what a process that is gone has printed.
func (a *app) tail() string {
	const most = 4 << 10
	if a.cmd.ProcessState == nil {
		return ""
	}
	text := a.log.String()
	return text[max(0, len(text)-most):]
}
