package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorlog/quorlog/agent"
)

// dev is a cluster on this machine to try things out with.
type dev struct {
	nodes   int
	dir     string
	port    int
	procs   bool
	restart time.Duration
}

func newDev() *cobra.Command {
	d := &dev{}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a cluster on this machine to try things out with",
		Long: `Dev runs real nodes on loopback, with real files and real TCP: what works here works on several machines. The data is kept,
and the same command goes on with it. All nodes run in this process, or with --procs each in a process of its own, which
"quorlog dev kill N" kills.`,
		Example: `  quorlog dev
  quorlog dev --procs
  quorlog dev kill 2`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := d.check(); err != nil {
				return withCode(exitUsage, err)
			}
			if d.procs {
				return d.runProcs(cmd.Context(), cmd.OutOrStdout())
			}
			return d.runHere(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.PersistentFlags().StringVar(&d.dir, "dir", "quorlog-dev", "directory for the nodes' data")
	cmd.Flags().IntVar(&d.nodes, "nodes", 3, "how many nodes: 1, 3 or 5")
	cmd.Flags().IntVar(&d.port, "port", 9092, "the first node's port; the others listen 100 further on each; 0 takes free ports")
	cmd.Flags().BoolVar(&d.procs, "procs", false, "run each node in a process of its own")
	cmd.Flags().DurationVar(&d.restart, "restart-after", 10*time.Second, "with --procs: start a node again so long after it ended; 0 is never")
	cmd.AddCommand(newDevKill(d))
	return cmd
}

// check refuses what can't work. The nodes of a directory know how many they are.
func (d *dev) check() error {
	if !slices.Contains([]int{1, 3, 5}, d.nodes) {
		return fmt.Errorf("--nodes %d: choose 1, 3 or 5", d.nodes)
	}
	if last := d.port + (d.nodes-1)*agent.PortStep + 1; d.port < 0 || last > 65535 {
		return fmt.Errorf("--port %d: the nodes need the ports up to %d", d.port, last)
	}
	made, err := filepath.Glob(filepath.Join(d.dir, "node-*", "node.json"))
	if err == nil && len(made) > 0 && len(made) != d.nodes {
		err = fmt.Errorf("%s holds a cluster of %d nodes: use --nodes %[2]d, or another --dir", d.dir, len(made))
	}
	return err
}

// portsAreFree says which port is taken before any node starts: the others would wait for the one that can't.
func (d *dev) portsAreFree() error {
	if d.port == 0 {
		return nil
	}
	ports, err := agent.ChoosePorts(d.nodes, d.port)
	for i, p := range ports {
		node := "node " + strconv.Itoa(i+1)
		err = errors.Join(err, portIsFree(p.Port, node))
		if d.nodes > 1 {
			err = errors.Join(err, portIsFree(p.Gossip, node+"'s gossip"))
		}
		if err != nil {
			break
		}
	}
	return err
}

func portIsFree(port int, owner string) error {
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s, the address of %s, is taken: stop what listens there, or choose other ports by --port", addr, owner)
	}
	if err != nil {
		return fmt.Errorf("the address of %s: %w", owner, err)
	}
	return l.Close()
}

// runHere runs the nodes in this process.
func (d *dev) runHere(ctx context.Context, stdout, stderr io.Writer) error {
	began := time.Now()
	if err := d.portsAreFree(); err != nil {
		return err
	}
	fatal := make(chan error, 1)
	cluster, err := agent.NewCluster(agent.ClusterConfig{
		Nodes: d.nodes, Dir: d.dir, BasePort: d.port, Logger: newLogger("text", stderr, true),
		OnFatal: func(err error) {
			select {
			case fatal <- err:
			default: // the first one is reported
			}
		},
	})
	if err != nil {
		return err
	}
	if err := cluster.Start(ctx); err != nil {
		return errors.Join(err, stopWithin(cluster.Close))
	}
	var addrs []string
	for _, a := range cluster.Nodes() {
		addrs = append(addrs, a.Addr())
	}
	d.welcome(stdout, addrs, time.Since(began))
	select {
	case err := <-fatal:
		return withCode(exitDisk, fmt.Errorf("a node can't go on: %w", err))
	case <-ctx.Done():
	}
	fmt.Fprintln(stdout, "stopping")
	return stopWithin(cluster.Close)
}

