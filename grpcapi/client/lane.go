package client

import (
	"fmt"
	"math"
	"slices"
	"time"

	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
)

const (
	// maxInFlight is of how many batches of a producer a partition remembers that it has them (KIP-98). A batch that is behind
	// more of them could not be recognised if it came twice.
	maxInFlight = 5
	// maxParts bounds the records and headers of a batch; the server refuses twice as many.
	maxParts = 50_000
	// maxMisses bounds the tries of a batch whose topic is not found: a topic that was just made is not known everywhere at once.
	maxMisses = 8
)

// identity is a producer's (KIP-98).
type identity struct {
	id    int64
	epoch int32
}

var nobody = identity{id: -1}

// sending is a record under way, and what is to be called when it is known what became of it.
type sending struct {
	record *Record
	done   func(*Record, error)
}

// state is where a batch is.
type state uint8

const (
	waiting state = iota
	flying
	finished
)

// batch is some records of a partition that are stored together or not at all.
type batch struct {
	lane    *lane
	request *quorlogv1.ProduceRequest
	records []sending
	size    int // bytes
	parts   int // records and headers
	until   time.Time
	state   state
	// A numbered batch has its identity and sequence and so can't change any more.
	numbered bool
	// uncertain: it may be stored.
	uncertain bool
	misses    int
	// err is why it failed last; of a finished batch, why it is not stored.
	err         error
	base, stamp int64 // offset of the first record; the server's time, -1 if the records' own counts
}

// outcome is what a server said of a batch.
type outcome struct {
	kind        kind
	base, stamp int64
	err         error
}

// lane is what is under way to one partition. It decides which batch may be sent next, and what an answer means; it sends nothing
// itself and knows no clock. batches are in the order of Send:
//
//	flying or finished, the oldest first | waiting
//
// A waiting batch in front of flying ones has failed. Then nothing is sent until the others have landed, as they are refused or were
// stored because this one was; after that, all that is not finished is sent again, with the numbers that it had.
type lane struct {
	topic     string
	partition int32
	identity  identity
	next      int32 // sequence of the next batch
	proven    bool  // a batch of this identity was stored: before, the partition would take any sequence for the first
	gap       bool  // a batch of this identity has failed for good: those behind it are out of order until the epoch changes
	restarts  bool  // the epoch is to change when nothing is in flight
	held      bool  // a pause after a failure
	failures  int   // in a row
	inFlight  int
	batches   []*batch

	queued bool  // waits in its link's queue
	link   *link // where its batches in flight are
}

// add puts a record behind the others, into the last batch if that may still grow to limit bytes.
func (l *lane) add(s sending, size, limit int, until time.Time) {
	parts := 1 + len(s.record.Headers)
	b := l.open()
	if b == nil || b.size+size > limit || b.parts+parts > maxParts {
		b = &batch{lane: l, until: until, request: &quorlogv1.ProduceRequest{
			Topic: l.topic, Partition: &l.partition, TimeoutMs: int32(answerTime.Milliseconds()),
		}}
		l.batches = append(l.batches, b)
	}
	b.request.Records = append(b.request.Records, s.record.wire())
	b.records = append(b.records, s)
	b.size, b.parts = b.size+size, b.parts+parts
}

// open is the batch that may grow; nil if there is none.
func (l *lane) open() *batch {
	if len(l.batches) == 0 {
		return nil
	}
	if b := l.batches[len(l.batches)-1]; b.state == waiting && !b.numbered {
		return b
	}
	return nil
}

// ready is the batch that is to be sent next; nil if none may. It restarts the lane where that is due. While batches are in flight, one
// that has less than enough bytes waits for more: that is Nagle's algorithm, and makes the batches as large as the load is high.
func (l *lane) ready(enough int) *batch {
	if l.held {
		return nil
	}
	most := maxInFlight
	if !l.proven {
		most = 1
	}
	window := l.batches[:min(most, len(l.batches))]
	i := slices.IndexFunc(window, func(b *batch) bool { return b.state == waiting })
	if i < 0 || slices.ContainsFunc(window[i:], func(b *batch) bool { return b.state == flying }) {
		return nil
	}
	b := window[i]
	if l.inFlight == 0 && (l.restarts || l.gap && !b.numbered) {
		l.restart()
	}
	if l.restarts || l.identity == nobody || l.inFlight > 0 && b == l.open() && b.size < enough {
		return nil
	}
	return b
}

