package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/quorlog/quorlog/internal/bench"
)

// options of a comparison.
type options struct {
	systems                 []system // the first is compared with the others
	rounds, records, warmup int
	recordSize              int
	partitions, producers   int
	compression             string
	latencySeconds          int
	dir                     string
	json                    bool
}

// latencyRate is the fixed rate, in bytes of values a second, at which latency is measured: far below what any of the
// systems can take, so that it is their answer's time and not a queue's.
const latencyRate = 5_000_000

// figures is what one system did in one round.
type figures struct {
	System string       `json:"system"`
	Round  int          `json:"round"`
	Rate   bench.Result `json:"rate"` // as fast as possible; its latencies are those of a full window
	// Ack is from Produce to the acknowledgement at latencyRate with the client's default linger, EndToEnd from Produce to a
	// consumer's poll without linger. Nil: not measured.
	Ack      *bench.Result `json:"ack,omitempty"`
	EndToEnd *bench.Result `json:"end_to_end,omitempty"`
}

// compare measures all systems, one at a time, in interleaved rounds whose order turns, and prints medians. The ratio is
// the median of the rounds' ratios, not the ratio of medians: rounds share the machine's mood, medians don't.
func compare(ctx context.Context, o options, out, progress io.Writer) error {
	var all []figures
	for round := range o.rounds {
		for i := range o.systems {
			s := o.systems[(i+round)%len(o.systems)]
			f, err := measure(ctx, s, o)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			f.Round = round + 1
			fmt.Fprintf(progress, "round %d  %s\n", f.Round, f)
			all = append(all, f)
		}
	}
	if o.json {
		return json.NewEncoder(out).Encode(all)
	}
	return printTable(out, o, summarize(o, all))
}

func (f figures) String() string {
	s := fmt.Sprintf("%-12s %7.1f MB/s", f.System, f.Rate.MBPerSecond)
	if f.Ack != nil {
		s += fmt.Sprintf("  acknowledged p50 %.2f p99 %.2f ms", f.Ack.P50, f.Ack.P99)
	}
	if f.EndToEnd != nil {
		s += fmt.Sprintf("  end to end p50 %.2f p99 %.2f ms", f.EndToEnd.P50, f.EndToEnd.P99)
	}
	return s
}

// measure starts a system, measures it and stops it.
func measure(ctx context.Context, s system, o options) (figures, error) {
	f, err := s.open(ctx, o.dir)
	if err != nil {
		return figures{}, err
	}
	var got figures
	if f.kafka {
		got, err = measureKafka(ctx, f, o)
	} else {
		got, err = measureNATS(ctx, f, o)
	}
	got.System = s.name
	return got, errors.Join(err, f.stop())
}

// measureKafka runs quorlog bench against anything that speaks Kafka.
func measureKafka(ctx context.Context, f *fleet, o options) (got figures, err error) {
	bin, err := buildQuorlog(ctx)
	if err != nil {
		return got, err
	}
	if err := f.createTopic(ctx, "bench", o.partitions); err != nil {
		return got, err
	}
	run := func(kind string, records int, more ...string) (bench.Result, error) {
		return result(ask(ctx, append([]string{bin, "bench", kind, "-b", strings.Join(f.addrs, ","), "--topic", "bench", "-q", "-o", "json",
			"--record-size", fmt.Sprint(o.recordSize), "--compression", o.compression, "--records", fmt.Sprint(records)}, more...)...))
	}
	producers := []string{"--producers", fmt.Sprint(o.producers)}
	if _, err := run("produce", o.warmup, producers...); err != nil {
		return got, err
	}
	if got.Rate, err = run("produce", o.records, producers...); err != nil || o.latencySeconds == 0 {
		return got, err
	}
	perSecond := latencyRate / o.recordSize
	ack, err := run("produce", perSecond*o.latencySeconds, "--throughput", fmt.Sprint(perSecond))
	if err != nil {
		return got, err
	}
	e2e, err := run("e2e", perSecond*o.latencySeconds, "--throughput", fmt.Sprint(perSecond))
	got.Ack, got.EndToEnd = &ack, &e2e
	return got, err
}

