package simtest

//quorlog:bubble a world lives in one

import (
	"context"
	"slices"
	"syscall"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
)

// event is something that befalls the cluster. It may leave faults behind: machines come back by themselves, and one event in
// a few calms the network.
type event struct {
	name string
	do   func(w *world)
}

// events; those that are listed twice come twice as often.
var events = []event{
	{"leader crashes", leaderCrashes}, {"leader crashes", leaderCrashes},
	{"machine crashes", machineCrashes},
	{"process is killed", processKilled},
	{"crash in the middle of a write", crashInTheMiddle},
	{"power cut of all", powerCutOfAll}, {"power cut of all", powerCutOfAll},
	{"power cut of a majority", powerCutOfMajority},
	{"orderly restart", orderlyRestart},
	{"leader is isolated", leaderIsolated}, {"leader is isolated", leaderIsolated},
	{"one-way cut", oneWayCut}, {"one-way cut", oneWayCut},
	{"two machines see only the third", bridge},
	{"storm", storm},
	{"network is calm", (*world).calm}, {"network is calm", (*world).calm}, {"network is calm", (*world).calm},
	{"leadership is transferred", transfer}, {"leadership is transferred", transfer},
	{"slow disk", slowDisk},
	{"hung disk", hungDisk},
	{"failing disk", failingDisk},
	{"retention", retention}, {"retention", retention},
	{"laggard behind the log start", laggard},
	{"answers of a follower are lost", lostAnswers},
	{"restless voter", restlessVoter},
	{"false news of a death", falseNews},
	{"slow start of a leader", slowStart},
	{"a replica moves", replicaMoves}, {"a replica moves", replicaMoves},
	{"disk is wiped", diskWiped},
	{"leaderships are handed over", drain},
	{"time passes", func(w *world) { w.pass(w.upTo(3 * time.Second)) }},
}

// choose returns the events of these names; all if there are none.
func choose(names []string) []event {
	if len(names) == 0 {
		return events
	}
	var out []event
	for _, e := range events {
		if slices.Contains(names, e.name) {
			out = append(out, e)
		}
	}
	return out
}

// spread tells most of the other machines that a machine's process is gone, as refused connections do.
func (w *world) spread(gone *machine) {
	for _, m := range w.machines {
		if m != gone && m.up && w.rng.IntN(4) > 0 {
			w.weather.news(m.node, gone.node)
		}
	}
}

// falseNews tells some machines, perhaps all, that the process of one that lives is gone.
func falseNews(w *world) {
	_, l := w.someLeader()
	for range 1 + w.rng.IntN(3) {
		w.spread(l)
		w.pass(w.upTo(time.Second))
	}
}

// power is a power cut that leaves of what was not synced whatever the seed likes.
func (w *world) power() vfs.CrashOptions {
	return vfs.CrashOptions{Survive: -1, Garbage: w.rng.IntN(2) == 0}
}

// someLeader is the leader of some partition, or any machine if that has none.
func (w *world) someLeader() (int, *machine) {
	i := w.rng.IntN(len(w.truths))
	if l := w.leaderOf(i); l != nil {
		return i, l
	}
	return i, w.anyMachine()
}

func leaderCrashes(w *world) {
	_, l := w.someLeader()
	l.crash(w.power(), w.upTo(1500*time.Millisecond))
}

func machineCrashes(w *world) {
	w.anyMachine().crash(w.power(), w.upTo(3*time.Second))
}

func processKilled(w *world) {
	w.anyMachine().crash(vfs.CrashOptions{Kill: true}, w.upTo(500*time.Millisecond))
}

// crashInTheMiddle cuts the power within some change of a file.
func crashInTheMiddle(w *world) {
	m := w.anyMachine()
	if !m.up {
		return
	}
	m.crashAt("", 1+w.rng.IntN(40))
	w.pass(w.upTo(500 * time.Millisecond))
}

// powerCutOfAll takes the power from all machines at once, some of them in the middle of a write. Everything that was
// acknowledged must be there after they came back, in any order.
func powerCutOfAll(w *world) {
	if w.rng.IntN(2) == 0 {
		w.calm() // or else hardly anything is under way
		w.pass(w.upTo(700 * time.Millisecond))
	}
	for _, m := range w.machines {
		if m.up && w.rng.IntN(3) == 0 {
			m.crashAt("", 1+w.rng.IntN(6))
		}
	}
	time.Sleep(w.upTo(20 * time.Millisecond))
	w.powerCut(w.machines...)
	if w.rng.IntN(2) == 0 {
		w.calm()
		w.await("leaders after a power cut of all", w.allLed)
		w.book.count("power cuts of all, awaited until all partitions were led again", 1)
	}
	w.book.count("power cuts of all", 1)
}

