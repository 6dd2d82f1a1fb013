package bench

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Producer sends values to a topic.
type Producer interface {
	// Send hands over a value. done is called once, when it is acknowledged or has failed.
	Send(ctx context.Context, value []byte, done func(error))
	// Flush waits until all dones have been called.
	Flush(ctx context.Context) error
	Close()
}

// kafkaProducer is franz-go's.
type kafkaProducer struct{ *kgo.Client }

// Send implements Producer.
func (p kafkaProducer) Send(ctx context.Context, value []byte, done func(error)) {
	p.Produce(ctx, &kgo.Record{Value: value}, func(_ *kgo.Record, err error) { done(err) })
}

// Produce sends cfg.Records records and waits until the last is acknowledged. The error is that of the first record that
// failed; the result holds what was measured all the same.
func Produce(ctx context.Context, cfg Config) (Result, error) {
	clients, err := newClients(cfg)
	if err != nil {
		return Result{}, err
	}
	defer closeAll(clients)
	var (
		count counters
		lat   = newLatencies()
		wg    sync.WaitGroup
		pool  = newPayloads(cfg.RecordSize).pool
	)
	stop := progress(cfg.Progress, &count, cfg.Records)
	start := time.Now()
	for i, cl := range clients {
		share := cfg.Records / int64(len(clients))
		if i == 0 {
			share += cfg.Records % int64(len(clients))
		}
		values := &payloads{pool: pool, size: cfg.RecordSize, next: i * len(pool) / len(clients)}
		wg.Go(func() {
			produceShare(ctx, cl, cfg, share, values, &count, lat)
		})
	}
	wg.Wait()
	took := time.Since(start)
	stop()
	result := count.result("produce", took)
	lat.into(&result)
	if err := count.err(); err != nil {
		return result, err
	}
	return result, ctx.Err()
}

func newClients(cfg Config) ([]Producer, error) {
	connect := cfg.Connect
	if connect == nil {
		connect = func() (Producer, error) {
			cl, err := kgo.NewClient(append([]kgo.Opt{kgo.DefaultProduceTopic(cfg.Topic), kgo.AllowAutoTopicCreation()}, cfg.Options...)...)
			return kafkaProducer{cl}, err
		}
	}
	n := max(1, cfg.Producers)
	clients := make([]Producer, 0, n)
	for range n {
		cl, err := connect()
		if err != nil {
			closeAll(clients)
			return nil, err
		}
		clients = append(clients, cl)
	}
	return clients, nil
}

func closeAll(clients []Producer) {
	for _, cl := range clients {
		cl.Close()
	}
}

func produceShare(ctx context.Context, cl Producer, cfg Config, share int64, values *payloads, count *counters, lat *latencies) {
	pace := newPacer(cfg.Throughput / int64(max(1, cfg.Producers)))
	for range share {
		if !pace.wait(ctx) {
			break
		}
		sent, value := time.Now(), values.value()
		cl.Send(ctx, value, func(err error) {
			if err != nil {
				count.fail(err)
				return
			}
			count.records.Add(1)
			count.bytes.Add(int64(len(value)))
			lat.add(time.Since(sent))
		})
	}
	if err := cl.Flush(ctx); err != nil {
		count.fail(err)
	}
}