// measureNATS runs the publisher of compat/peers/nats.
func measureNATS(ctx context.Context, f *fleet, o options) (got figures, err error) {
	dir, err := cacheDir("bin")
	if err != nil {
		return got, err
	}
	run := func(records int, more ...string) (bench.Result, error) {
		return result(ask(ctx, append([]string{filepath.Join(dir, "natspublish"), "-servers", strings.Join(f.addrs, ","),
			"-record-size", fmt.Sprint(o.recordSize), "-records", fmt.Sprint(records)}, more...)...))
	}
	if _, err := run(o.warmup); err != nil {
		return got, err
	}
	if got.Rate, err = run(o.records); err != nil || o.latencySeconds == 0 {
		return got, err
	}
	perSecond := latencyRate / o.recordSize
	ack, err := run(perSecond*o.latencySeconds, "-throughput", fmt.Sprint(perSecond))
	got.Ack = &ack
	return got, err
}

func result(text []byte, err error) (r bench.Result, _ error) {
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(text, &r)
}

// summary is one system's medians over the rounds.
type summary struct {
	system              system
	rate, lowest, ratio float64     // MB/s; ratio: the first system's rate divided by this one's
	ack, endToEnd       *[2]float64 // p50 and p99 in ms
}

func summarize(o options, all []figures) []summary {
	rates := map[string][]float64{} // by system, in order of rounds
	latencies := map[string][]float64{}
	for _, f := range all {
		rates[f.System] = append(rates[f.System], f.Rate.MBPerSecond)
		for kind, r := range map[string]*bench.Result{"ack": f.Ack, "e2e": f.EndToEnd} {
			if r != nil {
				latencies[f.System+kind+"50"] = append(latencies[f.System+kind+"50"], r.P50)
				latencies[f.System+kind+"99"] = append(latencies[f.System+kind+"99"], r.P99)
			}
		}
	}
	pair := func(name string) *[2]float64 {
		if len(latencies[name+"50"]) == 0 {
			return nil
		}
		return &[2]float64{median(latencies[name+"50"]), median(latencies[name+"99"])}
	}
	var out []summary
	for _, s := range o.systems {
		ratios := make([]float64, o.rounds)
		for i := range ratios {
			ratios[i] = rates[o.systems[0].name][i] / rates[s.name][i]
		}
		out = append(out, summary{s, median(rates[s.name]), slices.Min(rates[s.name]), median(ratios), pair(s.name + "ack"), pair(s.name + "e2e")})
	}
	return out
}

// median of values, which stay as they are; of an even number the lower one, which is a value that was measured.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}

func printTable(out io.Writer, o options, rows []summary) error {
	fmt.Fprintf(out, "replication factor %d, %d B records, %d partition(s), %d producer(s), compression %s; medians of %d rounds; latency at %d MB/s\n\n",
		nodes, o.recordSize, o.partitions, o.producers, o.compression, o.rounds, latencyRate/1_000_000)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "SYSTEM\tMB/s\tLOWEST\t%s IS\tACKNOWLEDGED p50/p99 ms\tEND TO END p50/p99 ms\tWHAT IT IS\n", strings.ToUpper(rows[0].system.name))
	for i, r := range rows {
		ratio := "1"
		if i > 0 {
			ratio = fmt.Sprintf("%.2f x", r.ratio)
		}
		fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%s\t%s\t%s\t%s\n", r.system.name, r.rate, r.lowest, ratio, latencyText(r.ack), latencyText(r.endToEnd), r.system.about)
	}
	return w.Flush()
}

func latencyText(p *[2]float64) string {
	if p == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f / %.2f", p[0], p[1])
}
