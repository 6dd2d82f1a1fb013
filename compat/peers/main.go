// Command peers runs what Quorlog is compared with on the machine at hand: a three-broker Apache Kafka from its Maven
// artifacts and a three-node NATS JetStream from its Go module, beside three nodes of Quorlog, all as processes, and
// compares them in one run. README.md says what is set how, and why.
//
// Goroutines: one per server process that waits for its end; see fleet.stop.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

const usage = `usage: go run ./compat/peers compare [flags]   measure all and print ratios
       go run ./compat/peers kafka|nats|quorlog  fetch, build and start one, print its addresses, stop it on ^C
`

// system is one cluster that can be started. Two variants of one product are two systems.
type system struct {
	name  string
	about string
	start func(ctx context.Context, dir string) (*fleet, error)
}

var systems = []system{
	{"quorlog", "fsync before each acknowledgement, the default", startQuorlog},
	{"kafka", "Apache Kafka " + kafkaVersion + ", no fsync, the default", func(ctx context.Context, dir string) (*fleet, error) { return startKafka(ctx, dir, "") }},
	{"kafka-fsync", "the same with log.flush.interval.messages=1", func(ctx context.Context, dir string) (*fleet, error) { return startKafka(ctx, dir, kafkaFlush) }},
	{"nats", "NATS JetStream R3, fsync every two minutes, the default", func(ctx context.Context, dir string) (*fleet, error) { return startNATS(ctx, dir, "") }},
	{"nats-fsync", "the same with sync_interval: always", func(ctx context.Context, dir string) (*fleet, error) { return startNATS(ctx, dir, natsSync) }},
}

func systemNamed(name string) (system, error) {
	i := slices.IndexFunc(systems, func(s system) bool { return s.name == name })
	if i < 0 {
		names := make([]string, len(systems))
		for i, s := range systems {
			names[i] = s.name
		}
		return system{}, fmt.Errorf("no system is called %q; there are %s", name, strings.Join(names, ", "))
	}
	return systems[i], nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return errors.New("say what to run")
	}
	if args[0] == "compare" {
		o, err := parseOptions(args[1:])
		if err != nil {
			return err
		}
		return compare(ctx, o, os.Stdout, os.Stderr)
	}
	s, err := systemNamed(args[0])
	if err != nil {
		fmt.Fprint(os.Stderr, usage)
		return err
	}
	return show(ctx, s)
}

// show starts a system for a person to play with.
func show(ctx context.Context, s system) error {
	f, err := s.open(ctx, "")
	if err != nil {
		return err
	}
	fmt.Printf("%s: %s\n%s\nlogs and data in %s; ^C stops and removes them\n", s.name, s.about, strings.Join(f.addrs, ","), f.dir)
	<-ctx.Done()
	return f.stop()
}

// open starts a system in a directory of its own under base.
func (s system) open(ctx context.Context, base string) (*fleet, error) {
	dir, err := os.MkdirTemp(base, "peers-"+s.name+"-")
	if err != nil {
		return nil, err
	}
	f, err := s.start(ctx, dir)
	if err == nil {
		return f, nil
	}
	if f == nil {
		f = &fleet{dir: dir}
	}
	return nil, errors.Join(err, f.stop())
}

func parseOptions(args []string) (options, error) {
	o := options{recordSize: 1024}
	set := flag.NewFlagSet("compare", flag.ContinueOnError)
	var names string
	set.StringVar(&names, "systems", "quorlog,kafka,nats,nats-fsync", "what to compare with the first of them")
	set.IntVar(&o.rounds, "rounds", 5, "interleaved rounds; medians are reported")
	set.IntVar(&o.records, "records", 300_000, "records of 1 KiB in each measurement of the rate")
	set.IntVar(&o.warmup, "warmup", 100_000, "records before it, so that a JVM has compiled what it runs")
	set.IntVar(&o.partitions, "partitions", 1, "partitions of the topic; a JetStream stream is one log, whatever this says")
	set.IntVar(&o.producers, "producers", 1, "clients at once")
	set.StringVar(&o.compression, "compression", "none", "none, snappy, lz4, zstd; NATS has none")
	set.IntVar(&o.latencySeconds, "latency-seconds", 10, "length of the measurement of latency at 5 MB/s; 0 leaves it out")
	set.StringVar(&o.dir, "dir", "", "where the data is written (default: the system's temporary directory)")
	set.BoolVar(&o.json, "json", false, "print the figures as JSON")
	if err := set.Parse(args); err != nil {
		return o, err
	}
	if o.rounds < 1 || o.records < 1 || o.warmup < 1 || o.partitions < 1 || o.producers < 1 || o.latencySeconds < 0 {
		return o, errors.New("compare: counts must be positive")
	}
	for _, name := range strings.Split(names, ",") {
		s, err := systemNamed(name)
		if err != nil {
			return o, err
		}
		o.systems = append(o.systems, s)
	}
	return o, nil
}
