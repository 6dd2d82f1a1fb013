package client

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
)

// memory is what a partition remembers of a producer.
type memory struct {
	epoch  int32
	next   int32
	recent []span
}

type span struct {
	first, count int32
	base         int64
}

// partition is the model of one: what it stores, and which batches it takes (KIP-98, KIP-360).
type partition struct {
	producers map[int64]*memory
	log       []string
}

func (p *partition) store(req *quorlogv1.ProduceRequest) outcome {
	id, count := req.GetProducer(), int32(len(req.GetRecords()))
	m := p.producers[id.GetProducerId()]
	if m == nil {
		m = &memory{epoch: -1}
	}
	first := id.GetBaseSequence()
	switch {
	case id.GetProducerEpoch() < m.epoch:
		return outcome{kind: stale, err: reasonError("INVALID_PRODUCER_EPOCH")}
	case id.GetProducerEpoch() > m.epoch:
		if first != 0 {
			return outcome{kind: outOfRow, err: reasonError("OUT_OF_ORDER_SEQUENCE_NUMBER")}
		}
		m = &memory{epoch: id.GetProducerEpoch()}
	default:
		for _, s := range m.recent {
			if s.first == first && s.count == count {
				return outcome{kind: stored, base: s.base, stamp: -1}
			}
		}
		if first != m.next {
			return outcome{kind: outOfRow, err: reasonError("OUT_OF_ORDER_SEQUENCE_NUMBER")}
		}
	}
	base := int64(len(p.log))
	for _, r := range req.GetRecords() {
		p.log = append(p.log, string(r.Value))
	}
	m.recent = append(m.recent, span{first, count, base})
	m.recent = m.recent[max(0, len(m.recent)-maxInFlight):]
	m.next = int32((int64(first) + int64(count)) & math.MaxInt32)
	p.producers[id.GetProducerId()] = m
	return outcome{kind: stored, base: base, stamp: -1}
}

func reasonError(reason string) error {
	return errorOf(&quorlogv1.Error{Code: 9, Reason: reason, Message: reason})
}

// history plays a lane against a partition over a network that loses, delays and repeats.
type history struct {
	*rapid.T
	lane   *lane
	part   *partition
	flying []*batch
	ghosts []*quorlogv1.ProduceRequest // requests whose answers nobody waits for, still on their way
	now    time.Time
	added  int
	fates  map[string]error // of each record that is finished
	poison map[string]bool  // records that the server never takes
	// ends: the identity runs out of epochs. A new one does not keep away what was sent under the old one, and whose sender was told
	// that nobody knows: that may then be stored late.
	ends bool
}

const life = time.Hour

func (h *history) add() {
	value := strconv.Itoa(h.added)
	h.added++
	h.poison[value] = rapid.IntRange(0, 19).Draw(h.T, "poison") == 0
	h.lane.add(sending{record: &Record{Value: []byte(value)}, done: nil}, 100, 250, h.now.Add(life))
}

func (h *history) send() {
	if b := h.lane.ready(150); b != nil {
		h.lane.take(b)
		h.flying = append(h.flying, b)
	}
	if h.lane.identity == nobody && h.lane.inFlight == 0 {
		h.lane.adopt(identity{id: int64(h.added) + 1000})
	}
}

// front takes the oldest batch in flight.
func (h *history) front() *batch {
	if len(h.flying) == 0 {
		return nil
	}
	b := h.flying[0]
	h.flying = h.flying[1:]
	return b
}

func (h *history) serve(req *quorlogv1.ProduceRequest) outcome {
	for _, r := range req.GetRecords() {
		if h.poison[string(r.Value)] {
			return outcome{kind: hopeless, err: reasonError("INVALID_RECORD")}
		}
	}
	return h.part.store(req)
}

func (h *history) land(b *batch, o outcome) {
	for _, done := range h.lane.land(b, o) {
		h.finish(done)
	}
}

func (h *history) finish(b *batch) {
	for i, s := range b.records {
		value := string(s.record.Value)
		if _, twice := h.fates[value]; twice {
			h.Fatalf("%s is finished twice", value)
		}
		if h.fates[value] = b.err; b.err == nil && h.part.log[b.base+int64(i)] != value {
			h.Fatalf("%s is said to be at %d, where %s is", value, b.base+int64(i), h.part.log[b.base+int64(i)])
		}
	}
}

