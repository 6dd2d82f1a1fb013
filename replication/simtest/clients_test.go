package simtest

//quorlog:bubble a world lives in one

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
)

// window is how many batches an idempotent client has under way; Kafka's clients have up to five.
const window = 3

// startClients lets one idempotent and one plain producer write to each partition. What readers see, look reads.
func (w *world) startClients(plainOnly bool) {
	w.clients.stop = make(chan struct{})
	for i := range w.truths {
		if !plainOnly {
			w.clients.Add(1)
			go w.idempotent(&client{w: w, t: w.truths[i], rng: w.newRand()})
		}
		w.clients.Add(1)
		go w.plain(&client{w: w, t: w.truths[i], rng: w.newRand()})
	}
}

func (w *world) stopClients() {
	select {
	case <-w.clients.stop:
	default:
		close(w.clients.stop)
	}
	w.clients.Wait()
}

// client writes to a partition.
type client struct {
	w    *world
	t    *truth
	rng  *rand.Rand
	last *machine // where it wrote before
}

// rest waits a moment; false when the client is to end.
func (c *client) rest(most time.Duration) bool {
	timer := time.NewTimer(time.Duration(c.rng.Int64N(int64(most))) + time.Millisecond)
	defer timer.Stop()
	select {
	case <-c.w.clients.stop:
		return false
	case <-timer.C:
		return true
	}
}

// find picks a replica that believes to lead: the one of last time, or any. Two may, and one of them is wrong.
func (c *client) find() *partition.Partition {
	if c.last != nil && c.rng.IntN(4) > 0 {
		if p := c.last.parts[c.t.n].Load(); p != nil && p.Leading() {
			return p
		}
	}
	from := c.rng.IntN(len(c.w.machines))
	for k := range c.w.machines {
		m := c.w.machines[(from+k)%len(c.w.machines)]
		if p := m.parts[c.t.n].Load(); p != nil && p.Leading() {
			c.last = m
			return p
		}
	}
	return nil
}

// letter is a batch and what is in it.
type letter struct {
	frame  []byte
	values []string
}

func (c *client) write(prefix string, from, n int, producer *batch.Producer) letter {
	var l letter
	var records []batch.Record
	for k := range n {
		v := fmt.Sprintf("%s%07d", prefix, from+k)
		l.values = append(l.values, v)
		records = append(records, batch.Record{Timestamp: 1, Value: []byte(v)})
	}
	var err error
	if l.frame, err = batch.Build(batch.BuildOptions{Producer: producer}, records...); err != nil {
		c.w.book.violate(storageHolds, "a batch is not built: %v", err)
	}
	return l
}

func send(p *partition.Partition, l letter) *partition.Pending {
	return p.Append(partition.Batch{Frame: append([]byte(nil), l.frame...)})
}

// plain sends each batch once. If it was not acknowledged, it may be stored, unless it was refused.
func (w *world) plain(c *client) {
	defer w.clients.Done()
	for at := 0; c.rest(60 * time.Millisecond); {
		p := c.find()
		if p == nil {
			continue
		}
		n := 1 + c.rng.IntN(3)
		l := c.write("pl:", at, n, nil)
		at += n
		a, err := send(p, l).Wait(ctx)
		switch {
		case err == nil:
			c.t.ack(l.values, a.Base, a.Epoch)
		case errors.Is(err, replication.ErrUnknownOutcome):
			w.book.count("unknown outcomes", 1)
		case errors.Is(err, replication.ErrNotLeader), errors.Is(err, replication.ErrStorage), errors.Is(err, replication.ErrOverloaded):
			c.t.refuse(l.values)
			w.book.count("definite refusals", 1)
		default:
			w.book.violate(ackedStays, "partition %d: a plain batch: %v", c.t.n, err)
		}
	}
}

// idempotent sends with sequences, several batches at a time, and sends each again until its fate is known.
func (w *world) idempotent(c *client) {
	defer w.clients.Done()
	var unacked []letter
	at := 0
	for c.rest(40 * time.Millisecond) {
		p := c.find()
		if p == nil {
			continue
		}
		for more := 1 + c.rng.IntN(window); len(unacked) < more; {
			n := 1 + c.rng.IntN(3)
			unacked = append(unacked, c.write("id:", at, n, &batch.Producer{ID: int64(c.t.n + 1), Sequence: int32(at)}))
			at += n
		}
		unacked = unacked[c.deliver(p, unacked):]
	}
}

// deliver sends batches and returns how many of them, from the first on, were acknowledged.
func (c *client) deliver(p *partition.Partition, letters []letter) (done int) {
	var all []*partition.Pending
	for _, l := range letters {
		all = append(all, send(p, l))
	}
	failed := false
	for i, pd := range all {
		a, err := pd.Wait(ctx)
		switch {
		case err == nil:
			c.t.ack(letters[i].values, a.Base, a.Epoch)
			if !failed {
				done++
			}
			if a.Duplicate {
				c.w.book.count("retries that were duplicates", 1)
			}
			continue
		case errors.Is(err, replication.ErrUnknownOutcome), errors.Is(err, replication.ErrNotLeader),
			errors.Is(err, replication.ErrStorage), errors.Is(err, replication.ErrOverloaded):
		case errors.Is(err, replication.ErrOutOfOrderSequence) && failed: // the one before it was lost
		default:
			c.w.book.violate(ackedStays, "partition %d: %q, the %d. of %d under way: %v", c.t.n, letters[i].values[0], i+1, len(letters), err)
		}
		failed = true
	}
	return done
}
