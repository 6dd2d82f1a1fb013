package bench

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

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

func newClients(cfg Config) ([]*kgo.Client, error) {
	n := max(1, cfg.Producers)
	clients := make([]*kgo.Client, 0, n)
	for range n {
		cl, err := kgo.NewClient(append([]kgo.Opt{kgo.DefaultProduceTopic(cfg.Topic), kgo.AllowAutoTopicCreation()}, cfg.Options...)...)
		if err != nil {
			closeAll(clients)
			return nil, err
		}
		clients = append(clients, cl)
	}
	return clients, nil
}

func closeAll(clients []*kgo.Client) {
	for _, cl := range clients {
		cl.Close()
	}
}

func produceShare(ctx context.Context, cl *kgo.Client, cfg Config, share int64, values *payloads, count *counters, lat *latencies) {
	pace := newPacer(cfg.Throughput / int64(max(1, cfg.Producers)))
	for range share {
		if !pace.wait(ctx) {
			break
		}
		sent := time.Now()
		cl.Produce(ctx, &kgo.Record{Value: values.value()}, func(r *kgo.Record, err error) {
			if err != nil {
				count.fail(err)
				return
			}
			count.records.Add(1)
			count.bytes.Add(int64(len(r.Value)))
			lat.add(time.Since(sent))
		})
	}
	if err := cl.Flush(ctx); err != nil {
		count.fail(err)
	}
}
