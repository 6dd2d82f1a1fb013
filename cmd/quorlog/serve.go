package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/quorlog/quorlog/agent"
	"github.com/quorlog/quorlog/internal/config"
)

// A graceful stop waits for others for stopPatience, and has closePatience then to write down what is its own; after that the process ends
// as if killed, which loses nothing either.
const stopPatience, closePatience = 30 * time.Second, 10 * time.Second

var errStop = errors.New("the node has not stopped in time, and ends as if it was killed")

func newServe() *cobra.Command {
	var (
		file string
		set  []string
	)
	cmd := &cobra.Command{
		Use:     "serve",
		Short:   "Run a node (the default)",
		Example: "  quorlog serve --data-dir /var/lib/quorlog --listen 0.0.0.0:9092 --advertise broker.example.com:9092",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&file, "config", os.Getenv("QUORLOG_CONFIG"), "YAML file with settings (env QUORLOG_CONFIG)")
	cmd.Flags().StringArrayVar(&set, "set", nil, "broker setting name=value by its Kafka name, may be repeated")
	for _, row := range config.NodeSettings() {
		cmd.Flags().String(row.Name, row.Default, fmt.Sprintf("%s (env %s)", row.Doc, row.Env()))
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		node, err := config.Load(config.Sources{Flags: givenFlags(cmd.Flags()), Set: set, Env: os.Environ(), File: file})
		if err != nil {
			return withCode(exitUsage, err)
		}
		return serve(cmd.Context(), node, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

// givenFlags are the node's settings that the command line names.
func givenFlags(flags *pflag.FlagSet) map[string]string {
	given := map[string]string{}
	for _, row := range config.NodeSettings() {
		if f := flags.Lookup(row.Name); f != nil && f.Changed {
			given[row.Name] = f.Value.String()
		}
	}
	return given
}

func serve(ctx context.Context, node *config.Node, stdout, stderr io.Writer) error {
	began := time.Now()
	logger := newLogger(node.LogFormat, stderr, isTerminal(stdout))
	slog.SetDefault(logger)
	a, err := agent.New(agent.Config{Node: node, Logger: logger, Version: version, OnFatal: func(err error) {
		if errors.Is(err, agent.ErrOtherCluster) {
			logger.Error("the node stops", "error", err)
			os.Exit(exitFailed)
		}
		logger.Error("the node stops: its disk cannot be relied on", "error", err)
		os.Exit(exitDisk)
	}})
	if err != nil {
		return err
	}
	if err := a.Start(ctx); err != nil {
		closeNode(a, logger)
		return err
	}
	took := time.Since(began)
	stats := a.Stats()
	logger.Info("ready", "listen", a.Addr(), "listeners", a.Listeners(), "node_id", int(node.NodeID), "data_dir", node.DataDir, "took_ms", took.Milliseconds(),
		"partitions", stats.Partitions, "scanned_bytes", stats.ScannedBytes, "raft_entries_read", stats.RaftEntriesRead, "version", version)
	if isTerminal(stdout) {
		printWelcome(stdout, a.Addr(), node, took)
	}
	<-ctx.Done()
	logger.Info("stopping")
	if err := closeNode(a, logger); err != nil {
		return err
	}
	logger.Info("stopped")
	return nil
}

func closeNode(a *agent.Agent, logger *slog.Logger) error {
	err := stopWithin(a.Close)
	if err != nil {
		logger.Error("stopping", "error", err)
	}
	return err
}

// stopWithin returns when stop does, or after stopPatience and closePatience: the context, which ends after the first, calls off only what
// waits for others, and a disk that hangs is waited for.
func stopWithin(stop func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- stop(ctx) }()
	late := time.NewTimer(stopPatience + closePatience)
	defer late.Stop()
	select {
	case err := <-stopped:
		return err
	case <-late.C:
		return fmt.Errorf("%w (%v)", errStop, stopPatience+closePatience)
	}
}

// newLogger logs in the chosen format. A person at a terminal sees the welcome instead of the everyday lines.
func newLogger(format string, w io.Writer, terminal bool) *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.LevelInfo}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	if terminal {
		options.Level = slog.LevelWarn
	}
	return slog.New(slog.NewTextHandler(w, options))
}

func printWelcome(w io.Writer, addr string, node *config.Node, took time.Duration) {
	brokers := ""
	if addr != defaultBroker {
		brokers = " -b " + addr
	}
	fmt.Fprintf(w, `quorlog %s   node %d   ready in %d ms
  kafka  %s
  data   %s (kept)
`, version, node.NodeID, took.Milliseconds(), addr, node.DataDir)
	if first := node.Listeners[0]; first.TLS || first.SASL {
		return // what a client needs there is not for this node to know
	}
	fmt.Fprintf(w, `try:
  quorlog topic create orders --partitions 3%[1]s
  echo hello | quorlog produce orders%[1]s
  quorlog consume orders%[1]s
  kcat -b %[2]s -L
`, brokers, addr)
}
