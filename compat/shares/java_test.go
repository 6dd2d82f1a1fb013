package shares

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/quorlog/quorlog/compat/rig"
)

// TestJava has three of Kafka's own share consumers process records while they are produced; one is killed and replaced, then the
// node that leads the first partition is killed and restarted. In the end each record was accepted, none was accepted twice, no
// delivery was beyond the limit, and the group is at the end of every partition.
func TestJava(t *testing.T) {
	argv := rig.Java("Client")(t)
	if rig.Default() {
		t.Skip("with -ci or -full: four Java processes keep two processors busy for half a minute")
	}
	for _, mode := range []string{"implicit", "explicit"} {
		t.Run(mode, func(t *testing.T) {
			c := shortLocks(t)
			c.CreateTopic(topic, partitions, 3)
			j := &javaGroup{t: t, argv: append(slices.Clone(argv), "share", strings.Join(c.Addrs(), ","), topic, group, mode)}
			j.work = &work{t: t, c: c, total: rig.Count(2_000, 6_000, 60_000), done: map[string]int{}}
			j.configure()
			ctx, cancel := context.WithCancel(t.Context())
			var producing sync.WaitGroup
			producing.Go(func() { j.produce(ctx) })
			defer producing.Wait()
			defer cancel()
			for range 3 {
				j.hire()
			}
			j.awaitMore()
			for range rig.Count(1, 1, 5) {
				j.members[0].Kill()
				j.members = j.members[1:]
				j.hire()
				j.awaitMore()
				node := c.LeaderOf(topic, 0)
				c.Kill(node)
				j.awaitMore()
				c.StartAll(node)
				rig.AwaitWhole(t, c)
			}
			rig.Await(t, func() string { return j.about(j.unseen(j.total)) })
			rig.Await(t, func() string { return j.about(j.behind()) })
			j.verdict()
		})
	}
}

// javaGroup is a share group of Java processes. In its work, done counts how often the acceptance of a value was answered.
type javaGroup struct {
	*work
	t       *testing.T
	argv    []string
	members []*rig.Process

	seen struct {
		sync.Mutex
		values map[string]bool
		wrong  []string
	}
}

func (j *javaGroup) hire() {
	j.t.Helper()
	p, err := rig.Run(j.argv, j.line)
	if err != nil {
		j.t.Fatal(err)
	}
	j.t.Cleanup(p.Kill)
	j.members = append(j.members, p)
}

// line takes one line of a member, as compat/clients/README.md has it.
func (j *javaGroup) line(line string) {
	if value, ok := strings.CutPrefix(line, "accepted "); ok {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.done[value]++
		return
	}
	rest, ok := strings.CutPrefix(line, "got ")
	if !ok {
		return // a client's own chatter
	}
	var count int32
	var value string
	if _, err := fmt.Sscan(rest, &count, &value); err != nil {
		j.seen.Lock()
		defer j.seen.Unlock()
		j.seen.wrong = append(j.seen.wrong, fmt.Sprintf("a member printed %q: %v", line, err))
		return
	}
	j.note(value, count, true)
	j.seen.Lock()
	defer j.seen.Unlock()
	if j.seen.values == nil {
		j.seen.values = map[string]bool{}
	}
	j.seen.values[value] = true
}

// unseen says what is missing to so many records that were delivered.
func (j *javaGroup) unseen(want int) string {
	if n := j.delivered(); n < want {
		return fmt.Sprintf("%d of %d records were delivered", n, want)
	}
	return ""
}

func (j *javaGroup) delivered() int {
	j.seen.Lock()
	defer j.seen.Unlock()
	return len(j.seen.values)
}

// about adds what matters more: that a member has ended by itself.
func (j *javaGroup) about(missing string) string {
	for _, m := range j.members {
		if why := m.Gone(); why != "" {
			return why
		}
	}
	return missing
}

// awaitMore waits until another seventh of the records was delivered, or all there are. Acceptances are no measure: those of a
// whole batch may have been stored when the member that would tell of them is killed.
func (j *javaGroup) awaitMore() {
	j.t.Helper()
	want := min(j.delivered()+j.total/7, j.total)
	rig.Await(j.t, func() string { return j.about(j.unseen(want)) })
}

// verdict judges what was accepted. An acceptance whose answer was lost with a node or a member is in no list; that the group
// stands at the end of the partitions tells of those.
func (j *javaGroup) verdict() {
	j.t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	for value, times := range j.done {
		if times > 1 {
			j.t.Errorf("record %s was accepted %d times", value, times)
		}
	}
	if j.most > deliveryLimit {
		j.t.Errorf("a record was delivered %d times", j.most)
	}
	for _, wrong := range j.seen.wrong {
		j.t.Error(wrong)
	}
	j.t.Logf("%d records, %d deliveries, at most %d of one, %d acceptances answered", j.total, j.deliveries, j.most, len(j.done))
}
