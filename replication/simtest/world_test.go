package simtest

//quorlog:bubble a world lives in one

import (
	"flag"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
)

var (
	seedFlag   = flag.Uint64("sim.seed", 1, "first seed of the simulated clusters")
	wantFlag   = flag.Int("sim.failovers", 60, "fail-overs that the simulated clusters are to live through, and a tenth as many power cuts of all machines")
	roundsFlag = flag.Int("sim.rounds", 0, "simulated clusters, one after the other, whatever happens in them; 0: as many as -sim.failovers takes")
	eventsFlag = flag.Int("sim.events", 60, "events in the life of a simulated cluster")
	fullFlag   = flag.Bool("full", false, "run the full counts (minutes to hours)")
	logFlag    = flag.Bool("sim.log", false, "print what happens")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	machineCount   = 4
	replicaCount   = 3
	partitionCount = 4
	// tick is how often the events' goroutine looks at everything, in virtual time.
	tick = 50 * time.Millisecond
)

// world is a cluster in a bubble.
type world struct {
	t        *testing.T
	book     *book
	rng      *rand.Rand // the events'
	weather  *weather
	machines []*machine
	truths   []*truth
	lies     []vfs.Rule // what every disk does wrong, planted

	places  []place
	reached chan finished
	helpers sync.WaitGroup // goroutines that end by themselves, at the latest when the machines are off

	cut struct {
		sync.Mutex
		routes map[route]bool // by the events; those of machines that are off come on top
	}
	clients struct {
		stop chan struct{}
		sync.WaitGroup
	}
}

// plan is what a run of rounds does.
type plan struct {
	events int
	only   []string // names of events; nil: all
	lies   []vfs.Rule
	plain  bool // no idempotent producers
}

// runRound lives through one cluster.
func runRound(t *testing.T, b *book, seed uint64, p plan) {
	synctest.Test(t, func(t *testing.T) {
		b.mu.Lock()
		b.seed = seed
		b.mu.Unlock()
		w := &world{t: t, book: b, rng: rand.New(rand.NewPCG(seed, 4)), weather: newWeather(seed), lies: p.lies}
		w.cut.routes = make(map[route]bool)
		for i := range partitionCount {
			w.truths = append(w.truths, newTruth(b, i))
		}
		w.found()
		for i := range machineCount {
			w.machines = append(w.machines, newMachine(w, i+1))
		}
		for _, m := range w.machines {
			m.start()
		}
		began := time.Now()
		w.startClients(p.plain)
		w.live(p)
		if !b.broken() {
			w.settle()
		}
		w.end()
		b.count("rounds", 1)
		b.count("virtual seconds", int(time.Since(began).Seconds()))
	})
}

// live lets events happen.
func (w *world) live(p plan) {
	w.await("the first leaders", w.allLed)
	events := choose(p.only)
	for range p.events {
		if w.book.broken() {
			return
		}
		e := events[w.rng.IntN(len(events))]
		w.note("event", "name", e.name)
		e.do(w)
		w.book.count("events: "+e.name, 1)
		w.pass(time.Duration(w.rng.IntN(400)) * time.Millisecond)
		w.look()
		if w.rng.IntN(3) == 0 {
			w.audit(w.rng.IntN(len(w.truths)))
		}
	}
}

// end turns everything off, whatever state it is in.
func (w *world) end() {
	w.calm()
	for _, m := range w.machines {
		m.mend()
	}
	w.stopClients()
	for _, m := range w.machines {
		if m.image.Load() != nil || m.fatal.Load() != nil {
			m.kill(vfs.CrashOptions{})
			m.bury()
		}
		m.stop()
	}
	w.helpers.Wait()
	for !w.weather.idle() {
		time.Sleep(tick)
	}
}

// pass lets time go by. Machines whose process must end do so, those that are off come back, and all is looked at.
func (w *world) pass(d time.Duration) {
	for end := time.Now().Add(d); ; {
		w.reap()
		w.follow()
		w.look()
		left := time.Until(end)
		if left <= 0 || w.book.broken() {
			return
		}
		time.Sleep(min(left, tick))
	}
}