// lose has the server take a batch or not, now or later, and tells the lane nothing of it.
func (h *history) lose(b *batch) {
	switch rapid.IntRange(0, 2).Draw(h.T, "lost") {
	case 0:
		h.serve(b.request)
	case 1:
		h.ghosts = append(h.ghosts, proto.CloneOf(b.request))
	}
	b.uncertain = true
	h.land(b, outcome{kind: unsure, err: errTooLong})
}

func (h *history) step() {
	switch rapid.SampledFrom([]string{"add", "add", "add", "send", "send", "send", "answer", "answer", "answer", "refuse", "lose", "break", "ghost", "expire"}).Draw(h.T, "step") {
	case "add":
		h.add()
	case "send":
		h.send()
	case "answer":
		if b := h.front(); b != nil {
			h.land(b, h.serve(b.request))
		}
	case "refuse":
		if b := h.front(); b != nil {
			h.land(b, outcome{kind: refused, err: reasonError("NOT_LEADER_OR_FOLLOWER")})
		}
	case "lose":
		if b := h.front(); b != nil {
			h.lose(b)
		}
	case "break":
		for b := h.front(); b != nil; b = h.front() {
			h.lose(b)
		}
	case "ghost":
		if len(h.ghosts) > 0 {
			i := rapid.IntRange(0, len(h.ghosts)-1).Draw(h.T, "which")
			h.serve(h.ghosts[i])
			h.ghosts = append(h.ghosts[:i:i], h.ghosts[i+1:]...)
		}
	case "expire":
		h.now = h.now.Add(life / 2)
		for _, b := range h.lane.expire(h.now) {
			h.finish(b)
		}
	}
}

// Whatever the network does: what is acknowledged is stored, once and in order; what failed for certain is not stored.
func TestLane(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := &history{
			T: rt, lane: &lane{identity: identity{id: 7}}, part: &partition{producers: map[int64]*memory{}}, now: time.Now(),
			fates: map[string]error{}, poison: map[string]bool{},
		}
		if h.ends = rapid.Bool().Draw(rt, "ends"); h.ends {
			h.lane.identity.epoch = math.MaxInt16 - 2
		} else if rapid.Bool().Draw(rt, "wraps") { // of sequences, soon
			h.lane.next, h.lane.proven = math.MaxInt32-5, true
			h.part.producers[7] = &memory{next: h.lane.next}
		}
		for range rapid.IntRange(1, 300).Draw(rt, "steps") {
			h.step()
		}
		for calm := 0; len(h.fates) < h.added; calm++ { // the network is well again
			if h.send(); len(h.flying) == 0 && calm > 10*h.added+100 {
				rt.Fatalf("stuck with %d of %d: %+v", len(h.fates), h.added, h.lane)
			}
			if b := h.front(); b != nil {
				h.land(b, h.serve(b.request))
			}
		}
		h.verify()
	})
}

func (h *history) verify() {
	in, last := map[string]bool{}, -1
	for _, value := range h.part.log {
		if in[value] {
			h.Fatalf("%s is there twice: %v", value, h.part.log)
		}
		in[value] = true
		n, err := strconv.Atoi(value)
		switch {
		case h.ends && h.fates[value] != nil:
		case err != nil || n <= last:
			h.Fatalf("%s follows %d in %v", value, last, h.part.log)
		default:
			last = n
		}
	}
	for value, err := range h.fates {
		switch {
		case err == nil && !in[value]:
			h.Fatalf("%s was acknowledged and is not there", value)
		case err != nil && !errors.Is(err, ErrUnknownOutcome) && in[value]:
			h.Fatalf("%s failed (%v) and is there", value, err)
		}
	}
}

