package coordinator

import (
	"errors"
	"fmt"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// queued is a write that waits for its turn, or is under way.
type queued[M any] struct {
	machine *entry[M]
	write   *Write
}

// inFlight is the batch that is being appended, with the writes in it. One at a time: what arrives meanwhile makes up the
// next one, so the more there is to do the more goes into a batch.
type inFlight[M any] struct {
	pending Pending
	writes  []queued[M]
}

// done is the end of the append; never, if there is none.
func (f *inFlight[M]) done() <-chan struct{} {
	if f.pending == nil {
		return nil
	}
	return f.pending.Done()
}

func (f *inFlight[M]) isDone() bool {
	select {
	case <-f.done():
		return true
	default:
		return false
	}
}

func (sh *shard[M, E, F]) enqueueLocked(e *entry[M], w *Write) {
	sh.mu.queue = append(sh.mu.queue, queued[M]{machine: e, write: w})
	sh.mu.queuedBytes += w.Size
	sh.poke()
}

// take removes the writes of the next batch from the queue.
func (sh *shard[M, E, F]) take() []queued[M] {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	size, n := 0, 0
	for n < len(sh.mu.queue) && (n == 0 || sh.sharesLocked(n, size)) {
		size += sh.mu.queue[n].write.Size
		n++
	}
	writes := sh.mu.queue[:n:n]
	sh.mu.queue = sh.mu.queue[n:]
	if len(sh.mu.queue) == 0 {
		sh.mu.queue = nil // lets go of the writes in front
	}
	return writes
}

// sharesLocked tells whether the nth write goes into one batch with those before it, which have that size together.
func (sh *shard[M, E, F]) sharesLocked(n, size int) bool {
	first, next := sh.mu.queue[0].write, sh.mu.queue[n].write
	return first.Producer == nil && next.Producer == nil && size+next.Size <= sh.runtime.o.Limits.MaxBatchBytes
}

// flush appends what waits. The result has no pending append if nothing does.
func (sh *shard[M, E, F]) flush() inFlight[M] {
	for {
		writes := sh.take()
		if len(writes) == 0 {
			return inFlight[M]{}
		}
		pending, err := sh.append(writes)
		if err == nil {
			return inFlight[M]{pending: pending, writes: writes}
		}
		sh.settle(inFlight[M]{writes: writes}, err)
	}
}

func (sh *shard[M, E, F]) append(writes []queued[M]) (Pending, error) {
	log, err := sh.runtime.o.Logs.Open(sh.partition, sh.epoch)
	if err != nil {
		return nil, err
	}
	frame, err := encodeFrame(writes, time.Now())
	if err != nil {
		return nil, err
	}
	return log.Append(frame, writes[0].write.Verified), nil
}

// encodeFrame makes one batch of the records of some writes.
func encodeFrame[M any](writes []queued[M], now time.Time) ([]byte, error) {
	var o batch.BuildOptions
	if p := writes[0].write.Producer; p != nil {
		o.Transactional = true
		o.Producer = &batch.Producer{ID: p.ID, Epoch: p.Epoch, Sequence: batch.NoSequence}
	}
	b := batch.NewBuilder(o)
	for i := range writes {
		writes[i].write.Records(func(key, value []byte) {
			b.Add(batch.Record{Timestamp: now.UnixMilli(), Key: key, Value: value})
		})
	}
	return b.Build()
}

// settle tells the machines how their writes ended, in the order of the log.
func (sh *shard[M, E, F]) settle(f inFlight[M], err error) {
	if err != nil {
		sh.logger.Warn("Records could not be written.", "writes", len(f.writes), "error", err)
		err = writeError(err)
	}
	now := time.Now()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.mu.phase != ready {
		return
	}
	for i := range f.writes {
		w := &f.writes[i]
		sh.mu.queuedBytes -= w.write.Size
		sh.stepLocked(w.machine, now, sh.runtime.o.Kind.Written(w.write.Seq, err))
	}
}

// writeError turns what an append says into what clients of a coordinator understand. Most of it makes them look for the
// coordinator again and repeat the request.
func writeError(err error) error {
	switch {
	case errors.Is(err, replication.ErrNotLeader), errors.Is(err, replication.ErrStorage):
		return broker.ErrNotCoordinator
	case errors.Is(err, batch.ErrTooLarge):
		return broker.ErrMessageTooLarge
	case errors.Is(err, replication.ErrInvalidProducerEpoch), errors.Is(err, replication.ErrInvalidTxnState):
		return err // of a transactional write: its producer is fenced
	}
	// The cause is told, but not wrapped: clients of a coordinator do not expect its code, and some give up at it.
	return fmt.Errorf("%w: %v", broker.ErrCoordinatorNotAvailable, err)
}
