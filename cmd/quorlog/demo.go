package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const demoTopic = "demo"

// demo kills leaders under load and counts what becomes of the records.
type demo struct {
	rounds int
	pause  time.Duration // between two kills
	rate   int           // records a second
	keep   bool
}

// demoResult is what a demo found.
type demoResult struct {
	Rounds     []demoRound `json:"rounds"`
	Acked      int         `json:"acked"`
	Failed     int         `json:"failed"` // refused, or unanswered until the end
	Consumed   int         `json:"consumed"`
	Lost       int         `json:"lost"` // acknowledged and not consumed
	Duplicated int         `json:"duplicated"`
	Reordered  int         `json:"reordered"`
}

// demoRound is one kill of the leader.
type demoRound struct {
	Killed     int32   `json:"killed"`
	Leader     int32   `json:"leader"` // the new one
	FailOverMS float64 `json:"fail_over_ms"`
}

func newDemo() *cobra.Command {
	d, c := &demo{}, &client{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Kill leaders under load and count what is lost",
		Long: `Demo starts three nodes in processes of their own, in a temporary directory and on free ports. An idempotent producer with
acks=all sends numbered records, one at a time, to a topic of one partition, and a consumer reads them. A few times it kills
the partition's leader with SIGKILL, and starts it again once another leads. The fail-over time is the longest silence
between two acknowledgements, from the last one before the kill on, as the client saw it.

Exit code 1: a record was lost, duplicated or out of order.`,
		Example: "  quorlog demo\n  quorlog demo --rounds 10 --rate 5000 -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if d.rounds < 1 || d.rate < 1 || d.pause < 0 {
				return withCode(exitUsage, errors.New("--rounds and --rate must be at least 1, --pause at least 0"))
			}
			if c.output != "text" && c.output != "json" {
				return withCode(exitUsage, fmt.Errorf("unknown output format %q: use text or json", c.output))
			}
			out := cmd.OutOrStdout()
			say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
			if c.json() {
				say = func(string, ...any) {}
			}
			result, err := d.run(cmd.Context(), say)
			if err == nil && c.json() {
				err = printJSON(out, result)
			}
			if err == nil {
				err = result.verdict()
			}
			return err
		},
	}
	cmd.Flags().IntVar(&d.rounds, "rounds", 3, "how often to kill the leader")
	cmd.Flags().DurationVar(&d.pause, "pause", 3*time.Second, "time with all nodes before each kill")
	cmd.Flags().IntVar(&d.rate, "rate", 1000, "records per second")
	cmd.Flags().BoolVar(&d.keep, "keep", false, "keep the nodes' data and logs")
	cmd.Flags().StringVarP(&c.output, "output", "o", "text", "output format: text or json")
	return cmd
}

func (d *demo) run(ctx context.Context, say func(string, ...any)) (result *demoResult, err error) {
	dir, err := os.MkdirTemp("", "quorlog-demo-")
	if err != nil {
		return nil, err
	}
	p, err := newProcs(dir, 3, 0)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	defer func() {
		p.killAll()
		if d.keep || err != nil && ctx.Err() == nil || result != nil && result.verdict() != nil {
			say("data and logs are in %s", dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	say("starting three nodes in %s", dir)
	if err := p.startAll(ctx); err != nil {
		return nil, err
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.addrs()...), kgo.MetadataMinAge(lookAgain), kgo.DialTimeout(time.Second))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	created, err := kadm.NewClient(cl).CreateTopic(ctx, 1, 3, nil, demoTopic)
	if err != nil {
		return nil, fmt.Errorf("creating the topic: %w", errors.Join(err, created.Err))
	}
	load, err := startDemoLoad(ctx, p.addrs(), d.rate)
	if err != nil {
		return nil, err
	}
	defer load.close()
	r := &demoRun{demo: d, procs: p, adm: kadm.NewClient(cl), load: load, say: say}
	rounds, err := r.rounds(ctx)
	if err != nil {
		return nil, err
	}
	result = load.finish(ctx)
	result.Rounds = rounds
	say("%d records acknowledged, %d consumed: %d lost, %d duplicated, %d out of order, %d not acknowledged",
		result.Acked, result.Consumed, result.Lost, result.Duplicated, result.Reordered, result.Failed)
	return result, nil
}

// verdict is an error if the cluster did not keep its promises.
func (r *demoResult) verdict() error {
	if r.Lost+r.Duplicated+r.Reordered > 0 {
		return fmt.Errorf("%d lost, %d duplicated, %d out of order", r.Lost, r.Duplicated, r.Reordered)
	}
	if r.Failed > 0 {
		return fmt.Errorf("%d records were not acknowledged", r.Failed)
	}
	return nil
}

// demoRun is a demo under way.
type demoRun struct {
	*demo
	procs *procs
	adm   *kadm.Client
	load  *demoLoad
	say   func(string, ...any)
}

func (r *demoRun) rounds(ctx context.Context) ([]demoRound, error) {
	var rounds []demoRound
	for i := range r.demo.rounds {
		round, err := r.round(ctx)
		if err != nil {
			return nil, fmt.Errorf("round %d: %w", i+1, err)
		}
		r.say("round %d: killed node %d, the leader; node %d leads; fail-over %.0f ms", i+1, round.Killed, round.Leader, round.FailOverMS)
		rounds = append(rounds, round)
	}
	return rounds, nil
}

// round waits until all replicas are in sync, kills the leader, waits until another leads, and starts the killed one again.
func (r *demoRun) round(ctx context.Context) (round demoRound, err error) {
	var before kadm.PartitionDetail
	if err := r.procs.await(ctx, func(ctx context.Context) (ok bool) {
		before, ok = r.partition(ctx)
		return ok && len(before.ISR) == len(r.procs.nodes)
	}); err != nil {
		return round, fmt.Errorf("not all replicas are in sync: %w", err)
	}
	if err := wait(ctx, r.pause); err != nil {
		return round, err
	}
	now, ok := r.partition(ctx) // the balancer may have moved it
	if ok {
		before = now
	}
	killed := r.procs.nodes[before.Leader-1]
	acked := r.load.watch()
	killed.kill()
	var after kadm.PartitionDetail
	if err := r.procs.await(ctx, func(ctx context.Context) (ok bool) {
		after, ok = r.partition(ctx)
		return ok && after.Leader != before.Leader && after.LeaderEpoch > before.LeaderEpoch && r.load.acked() > acked+r.rate/5
	}); err != nil {
		return round, fmt.Errorf("no other leader after node %d was killed: %w", before.Leader, err)
	}
	silence := r.load.silence()
	if err := r.procs.start(killed); err != nil {
		return round, err
	}
	return demoRound{Killed: before.Leader, Leader: after.Leader, FailOverMS: float64(silence.Microseconds()) / 1000}, nil
}

// partition is the demo's partition as the cluster describes it; ok means that it has a leader.
func (r *demoRun) partition(ctx context.Context) (kadm.PartitionDetail, bool) {
	topics, err := r.adm.ListTopics(ctx, demoTopic)
	if err != nil {
		return kadm.PartitionDetail{}, false
	}
	p, ok := topics[demoTopic].Partitions[0]
	return p, ok && p.Leader > 0 && (p.Err == nil || errors.Is(p.Err, kerr.ReplicaNotAvailable))
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
