package share

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/quorlog/quorlog/log/batch"
)

// fate is a record in the model: what a share-partition should say of it, told record by record.
type fate struct {
	state  State
	count  int16
	member string
	until  time.Time
}

// model is a share-partition without runs, starts and ends.
type model struct {
	settings Settings
	records  []fate
	stored   []fate // as of the last write
	accepted []bool // acknowledged for good: the write was answered
}

func (m *model) release(f *fate) {
	f.state, f.member, f.until = Available, "", time.Time{}
	if f.count >= m.settings.DeliveryLimit {
		f.state = Archived
	}
}

func (m *model) expire(now time.Time) {
	for i := range m.records {
		if f := &m.records[i]; f.state == Acquired && !now.Before(f.until) {
			m.release(f)
		}
	}
}

// store is what a write keeps.
func (m *model) store() {
	m.stored = append(m.stored[:0], m.records...)
	for i := range m.stored {
		f := &m.stored[i]
		if f.state == Acquired {
			*f = fate{state: Available, count: f.count - 1}
		}
		m.accepted[i] = f.state == Acknowledged
	}
}

// play does random things to a Partition and the model.
type play struct {
	t     *testing.T
	r     *rand.Rand
	now   time.Time
	p     *Partition
	disk  *Durable
	model *model
	log   []Offered
}

const modelRecords = 60

func newPlay(t *testing.T, seed uint64) *play {
	s := Settings{DeliveryLimit: 3, LockDuration: 10 * time.Second, MaxInFlight: 25}
	y := &play{t: t, r: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1000, 0), disk: &Durable{}}
	y.model = &model{settings: s, records: make([]fate, modelRecords), accepted: make([]bool, modelRecords)}
	y.model.store()
	y.p = NewPartition(y.disk, s)
	for at := batch.Offset(0); at < modelRecords; {
		first := at + batch.Offset(y.r.IntN(10)/8) // now and then an offset without a record
		last := min(first+batch.Offset(y.r.IntN(8)), modelRecords-1)
		if first > last {
			break
		}
		y.log = append(y.log, Offered{First: first, Last: last, Skip: y.r.IntN(8) == 0})
		at = last + 1
	}
	return y
}

// deliverable tells whether there is a record for consumers at an offset.
func (y *play) deliverable(o batch.Offset) bool {
	for _, b := range y.log {
		if b.First <= o && o <= b.Last {
			return !b.Skip
		}
	}
	return false
}

func (y *play) step() string {
	member := string(rune('a' + y.r.IntN(3)))
	switch n := y.r.IntN(20); {
	case n < 7:
		return y.acquire(member)
	case n < 13:
		return y.acknowledge(member)
	case n < 15:
		y.now = y.now.Add(time.Duration(y.r.IntN(6)) * time.Second)
		y.p.Expire(y.now)
		y.model.expire(y.now)
		return "time goes on"
	case n < 16:
		y.p.ReleaseMember(member)
		for i := range y.model.records {
			if f := &y.model.records[i]; f.state == Acquired && f.member == member {
				*f = fate{state: Available, count: f.count - 1}
			}
		}
		return "release " + member
	case n < 17:
		given := y.acquired(member)
		y.p.Return(given)
		for _, r := range given {
			for o := r.First; o <= r.Last; o++ {
				f := &y.model.records[o]
				*f = fate{state: Available, count: f.count - 1}
			}
		}
		return "never told " + member
	case n < 19:
		y.disk = y.p.Durable()
		y.model.store()
		return "write"
	default:
		y.p = NewPartition(y.disk, y.model.settings)
		y.model.records = append(y.model.records[:0], y.model.stored...)
		return "reload"
	}
}

func (y *play) acquire(member string) string {
	total := int64(0)
	for _, r := range y.acquired(member) {
		total += r.Len()
	}
	return fmt.Sprintf("acquire %s: %d", member, total)
}

func (y *play) acquired(member string) []Run {
	y.p.Expire(y.now)
	y.model.expire(y.now)
	from, ok := y.p.Next()
	if !ok {
		return nil
	}
	w := Want{Member: member, Records: 1 + y.r.IntN(10), Exact: y.r.IntN(2) == 0}
	i := 0
	for i < len(y.log) && y.log[i].Last < from {
		i++
	}
	offered := y.log[i:]
	offered = offered[:min(len(offered), 1+y.r.IntN(4))]
	total, last := int64(0), false
	got := y.p.Acquire(y.now, from, offered, w)
	for _, r := range got {
		total += r.Len()
		last = last || r.Count == y.model.settings.DeliveryLimit
		for o := r.First; o <= r.Last; o++ {
			f := &y.model.records[o]
			f.count++
			if f.state != Available || f.count != r.Count || !y.deliverable(o) {
				y.t.Fatalf("%d was given to %s for the %d. time; it is %+v", o, member, r.Count, *f)
			}
			f.state, f.member, f.until = Acquired, member, y.now.Add(y.model.settings.LockDuration)
		}
	}
	if w.Exact && total > int64(w.Records) {
		y.t.Fatalf("%d records for a wish of %d", total, w.Records)
	}
	if last && total > 1 {
		y.t.Fatalf("the last delivery of a record is one of %d", total)
	}
	return got
}

