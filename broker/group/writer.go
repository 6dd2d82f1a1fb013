package group

import (
	"errors"
	"fmt"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

var errUnknownOutcome = replication.ErrUnknownOutcome

// inFlight is the batch that is being appended, with the writes in it. One at a time: what arrives meanwhile makes up the
// next one, so the more there is to do the more goes into a batch.
type inFlight struct {
	pending Pending
	writes  []queued
}

// done is the end of the append; never, if there is none.
func (f *inFlight) done() <-chan struct{} {
	if f.pending == nil {
		return nil
	}
	return f.pending.Done()
}

func (sh *shard) enqueueLocked(e *entry, w Write) {
	size := 0
	for i := range w.Records {
		size += w.Records[i].size()
	}
	sh.mu.queue = append(sh.mu.queue, queued{group: e, seq: w.Seq, records: w.Records, size: size})
	sh.mu.queuedBytes += size
	sh.poke()
}

// take removes the writes of the next batch from the queue.
func (sh *shard) take() []queued {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	size, n := 0, 0
	for n < len(sh.mu.queue) && (n == 0 || size+sh.mu.queue[n].size <= sh.service.limits.MaxBatchBytes) {
		size += sh.mu.queue[n].size
		n++
	}
	writes := sh.mu.queue[:n:n]
	sh.mu.queue = sh.mu.queue[n:]
	if len(sh.mu.queue) == 0 {
		sh.mu.queue = nil // lets go of the writes in front
	}
	return writes
}

// flush appends what waits. The result has no pending append if nothing does.
func (sh *shard) flush() inFlight {
	for {
		writes := sh.take()
		if len(writes) == 0 {
			return inFlight{}
		}
		pending, err := sh.append(writes)
		if err == nil {
			return inFlight{pending: pending, writes: writes}
		}
		sh.settle(inFlight{writes: writes}, err)
	}
}

func (sh *shard) append(writes []queued) (Pending, error) {
	log, err := sh.service.logs.Open(sh.partition, sh.epoch)
	if err != nil {
		return nil, err
	}
	frame, err := encodeFrame(writes, time.Now())
	if err != nil {
		return nil, err
	}
	return log.Append(frame), nil
}

// settle tells the machines how their writes ended, in the order of the log.
func (sh *shard) settle(f inFlight, err error) {
	if err != nil {
		sh.logger.Warn("Groups could not be written.", "writes", len(f.writes), "error", err)
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
		sh.mu.queuedBytes -= w.size
		sh.stepLocked(w.group, now, Written{Seq: w.seq, Err: err})
	}
}

// writeError turns what an append says into what members of a group understand. All of it makes clients look for the
// coordinator again and repeat the request.
func writeError(err error) error {
	switch {
	case errors.Is(err, replication.ErrNotLeader), errors.Is(err, replication.ErrStorage):
		return broker.ErrNotCoordinator
	case errors.Is(err, batch.ErrTooLarge):
		return broker.ErrMessageTooLarge
	}
	return fmt.Errorf("%w: %w", broker.ErrCoordinatorNotAvailable, err)
}
