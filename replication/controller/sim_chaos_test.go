package controller

//quorlog:bubble simulate runs every test of this file in one

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/quorlog/quorlog/replication"
)

// TestSimChaos: crashes, cuts in one and two directions, lost answers, wiped and drained nodes, while all nodes change things.
// What was acknowledged is there, what was definitely refused is not, and in the end all nodes agree.
func TestSimChaos(t *testing.T) {
	for seed := *simSeed; seed < *simSeed+uint64(*simRounds); seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			simulate(t, func(t *testing.T, c *cluster) {
				rng := rand.New(rand.NewPCG(seed, 11))
				c.found(3 + rng.IntN(3))
				ch := &chaos{cluster: c, rng: rng, made: map[string]bool{}, refused: map[string]bool{}, maybe: map[string]bool{}}
				for range 25 {
					ch.event()
					ch.work()
				}
				ch.finish()
				t.Logf("seed %d: %d topics made, %d refused, %d of unknown outcome, %d wipes, metadata at %d", seed, len(ch.made), len(ch.refused), len(ch.maybe), ch.wipes, c.leader().ctl.Image().Index)
			})
		})
	}
}

type chaos struct {
	*cluster
	rng                  *rand.Rand
	made, refused, maybe map[string]bool
	topics, wipes        int
}

func (ch *chaos) pick(all []*member) *member { return all[ch.rng.IntN(len(all))] }

func (ch *chaos) off() []*member {
	var out []*member
	for _, id := range slices.Sorted(maps.Keys(ch.nodes)) {
		if !ch.nodes[id].on() {
			out = append(out, ch.nodes[id])
		}
	}
	return out
}

// event does something bad, or undoes it. A majority of the nodes stays on.
func (ch *chaos) event() {
	most := (len(ch.nodes) - 1) / 2
	switch k := ch.rng.IntN(9); {
	case k == 0 && len(ch.off()) < most:
		ch.pick(ch.present()).stop()
	case k == 1 && len(ch.off()) < most && ch.leader() != nil:
		ch.leader().stop()
	case k == 2 && len(ch.off()) > 0:
		ch.restart(ch.pick(ch.off()))
	case k == 3 && ch.formed() && len(ch.off()) < most && ch.wipes < 3:
		// Another disk is lost only once all is well again: two lost disks of three are a lost majority.
		victim := ch.pick(ch.present())
		victim.stop()
		victim.wipe()
		ch.wipes++
		ch.restart(victim)
	case k == 4:
		a := ch.pick(ch.present())
		for id := range ch.nodes {
			ch.cut(a.id, id)
		}
	case k == 5:
		ch.oneWay(ch.pick(ch.present()).id, ch.pick(ch.present()).id)
	case k == 6:
		ch.calls.mu.Lock()
		ch.calls.losing[ch.pick(ch.present()).id]++
		ch.calls.mu.Unlock()
	default:
		ch.mendAll()
	}
	time.Sleep(time.Duration(ch.rng.IntN(2500)) * time.Millisecond) // of the simulation
}

// restart turns a node on; if it can't join now, it stays off.
func (ch *chaos) restart(m *member) {
	ctx, cancel := context.WithTimeout(ch.t.Context(), 5*time.Second)
	defer cancel()
	if err := m.start(ctx); err != nil && !errors.Is(err, ErrNotController) && !errors.Is(err, replication.ErrUnknownOutcome) {
		ch.t.Fatalf("node %d: %v; %s", m.id, err, ch.state())
	}
}

// work lets all nodes make a topic at once.
func (ch *chaos) work() {
	type result struct {
		name string
		err  error
	}
	results := make(chan result, len(ch.nodes))
	n := 0
	for _, m := range ch.present() {
		name := fmt.Sprintf("t%d", ch.topics)
		ch.topics++
		n++
		go func() {
			ctx, cancel := context.WithTimeout(ch.t.Context(), 2*time.Second)
			defer cancel()
			results <- result{name, m.ctl.CreateTopics(ctx, oneTopic(name), false)[0].Err}
		}()
	}
	for range n {
		switch r := <-results; {
		case r.err == nil:
			ch.made[r.name] = true
		case errors.Is(r.err, replication.ErrUnknownOutcome):
			ch.maybe[r.name] = true
		case errors.Is(r.err, ErrNotController), errors.Is(r.err, replication.ErrInvalidReplicationFactor):
			ch.refused[r.name] = true
		default:
			ch.t.Errorf("topic %s: %v", r.name, r.err)
		}
	}
}

// finish mends everything and checks the outcome.
func (ch *chaos) finish() {
	ch.mendAll()
	for range 20 {
		for _, m := range ch.off() {
			ch.restart(m)
		}
	}
	if left := ch.off(); len(left) > 0 {
		ch.t.Fatalf("node %d does not start", left[0].id)
	}
	ch.until("all is well", ch.formed)
	im := ch.leader().ctl.Image()
	for name := range ch.made {
		if im.Topics[name] == nil {
			ch.t.Errorf("topic %s was made and is lost", name)
		}
	}
	for name := range ch.refused {
		if im.Topics[name] != nil {
			ch.t.Errorf("topic %s was refused and is there", name)
		}
	}
}