func (y *play) acknowledge(member string) string {
	y.model.expire(y.now)
	a := Ack{First: batch.Offset(y.r.IntN(modelRecords))}
	if y.r.IntN(2) == 0 { // often what the member has
		for i, f := range y.model.records {
			if f.member == member {
				a.First = batch.Offset(i)
				break
			}
		}
	}
	a.Last = min(a.First+batch.Offset(y.r.IntN(5)), modelRecords-1)
	right := true
	for o := a.First; o <= a.Last; o++ {
		a.Types = append(a.Types, AckType(y.r.IntN(5)))
		right = right && y.model.records[o].member == member
	}
	err := y.p.Acknowledge(y.now, member, []Ack{a})
	if (err == nil) != right {
		y.t.Fatalf("acknowledging %+v by %s: %v", a, member, err)
	}
	if !right {
		return "refused"
	}
	for i, kind := range a.Types {
		f := &y.model.records[int(a.First)+i]
		switch kind {
		case Release:
			y.model.release(f)
		case Renew:
			f.until = y.now.Add(y.model.settings.LockDuration)
		case Accept:
			*f = fate{state: Acknowledged, count: f.count}
		default:
			*f = fate{state: Archived, count: f.count}
		}
	}
	return fmt.Sprintf("ack %s %+v", member, a)
}

// check compares record by record.
func (y *play) check(did string) {
	checkInvariants(y.t, y.p, y.model.settings.DeliveryLimit)
	at := func(o batch.Offset) fate {
		if o < y.p.Start() {
			return fate{state: Archived}
		}
		for _, r := range y.p.Runs() {
			if r.First <= o && o <= r.Last {
				return fate{r.State, r.Count, r.Member, r.Until}
			}
		}
		return fate{}
	}
	for i, want := range y.model.records {
		got := at(batch.Offset(i))
		switch {
		case !y.deliverable(batch.Offset(i)):
			if got.state == Acquired {
				y.t.Fatalf("after %s: %d is acquired, though there is no record", did, i)
			}
		case want.state.finished():
			if !got.state.finished() {
				y.t.Fatalf("after %s: %d is %+v, expected %+v", did, i, got, want)
			}
		case got != want:
			y.t.Fatalf("after %s: %d is %+v, expected %+v", did, i, got, want)
		}
		if y.model.accepted[i] && !got.state.finished() {
			y.t.Fatalf("after %s: %d was acknowledged, and is %+v", did, i, got)
		}
	}
}

// TestAgainstModel does random things, reloads from the last write included. A record is at any time available, acquired by one
// member, or finished; it is delivered no more often than the limit between two reloads; none is lost.
func TestAgainstModel(t *testing.T) {
	seeds, steps := uint64(100), 300
	if testing.Short() {
		seeds = 30
	}
	for seed := range seeds {
		y := newPlay(t, seed)
		for range steps {
			did := y.step()
			y.check(did)
		}
		y.finish()
	}
}

// finish plays a member that processes all that it gets: in the end everything is finished.
func (y *play) finish() {
	for range 2 * modelRecords {
		y.now = y.now.Add(time.Minute)
		y.p.Expire(y.now)
		from, ok := y.p.Next()
		if !ok {
			y.t.Fatalf("nothing can be acquired, at %d of %d", y.p.Start(), y.p.End())
		}
		if from >= modelRecords {
			break
		}
		i := 0
		for i < len(y.log)-1 && y.log[i].Last < from {
			i++
		}
		for _, r := range y.p.Acquire(y.now, from, y.log[i:], Want{Member: "z", Records: 7}) {
			if err := y.p.Acknowledge(y.now, "z", []Ack{{First: r.First, Last: r.Last, Types: []AckType{Accept}}}); err != nil {
				y.t.Fatal(err)
			}
		}
	}
	if last := y.log[len(y.log)-1].Last; y.p.Start() != last+1 || len(y.p.Runs()) > 0 {
		y.t.Fatalf("finished up to %d of %d: %v", y.p.Start(), last, y.p.Runs())
	}
}

// FuzzAcknowledge: whatever a client sends, a share-partition stays whole.
func FuzzAcknowledge(f *testing.F) {
	f.Add(int64(0), int64(9), []byte{1})
	f.Add(int64(3), int64(5), []byte{0, 2, 3})
	f.Add(int64(-5), int64(1<<62), []byte{4})
	f.Fuzz(func(t *testing.T, first, last int64, types []byte) {
		s := DefaultSettings()
		p := NewPartition(&Durable{}, s)
		p.Acquire(time.Unix(0, 1), 0, []Offered{{First: 0, Last: 9}, {First: 12, Last: 14}}, Want{Member: "m", Records: 100})
		a := Ack{First: batch.Offset(first), Last: batch.Offset(last)}
		for _, b := range types {
			a.Types = append(a.Types, AckType(b))
		}
		acks := []Ack{a, {First: 12, Last: 12, Types: []AckType{Release}}}
		if CheckAcks(acks, true) == nil {
			_ = p.Acknowledge(time.Unix(0, 2), "m", acks)
		}
		checkInvariants(t, p, s.DeliveryLimit)
	})
}
