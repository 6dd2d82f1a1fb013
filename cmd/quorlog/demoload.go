package main

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// demoPatience bounds how long the last records may take, to be acknowledged and to be consumed.
const demoPatience = 30 * time.Second

// demoLoad produces numbered records and consumes them. Two goroutines, which end by stop and at the latest by close: one
// sends at the rate asked for, one consumes.
type demoLoad struct {
	producer, consumer *kgo.Client
	stopSend, stopRead context.CancelFunc
	sent, read         sync.WaitGroup

	mu       sync.Mutex // guards what follows
	number   uint64     // of the next record
	acks     []bool     // by record number
	ackCount int
	failed   int
	lastAck  time.Time
	longest  time.Duration // between two acknowledgements since watch
	seen     map[uint64]int
	last     uint64 // record number consumed last, plus one
	reorder  int
	position int64 // the offset after the last record consumed
}

// startDemoLoad returns once the first record was acknowledged.
func startDemoLoad(ctx context.Context, addrs []string, rate int) (*demoLoad, error) {
	quick := []kgo.Opt{
		kgo.SeedBrokers(addrs...), kgo.ClientID("quorlog-demo"), kgo.MetadataMinAge(lookAgain), kgo.DialTimeout(time.Second),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
	}
	producer, err := kgo.NewClient(append(quick, kgo.DefaultProduceTopic(demoTopic), kgo.ProducerLinger(0))...)
	if err != nil {
		return nil, err
	}
	consumer, err := kgo.NewClient(append(quick, kgo.ConsumeTopics(demoTopic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		producer.Close()
		return nil, err
	}
	l := &demoLoad{producer: producer, consumer: consumer, seen: map[uint64]int{}}
	first := make(chan error, 1)
	l.send(func(err error) { first <- err })
	if err := <-first; err != nil {
		l.close()
		return nil, err
	}
	sendCtx, stopSend := context.WithCancel(ctx)
	readCtx, stopRead := context.WithCancel(ctx)
	l.stopSend, l.stopRead = stopSend, stopRead
	l.sent.Go(func() { l.sendAll(sendCtx, rate) })
	l.read.Go(func() { l.readAll(readCtx) })
	return l, nil
}

// sendAll sends in small steps, so that timers that come late don't lower the rate.
func (l *demoLoad) sendAll(ctx context.Context, rate int) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	began, sent := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for due := int(time.Since(began).Seconds() * float64(rate)); sent < due && ctx.Err() == nil; sent++ {
			l.send(nil)
		}
	}
}

// send sends the next record. It blocks while very many wait for a leader.
func (l *demoLoad) send(done func(error)) {
	l.mu.Lock()
	number := l.number
	l.number++
	l.acks = append(l.acks, false)
	l.mu.Unlock()
	record := &kgo.Record{Value: binary.BigEndian.AppendUint64(nil, number)}
	l.producer.Produce(context.Background(), record, func(_ *kgo.Record, err error) {
		l.answered(number, err)
		if done != nil {
			done(err)
		}
	})
}

func (l *demoLoad) answered(number uint64, err error) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failed++
		return
	}
	l.acks[number] = true
	l.ackCount++
	if !l.lastAck.IsZero() {
		l.longest = max(l.longest, now.Sub(l.lastAck))
	}
	l.lastAck = now
}

// watch measures the longest silence from the last acknowledgement on, and returns how many there were.
func (l *demoLoad) watch() (acked int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.longest = 0
	return l.ackCount
}

func (l *demoLoad) acked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ackCount
}

func (l *demoLoad) silence() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.longest
}

func (l *demoLoad) readAll(ctx context.Context) {
	for ctx.Err() == nil {
		fetches := l.consumer.PollFetches(ctx)
		if fetches.IsClientClosed() {
			return
		}
		l.mu.Lock()
		fetches.EachRecord(func(r *kgo.Record) {
			l.position = r.Offset + 1
			if len(r.Value) != 8 {
				return
			}
			number := binary.BigEndian.Uint64(r.Value)
			l.seen[number]++
			if number+1 < l.last {
				l.reorder++
			}
			l.last = max(l.last, number+1)
		})
		l.mu.Unlock()
	}
}

// finish ends the sending, lets the consumer catch up and counts.
func (l *demoLoad) finish(ctx context.Context) *demoResult {
	l.stopSend()
	l.sent.Wait()
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	if err := l.producer.Flush(ctx); err != nil && !errors.Is(err, context.Canceled) {
		_ = l.producer.AbortBufferedRecords(context.Background()) // they count as failed
	}
	for l.behind(ctx) && wait(ctx, lookAgain) == nil {
	}
	l.stopRead()
	l.read.Wait()
	return l.count()
}

// behind tells whether the log holds records that were not consumed yet, be they duplicates, or acknowledged ones are missing.
func (l *demoLoad) behind(ctx context.Context) bool {
	ends, err := kadm.NewClient(l.producer).ListEndOffsets(ctx, demoTopic)
	if err != nil {
		return true
	}
	end, ok := ends.Lookup(demoTopic, 0)
	l.mu.Lock()
	defer l.mu.Unlock()
	return !ok || end.Err != nil || l.position < end.Offset || len(l.seen) < l.ackCount
}

func (l *demoLoad) count() *demoResult {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &demoResult{Acked: l.ackCount, Failed: l.failed, Reordered: l.reorder}
	for number, acked := range l.acks {
		n := l.seen[uint64(number)]
		r.Consumed += n
		if acked && n == 0 {
			r.Lost++
		}
		if n > 1 {
			r.Duplicated += n - 1
		}
	}
	return r
}

// close frees the clients; it is safe after finish.
func (l *demoLoad) close() {
	if l.stopSend != nil {
		l.stopSend()
		l.stopRead()
	}
	l.producer.Close() // which also ends a send that waits
	l.consumer.Close()
	l.sent.Wait()
	l.read.Wait()
}