// powerCut takes the power from several machines at once.
func (w *world) powerCut(machines ...*machine) {
	var off []*machine
	for _, m := range machines {
		if m.up {
			m.kill(w.power())
			off = append(off, m)
		}
	}
	for _, m := range off {
		m.bury()
		m.back = time.Now().Add(w.upTo(500 * time.Millisecond))
	}
}

func powerCutOfMajority(w *world) {
	spared := w.anyMachine()
	var hit []*machine
	for _, m := range w.machines {
		if m != spared {
			hit = append(hit, m)
		}
	}
	w.powerCut(hit...)
}

func orderlyRestart(w *world) {
	m := w.anyMachine()
	if m.slow || m.gone.Load() || m.fatal.Load() != nil {
		return
	}
	m.stop()
	m.back = time.Now().Add(w.upTo(300 * time.Millisecond))
}

func leaderIsolated(w *world) {
	_, l := w.someLeader()
	w.isolate(l)
	w.pass(500*time.Millisecond + w.upTo(2500*time.Millisecond))
	if w.rng.IntN(4) > 0 {
		w.calm()
	}
}

func oneWayCut(w *world) {
	a, b := w.anyMachine(), w.anyMachine()
	if a != b {
		w.separate(a, b, true)
		w.pass(w.upTo(time.Second))
	}
}

// bridge cuts two machines from each other. Both reach the third.
func bridge(w *world) {
	middle := w.anyMachine()
	var ends []*machine
	for _, m := range w.machines {
		if m != middle {
			ends = append(ends, m)
		}
	}
	w.separate(ends[0], ends[1], true)
	w.separate(ends[1], ends[0], true)
	w.pass(w.upTo(2 * time.Second))
}

// storm makes messages late, lost or repeated on some routes.
func storm(w *world) {
	for _, a := range w.machines {
		for _, b := range w.machines {
			if a == b || w.rng.IntN(3) == 0 {
				continue
			}
			c := climate{delay: w.upTo(40 * time.Millisecond), jitter: w.upTo(40*time.Millisecond) + 1}
			switch w.rng.IntN(3) {
			case 0:
				c.loss = 1 + w.rng.IntN(30)
			case 1:
				c.twice = 1 + w.rng.IntN(50)
			}
			w.weather.set(a.node, b.node, c)
		}
	}
	w.pass(w.upTo(3 * time.Second))
	if w.rng.IntN(2) == 0 {
		w.weather.clear()
	}
}

// transfer hands leaderships to replicas of this test's choice.
func transfer(w *world) {
	for i := range w.truths {
		l, to := w.leaderOf(i), w.someHost(i)
		replica, ok := to.replica(i)
		if l == nil || l == to || !ok || w.rng.IntN(2) == 0 {
			continue
		}
		p := l.parts[i].Load()
		if p == nil || p.Group() == nil {
			continue
		}
		group := p.Group()
		w.helpers.Add(1)
		go func() {
			defer w.helpers.Done()
			if group.TransferLeadership(replica) == nil {
				w.book.count("transfers", 1)
			}
		}()
	}
	w.pass(w.upTo(200 * time.Millisecond))
}

// slowDisk makes each fsync of a machine's logs take long.
func slowDisk(w *world) {
	m := w.anyMachine()
	if !m.up || m.slow {
		return
	}
	m.brake(5*time.Millisecond + w.upTo(400*time.Millisecond))
	w.pass(w.upTo(2 * time.Second))
	if w.rng.IntN(2) == 0 {
		m.mend()
	}
}

// hungDisk makes an fsync hang. Either it goes on in time, or the watchdog ends the process.
func hungDisk(w *world) {
	_, m := w.someLeader()
	if !m.up || m.slow {
		return
	}
	m.brake(0)
	w.pass(500*time.Millisecond + w.upTo(3*time.Second))
	if w.rng.IntN(2) == 0 {
		m.mend()
		return
	}
	m.crash(w.power(), w.upTo(time.Second))
}

// failingDisk makes writes or fsyncs fail. The process ends; the machine is started again on what the disk has kept.
func failingDisk(w *world) {
	m := w.anyMachine()
	if !m.up {
		return
	}
	m.faulty = true
	rule := vfs.Rule{Op: vfs.OpSync, Path: ".log", Err: syscall.EIO, Last: -1, Nth: 1 + w.rng.IntN(10)}
	switch w.rng.IntN(4) {
	case 0:
		rule.Path = "votes"
	case 1:
		rule.Op, rule.Err = vfs.OpWrite, syscall.ENOSPC
	case 2:
		rule.Did = true
	}
	m.in.Add(rule)
	w.pass(w.upTo(1500 * time.Millisecond))
}

