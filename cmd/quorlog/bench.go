package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/internal/bench"
)

type benchFlags struct {
	topic       string
	records     int64
	recordSize  int
	throughput  int64
	producers   int
	acks        string
	compression string
	protocol    string
	quiet       bool
}

func newBench(c *client) *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure any Kafka-compatible cluster",
		Long: `Bench measures a cluster with franz-go: rate and latency percentiles. It speaks plain Kafka, so
the same command measures Kafka, Redpanda or kfake. Payloads are random bytes, other for each record.
With --protocol grpc, "bench produce" uses Quorlog's own client instead.`,
		Example: "  quorlog bench produce --topic bench --records 1000000 --record-size 1024\n  quorlog bench consume --topic bench --records 1000000\n  quorlog bench e2e --topic bench --records 10000 --throughput 1000",
	}
	c.flags(cmd)
	pf := cmd.PersistentFlags()
	pf.StringVarP(&f.topic, "topic", "t", "bench", "topic; created if the cluster allows it")
	pf.Int64VarP(&f.records, "records", "n", 1_000_000, "records in all")
	pf.IntVar(&f.recordSize, "record-size", 1024, "bytes of each record's value")
	pf.Int64Var(&f.throughput, "throughput", 0, "records a second; 0 = as fast as possible (e2e: 1000)")
	pf.IntVar(&f.producers, "producers", 1, "producers at once, each a client of its own")
	pf.StringVar(&f.acks, "acks", "all", "all, 1 or 0")
	pf.StringVarP(&f.compression, "compression", "z", "none", "none, gzip, snappy, lz4 or zstd")
	pf.StringVar(&f.protocol, "protocol", "kafka", "kafka, or grpc (produce only, acks all, uncompressed)")
	pf.BoolVarP(&f.quiet, "quiet", "q", false, "no progress line")
	type runner func(context.Context, bench.Config) (bench.Result, error)
	for _, sub := range []struct {
		name, short string
		run         runner
	}{
		{benchProduce, "Measure how fast the cluster takes records", bench.Produce},
		{"consume", "Measure how fast the cluster gives records back", bench.Consume},
		{"e2e", "Measure how long a record takes from producer to consumer", bench.EndToEnd},
	} {
		cmd.AddCommand(&cobra.Command{Use: sub.name, Short: sub.short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			if f.protocol != "kafka" && (f.protocol != "grpc" || sub.name != benchProduce) {
				return withCode(exitUsage, fmt.Errorf("bench %s does not speak %q", sub.name, f.protocol))
			}
			return c.bench(cmd, f, sub.run)
		}})
	}
	return cmd
}

func (c *client) bench(cmd *cobra.Command, f benchFlags, run func(context.Context, bench.Config) (bench.Result, error)) error {
	if f.records <= 0 || f.recordSize < 0 || f.producers <= 0 || f.throughput < 0 {
		return withCode(exitUsage, fmt.Errorf("--records and --producers must be positive, --record-size and --throughput not negative"))
	}
	opts, err := producerOptions(f.acks, f.compression)
	if err != nil {
		return err
	}
	connect, err := c.producers(f)
	if err != nil {
		return err
	}
	proof, err := c.proof()
	if err != nil {
		return err
	}
	opts = append(opts, proof...)
	probe, err := c.connect(cmd.Context())
	if err != nil {
		return err
	}
	probe.Close()
	cfg := bench.Config{
		Topic: f.topic, Records: f.records, RecordSize: f.recordSize, Throughput: f.throughput, Producers: f.producers,
		Connect: connect, Options: append(opts, kgo.SeedBrokers(c.brokers...), kgo.ClientID("quorlog-bench")),
	}
	if !f.quiet {
		cfg.Progress = cmd.ErrOrStderr()
	}
	result, err := run(cmd.Context(), cfg)
	if c.json() {
		if jsonErr := printJSON(cmd.OutOrStdout(), result); jsonErr != nil {
			return jsonErr
		}
	} else {
		fmt.Fprintln(cmd.OutOrStdout(), result)
	}
	return err
}
