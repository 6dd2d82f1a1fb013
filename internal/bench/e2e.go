package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// stampSize is the room that an end-to-end record needs for its time of sending.
const stampSize = 8

// EndToEnd sends records one at a time at cfg.Throughput (default 1,000 a second) and measures how long each takes from
// Produce to the moment when a consumer of the same process polls it.
func EndToEnd(ctx context.Context, cfg Config) (Result, error) {
	if cfg.Throughput == 0 {
		cfg.Throughput = 1000
	}
	cfg.RecordSize = max(cfg.RecordSize, stampSize)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	consumer, err := startAtEnd(ctx, cfg)
	if err != nil {
		return Result{}, err
	}
	defer consumer.Close()
	// The linger of a producer that waits for company would only measure itself.
	producer, err := kgo.NewClient(append([]kgo.Opt{kgo.DefaultProduceTopic(cfg.Topic), kgo.ProducerLinger(0)}, cfg.Options...)...)
	if err != nil {
		return Result{}, err
	}
	defer producer.Close()
	var count counters
	lat := newLatencies()
	stop := progress(cfg.Progress, &count, cfg.Records)
	began := time.Now()
	sending := make(chan struct{})
	go func() {
		defer close(sending)
		sendStamped(ctx, producer, cfg, began, cancel)
	}()
	receiveStamped(ctx, consumer, cfg.Records, began, &count, lat)
	took := time.Since(began)
	if count.records.Load() < cfg.Records {
		cancel(errors.New("not every record came back"))
	}
	<-sending
	stop()
	result := count.result("e2e", took)
	lat.into(&result)
	if err := count.err(); err != nil {
		return result, err
	}
	return result, context.Cause(ctx)
}

// startAtEnd returns a consumer that stands at the end of every partition before the first record is sent. A record of
// its own makes the topic exist; the ends are asked for afterwards and given as numbers, because a client that is told
// "the end" resolves it whenever it first fetches, which may be too late.
func startAtEnd(ctx context.Context, cfg Config) (*kgo.Client, error) {
	marker, err := kgo.NewClient(append([]kgo.Opt{kgo.DefaultProduceTopic(cfg.Topic), kgo.AllowAutoTopicCreation()}, cfg.Options...)...)
	if err != nil {
		return nil, err
	}
	defer marker.Close()
	if err := marker.ProduceSync(ctx, &kgo.Record{Value: make([]byte, stampSize)}).FirstErr(); err != nil {
		return nil, err
	}
	ends, err := kadm.NewClient(marker).ListEndOffsets(ctx, cfg.Topic)
	if err != nil {
		return nil, err
	}
	if err := ends.Error(); err != nil {
		return nil, err
	}
	return kgo.NewClient(append([]kgo.Opt{kgo.ConsumePartitions(ends.KOffsets())}, cfg.Options...)...)
}

func sendStamped(ctx context.Context, cl *kgo.Client, cfg Config, began time.Time, fail context.CancelCauseFunc) {
	pace := newPacer(cfg.Throughput)
	values := newPayloads(cfg.RecordSize)
	for range cfg.Records {
		if !pace.wait(ctx) {
			return
		}
		value := append([]byte(nil), values.value()...)
		// Time since the run began, not wall time: the clock may step.
		binary.BigEndian.PutUint64(value, uint64(time.Since(began)))
		cl.Produce(ctx, &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				fail(err)
			}
		})
	}
}

func receiveStamped(ctx context.Context, cl *kgo.Client, want int64, began time.Time, count *counters, lat *latencies) {
	for count.records.Load() < want && ctx.Err() == nil {
		fetches := cl.PollFetches(ctx)
		now := time.Since(began)
		for _, fe := range fetches.Errors() {
			if ctx.Err() == nil {
				count.fail(fe.Err)
				return
			}
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if len(r.Value) < stampSize {
				return
			}
			count.records.Add(1)
			count.bytes.Add(int64(len(r.Value)))
			lat.add(now - time.Duration(binary.BigEndian.Uint64(r.Value)))
		})
	}
}