// runProcs runs the nodes as child processes until the context ends.
func (d *dev) runProcs(ctx context.Context, stdout io.Writer) error {
	began := time.Now()
	p, err := newProcs(d.dir, d.nodes, d.port)
	if err != nil {
		return err
	}
	if err := p.noneRuns(); err != nil {
		return err
	}
	if err := d.portsAreFree(); err != nil {
		return err
	}
	defer p.stopAll()
	if err := p.startAll(ctx); err != nil {
		return err
	}
	d.welcome(stdout, p.addrs(), time.Since(began))
	return d.watch(ctx, p, stdout)
}

// watch starts nodes again that ended.
func (d *dev) watch(ctx context.Context, p *procs, stdout io.Writer) error {
	due := make([]time.Time, len(p.nodes)) // when to start a node that ended
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			fmt.Fprintln(stdout, "stopping")
			return nil
		case <-tick.C:
		}
		for i, n := range p.nodes {
			switch {
			case !n.hasEnded():
			case due[i].IsZero():
				due[i] = time.Now().Add(d.restart)
				next := fmt.Sprintf("it starts again in %v", d.restart)
				if d.restart <= 0 {
					next = "it is left as it is"
				}
				fmt.Fprintf(stdout, "node %d has ended (%v); %s\n", n.id, n.cmd.ProcessState, next)
			case d.restart > 0 && time.Now().After(due[i]):
				if err := p.start(n); err != nil {
					return err
				}
				due[i] = time.Time{}
				fmt.Fprintf(stdout, "node %d starts again\n", n.id)
			}
		}
	}
}

// welcome tells where the cluster is, what to try and how to break it.
func (d *dev) welcome(w io.Writer, addrs []string, took time.Duration) {
	brokers := ""
	if addrs[0] != defaultBroker {
		brokers = " -b " + strings.Join(addrs, ",")
	}
	fmt.Fprintf(w, "quorlog %s   %d nodes ready in %d ms\n", version, len(addrs), took.Milliseconds())
	for i, addr := range addrs {
		fmt.Fprintf(w, "  node %d  %s  %s\n", i+1, addr, filepath.Join(d.dir, "node-"+strconv.Itoa(i+1)))
	}
	fmt.Fprintf(w, "the data is kept; ^C stops the nodes\ntry:\n  quorlog topic create orders --partitions 3%[1]s\n"+
		"  seq 1 1000 | quorlog produce orders%[1]s\n  quorlog consume orders --exit%[1]s\n  quorlog cluster status%[1]s\n", brokers)
	if len(addrs) == 1 {
		return
	}
	fmt.Fprintln(w, "break it:")
	if !d.procs {
		fmt.Fprintf(w, "  quorlog node drain 2%s\n  quorlog demo        (kills leaders under load)\n", brokers)
		fmt.Fprintln(w, "  quorlog dev --procs (nodes in processes of their own, to be killed)")
		return
	}
	dir := ""
	if d.dir != "quorlog-dev" {
		dir = " --dir " + d.dir
	}
	fmt.Fprintf(w, "  quorlog dev kill 2%s\n  quorlog cluster status%s\n", dir, brokers)
	if d.restart > 0 {
		fmt.Fprintf(w, "a killed node starts again after %v\n", d.restart)
	}
}

func newDevKill(d *dev) *cobra.Command {
	return &cobra.Command{
		Use:     "kill N",
		Short:   "Kill a node of `quorlog dev --procs` as a crash does (kill -9)",
		Example: "  quorlog dev kill 2",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.Atoi(args[0])
			if err != nil || id < 1 {
				return withCode(exitUsage, fmt.Errorf("%q is not a node's number", args[0]))
			}
			n := &proc{id: id, pid: filepath.Join(d.dir, "node-"+strconv.Itoa(id)+".pid")}
			pid, ok := n.running()
			if !ok {
				return fmt.Errorf("node %d does not run as a process of its own in %s: is `quorlog dev --procs` running?", id, d.dir)
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				return fmt.Errorf("killing node %d: %w", id, err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "killed node %d (process %d)\n", id, pid)
			return err
		},
	}
}