// The rules of a lane, one by one.
func TestLaneRules(t *testing.T) {
	now := time.Now()
	fresh := func(records int) *lane {
		l := &lane{identity: identity{id: 7}}
		for i := range records {
			l.add(sending{record: &Record{Value: []byte(fmt.Sprint(i))}}, 100, 100, now.Add(life))
		}
		return l
	}
	fly := func(l *lane) (out []*batch) {
		for b := l.ready(1); b != nil; b = l.ready(1) {
			l.take(b)
			out = append(out, b)
		}
		return out
	}
	good := outcome{kind: stored, stamp: -1}
	l := fresh(20)
	first := fly(l)
	if len(first) != 1 {
		t.Errorf("%d batches before any was stored", len(first))
	}
	l.land(first[0], good)
	five := fly(l)
	if len(five) != maxInFlight {
		t.Errorf("%d in flight", len(five))
	}
	l.land(five[0], outcome{kind: refused, err: errTooLong})
	if l.ready(1) != nil {
		t.Error("something is sent while batches behind a failed one are in flight")
	}
	for _, b := range five[1:] {
		l.land(b, outcome{kind: outOfRow, err: errTooLong})
	}
	again := fly(l)
	for i, b := range again {
		if b != five[i] || b.request.GetProducer().GetBaseSequence() != int32(i+1) || b.request.GetProducer().GetProducerEpoch() != 0 {
			t.Errorf("%d: %v", i, b.request)
		}
	}
	l.land(again[0], outcome{kind: hopeless, err: errTooLong})
	for _, b := range again[1:] {
		l.land(b, outcome{kind: outOfRow, err: errTooLong})
	}
	if b := l.ready(1); b != again[1] {
		t.Fatalf("%+v", b)
	}
	l.take(again[1])
	if p := again[1].request.GetProducer(); p.GetProducerEpoch() != 1 || p.GetBaseSequence() != 0 {
		t.Errorf("after a batch that failed for good: %v", p)
	}

	// Two batches of which nobody knows; the sender of the first is told so in the end. Then the second may not get another name: what was
	// sent of the two may yet arrive, one after the other.
	l = fresh(1)
	l.proven = true
	l.add(sending{record: &Record{}}, 100, 100, now.Add(2*life))
	two := fly(l)
	l.land(two[0], outcome{kind: unsure, err: errTooLong})
	l.land(two[1], outcome{kind: unsure, err: errTooLong})
	if out := l.expire(now.Add(life)); len(out) != 1 || !errors.Is(out[0].err, ErrUnknownOutcome) {
		t.Errorf("%+v", out)
	}
	fly(l)
	if out := l.land(two[1], outcome{kind: outOfRow, err: errTooLong}); len(out) != 1 || !errors.Is(out[0].err, ErrUnknownOutcome) {
		t.Errorf("%+v", out)
	}

	l = fresh(1)
	l.proven = true
	fly(l)
	l.add(sending{record: &Record{}}, 10, 100, now.Add(life))
	if l.ready(50) != nil || l.ready(10) == nil {
		t.Error("a small batch waits while another is in flight, a large one does not")
	}
}

func TestKinds(t *testing.T) {
	for _, c := range []struct {
		code   int32
		reason string
		want   kind
	}{
		{14, "", unsure}, {14, "NOT_LEADER_OR_FOLLOWER", refused}, {14, "NOT_ENOUGH_REPLICAS", refused}, {4, "REQUEST_TIMED_OUT", unsure}, {8, "", unsure},
		{8, "REQUEST_TIMED_OUT", unsure}, {13, "UNKNOWN_SERVER_ERROR", unsure}, {1, "", unsure},
		{9, "OUT_OF_ORDER_SEQUENCE_NUMBER", outOfRow}, {9, "INVALID_PRODUCER_EPOCH", stale}, {5, "UNKNOWN_TOPIC_OR_PARTITION", missing},
		{3, "MESSAGE_TOO_LARGE", hopeless}, {7, "TOPIC_AUTHORIZATION_FAILED", hopeless}, {16, "", hopeless}, {12, "", hopeless}, {11, "OFFSET_OUT_OF_RANGE", hopeless},
	} {
		err := errorOf(&quorlogv1.Error{Code: c.code, Reason: c.reason})
		if got := kindOf(fmt.Errorf("wrapped: %w", err)); got != c.want || Reason(err) != c.reason {
			t.Errorf("%d %s is %d, want %d", c.code, c.reason, got, c.want)
		}
	}
}
