package bench

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Consume reads the topic from its start until cfg.Records records have come.
func Consume(ctx context.Context, cfg Config) (Result, error) {
	opts := append([]kgo.Opt{
		kgo.ConsumeTopics(cfg.Topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	}, cfg.Options...)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return Result{}, err
	}
	defer cl.Close()
	var count counters
	stop := progress(cfg.Progress, &count, cfg.Records)
	start := time.Now()
	for count.records.Load() < cfg.Records && ctx.Err() == nil {
		fetches := cl.PollFetches(ctx)
		for _, fe := range fetches.Errors() {
			if ctx.Err() == nil {
				count.fail(fe.Err)
			}
		}
		if count.errors.Load() > 0 {
			break
		}
		var n, bytes int64
		fetches.EachRecord(func(r *kgo.Record) {
			n++
			bytes += int64(len(r.Value))
		})
		count.records.Add(n)
		count.bytes.Add(bytes)
	}
	took := time.Since(start)
	stop()
	if err := count.err(); err != nil {
		return count.result("consume", took), err
	}
	return count.result("consume", took), ctx.Err()
}