// retention advances log starts and drops segments, on some machines.
func retention(w *world) {
	w.trim(w.rng.IntN(10), func(*machine) bool { return w.rng.IntN(3) > 0 })
}

// trim advances the log start of all partitions, so that few records are kept, and drops segments on some machines.
func (w *world) trim(keep int, on func(*machine) bool) {
	for i := range w.truths {
		l := w.leaderOf(i)
		if l == nil || l.slow {
			continue
		}
		p := l.parts[i].Load()
		o, err := p.Offsets(-1)
		if err != nil || o.HighWatermark == o.LogStart {
			continue
		}
		start := o.HighWatermark - batch.Offset(keep)
		if start <= o.LogStart {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, 3*time.Second)
		if _, err := p.DeleteRecords(limited, start); err == nil {
			w.book.count("log starts advanced", 1)
		}
		cancel()
	}
	w.pass(tick)
	for _, m := range w.machines {
		if m.up && !m.slow && m.fatal.Load() == nil && on(m) {
			limited, cancel := context.WithTimeout(ctx, 3*time.Second)
			m.mgr.Maintain(limited)
			cancel()
		}
	}
}

// laggard is a follower that is away while the log start moves past what it has, on all others.
func laggard(w *world) {
	w.calm()
	w.await("leaders", w.allLed)
	m := w.anyMachine()
	if w.rng.IntN(2) == 0 {
		w.isolate(m)
	} else {
		m.crash(w.power(), time.Minute)
	}
	w.pass(1500*time.Millisecond + w.upTo(3*time.Second))
	for range 2 {
		w.trim(w.rng.IntN(10), func(o *machine) bool { return o != m })
	}
	m.back = time.Now()
	w.calm()
	for _, o := range w.machines {
		if o != m {
			w.weather.set(o.node, m.node, climate{echo: true})
		}
	}
	w.pass(w.upTo(4 * time.Second))
}

// lostAnswers is a follower whose answers are lost while its leader drops what it believes the follower lacks.
func lostAnswers(w *world) {
	w.calm()
	w.await("leaders", w.allLed)
	i, l := w.someLeader()
	m := w.someHost(i)
	if l == m || !l.up || w.leaderOf(i) != l {
		return
	}
	w.separate(m, l, true)
	w.pass(100*time.Millisecond + w.upTo(time.Second)) // at first, what it gets is what fits into a pipeline's window
	w.trim(w.rng.IntN(50), func(o *machine) bool { return o != m })
	w.calm()
	w.pass(4*time.Second + w.upTo(4*time.Second)) // the leader tries again after ever longer pauses
}

// restlessVoter is a machine that decides elections and is killed again and again, while the two candidates don't see each
// other and their first entries are late. If it forgot its vote, both would win the same term.
func restlessVoter(w *world) {
	w.calm()
	hosts := w.hosts(w.rng.IntN(len(w.truths)))
	voter := hosts[w.rng.IntN(len(hosts))]
	var ends []*machine
	for _, m := range w.machines {
		w.isolate(m)
		if m != voter && slices.Contains(hosts, m) {
			ends = append(ends, m)
			w.weather.set(m.node, voter.node, climate{delay: 150 * time.Millisecond, appendsOnly: true})
		}
	}
	w.pass(700 * time.Millisecond) // nobody leads any more
	for _, m := range ends {
		w.separate(m, voter, false)
		w.separate(voter, m, false)
	}
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end) && !w.book.broken(); {
		time.Sleep(w.upTo(60 * time.Millisecond))
		voter.crash(vfs.CrashOptions{Survive: 0}, 0)
		w.pass(0)
	}
	w.pass(500 * time.Millisecond)
	w.calm()
}

// slowStart is a new leader whose first write is slow, while the old one, with entries that nobody else has, comes back; what
// the new one tells it then must not make it commit these.
func slowStart(w *world) {
	w.calm()
	w.await("leaders", w.allLed)
	i, old := w.someLeader()
	if w.leaderOf(i) != old || !old.up || old.slow {
		return
	}
	w.isolate(old)
	w.pass(150 * time.Millisecond) // clients write to it, in vain
	for _, m := range w.machines {
		if m == old {
			continue
		}
		w.weather.set(m.node, old.node, climate{refuse: true})
		w.separate(m, old, false)
		if m.up && !m.slow {
			m.brake(0)
		}
	}
	// The longer this takes, the later does the new leader's next try come: it was begun before the write ended.
	w.pass(time.Second << w.rng.IntN(6))
	w.calm()
	for _, m := range w.machines {
		if m.slow {
			m.mend()
		}
	}
	w.pass(w.upTo(10 * time.Second))
}