// take numbers a batch that is ready; it is in flight from now on.
func (l *lane) take(b *batch) {
	if !b.numbered {
		b.numbered = true
		b.request.Producer = &quorlogv1.ProducerIdentity{ProducerId: l.identity.id, ProducerEpoch: l.identity.epoch, BaseSequence: l.next}
		l.next = int32((int64(l.next) + int64(len(b.records))) & math.MaxInt32)
	}
	b.state = flying
	l.inFlight++
}

// land takes in what became of a batch in flight. It returns the batches that are finished by it, in their order.
func (l *lane) land(b *batch, o outcome) []*batch {
	l.inFlight--
	b.state, b.err = waiting, o.err
	head := l.head() == b
	switch o.kind {
	case stored:
		b.state, b.err, b.base, b.stamp = finished, nil, o.base, o.stamp
		l.proven, l.failures = true, 0
	case missing:
		if b.misses++; b.misses >= maxMisses {
			l.fail(b, o.err)
		}
		l.failures++
	case refused:
		l.failures++
	case unsure:
		b.uncertain = true
		l.failures++
	case outOfRow:
		// Behind a batch that is to be sent again, or has failed for good, that was to be expected.
		switch {
		case !head:
		case l.gap:
			l.restarts = true
		default:
			l.fail(b, fmt.Errorf("%w: %w", ErrSequence, o.err))
		}
	case stale:
		l.fail(b, o.err)
		l.identity, l.restarts = nobody, true
	case hopeless:
		l.fail(b, o.err)
	}
	if l.restarts {
		l.giveUpUncertain()
	}
	return l.settle()
}

// giveUpUncertain fails what may be stored and waits: it would be sent under another name now, and what was sent before may still be on
// its way.
func (l *lane) giveUpUncertain() {
	for _, b := range l.batches {
		if b.state == waiting && b.uncertain {
			l.fail(b, b.err)
		}
	}
}

// fail finishes a batch that is not, or may not be, stored.
func (l *lane) fail(b *batch, err error) {
	if b.uncertain {
		err = fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	b.state, b.err = finished, err
	l.gap = l.gap || b.numbered
}

// head is the first batch that is not finished.
func (l *lane) head() *batch {
	for _, b := range l.batches {
		if b.state != finished {
			return b
		}
	}
	return nil
}

// restart begins a new epoch (KIP-360): the partition forgets the sequence before it, and refuses what is still on its way from there.
// Nothing may be in flight, and of what waits it must be certain that it is not, and will not be, stored.
func (l *lane) restart() {
	if l.identity != nobody && l.identity.epoch < math.MaxInt16 {
		l.adopt(identity{l.identity.id, l.identity.epoch + 1})
		return
	}
	l.identity = nobody // the owner fetches a new one
}

// adopt gives the lane an identity, under which its batches are numbered from 0.
func (l *lane) adopt(id identity) {
	l.identity, l.next, l.proven, l.gap, l.restarts = id, 0, false, false, false
	for _, b := range l.batches {
		if b.state == waiting {
			b.numbered = false
		}
	}
}

// expire gives up on batches that have waited for too long.
func (l *lane) expire(now time.Time) []*batch {
	for _, b := range l.batches {
		if b.state == flying || now.Before(b.until) {
			break
		}
		if b.state == waiting {
			if b.err == nil {
				b.err = errTooLong
			}
			l.fail(b, b.err)
		}
	}
	return l.settle()
}

// abandon gives up on all that waits.
func (l *lane) abandon(err error) []*batch {
	for _, b := range l.batches {
		if b.state == waiting {
			l.fail(b, err)
		}
	}
	return l.settle()
}

// settle takes away what is finished, as far as all before it is.
func (l *lane) settle() []*batch {
	n := 0
	for n < len(l.batches) && l.batches[n].state == finished {
		n++
	}
	out := slices.Clone(l.batches[:n])
	l.batches = slices.Delete(l.batches, 0, n)
	return out
}