// reap ends processes that must end, and turns on machines whose time has come.
func (w *world) reap() {
	for _, m := range w.machines {
		if err := m.fatal.Load(); m.up && (err != nil || m.gone.Load()) {
			if !m.faulty && err != nil {
				w.book.violate(storageHolds, "node %d: %v", m.node, *err)
			}
			m.crash(vfs.CrashOptions{Survive: -1}, w.upTo(time.Second))
		}
		if !m.up && !time.Now().Before(m.back) && !w.book.broken() {
			m.start()
		}
	}
}

// await waits for a condition, and gives up after two minutes, which is a violation.
func (w *world) await(what string, ok func() bool) bool {
	for deadline := time.Now().Add(2 * time.Minute); ; {
		if w.book.broken() {
			return false
		}
		if ok() {
			return true
		}
		if time.Now().After(deadline) {
			w.book.violate(becomesWhole, "two minutes have passed without %s: %s", what, w.describe())
			return false
		}
		w.pass(tick)
	}
}

func (w *world) upTo(d time.Duration) time.Duration { return time.Duration(w.rng.Int64N(int64(d))) }

func (w *world) newRand() *rand.Rand { return rand.New(rand.NewPCG(w.rng.Uint64(), 5)) }

func (w *world) anyMachine() *machine { return w.machines[w.rng.IntN(len(w.machines))] }

func (w *world) config() replication.TopicConfig {
	return replication.TopicConfig{
		CleanupPolicy: replication.CleanupDelete, RetentionTime: -1, RetentionBytes: -1,
		SegmentBytes: 4 << 10, SegmentAge: time.Hour, SegmentIndexBytes: 10 << 20, MinInsyncReplicas: 1,
	}
}

// Links.

// separate cuts or joins a route.
func (w *world) separate(from, to *machine, cut bool) {
	w.cut.Lock()
	w.cut.routes[route{from.node, to.node}] = cut
	w.cut.Unlock()
	w.relink()
}

func (w *world) isolate(m *machine) {
	for _, o := range w.machines {
		if o != m {
			w.separate(m, o, true)
			w.separate(o, m, true)
		}
	}
}

// calm heals the network.
func (w *world) calm() {
	w.weather.clear()
	w.cut.Lock()
	clear(w.cut.routes)
	w.cut.Unlock()
	w.relink()
}

// relink makes the network what it is to be, and notes who reaches nobody.
func (w *world) relink() {
	w.cut.Lock()
	defer w.cut.Unlock()
	off := func(m *machine) bool { return !m.up || m.gone.Load() }
	for _, a := range w.machines {
		reaches := false
		for _, b := range w.machines {
			if a == b {
				continue
			}
			cut := w.cut.routes[route{a.node, b.node}] || off(a) || off(b)
			reaches = reaches || !cut && !w.cut.routes[route{b.node, a.node}]
			w.link(a, b, cut)
		}
		switch {
		case reaches:
			a.alone = time.Time{}
		case a.alone.IsZero():
			a.alone = time.Now()
		}
	}
}

// link cuts or joins a route, for all replicas.
func (w *world) link(a, b *machine, cut bool) {
	for _, from := range a.addrs() {
		for _, to := range b.addrs() {
			if cut {
				w.weather.net.Cut(from, to)
			} else {
				w.weather.net.Join(from, to)
			}
		}
	}
}

// cutOff takes a machine off the network, from any goroutine.
func (w *world) cutOff(m *machine) {
	for _, o := range w.machines {
		if o != m {
			w.link(m, o, true)
			w.link(o, m, true)
		}
	}
}

func (w *world) logger(n replication.NodeID) *slog.Logger {
	if !*logFlag {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", n)
}

func (w *world) note(msg string, args ...any) {
	if *logFlag {
		w.logger(0).Info(msg, args...)
	}
}
