package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// dialTimeout bounds how long a client command waits for the first broker to answer.
const dialTimeout = 10 * time.Second

// defaultBroker is where a node listens that nobody told otherwise.
const defaultBroker = "127.0.0.1:9092"

// client holds what every client command shares.
type client struct {
	brokers []string
	output  string
	tls     clientTLS
	login   login
}

// flags adds --brokers and --output to a command and those below it.
func (c *client) flags(cmd *cobra.Command) {
	def := []string{defaultBroker}
	if env := os.Getenv("QUORLOG_BROKERS"); env != "" {
		def = strings.Split(env, ",")
	}
	cmd.PersistentFlags().StringSliceVarP(&c.brokers, "brokers", "b", def, "brokers to connect to, host:port[,host:port] (env QUORLOG_BROKERS)")
	cmd.PersistentFlags().StringVarP(&c.output, "output", "o", "text", "output format: text or json")
	c.login.flags(cmd)
	c.tls.flags(cmd)
	cmd.PersistentPreRunE = func(*cobra.Command, []string) error {
		if c.output != "text" && c.output != "json" {
			return withCode(exitUsage, fmt.Errorf("unknown output format %q: use text or json", c.output))
		}
		return nil
	}
}

// connect returns a client that has already talked to a broker, so that a wrong address is one clear error.
func (c *client) connect(ctx context.Context, opts ...kgo.Opt) (*kgo.Client, error) {
	opts = append([]kgo.Opt{kgo.SeedBrokers(c.brokers...), kgo.ClientID("quorlog-cli")}, opts...)
	proof, err := c.proof()
	if err != nil {
		return nil, err
	}
	opts = append(opts, proof...)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, withCode(exitUsage, err)
	}
	pingCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := cl.Ping(pingCtx); err != nil {
		cl.Close()
		if errors.Is(err, kerr.SaslAuthenticationFailed) || errors.Is(err, kerr.UnsupportedSaslMechanism) {
			return nil, fmt.Errorf("logging in at %s: %w", strings.Join(c.brokers, ","), err)
		}
		return nil, withCode(exitUnreachable, fmt.Errorf("no broker answers at %s: %w", strings.Join(c.brokers, ","), err))
	}
	return cl, nil
}

// proof are the options by which brokers and client prove to each other who they are.
func (c *client) proof() ([]kgo.Opt, error) {
	secure, err := c.tls.options()
	if err != nil {
		return nil, withCode(exitUsage, err)
	}
	login, err := c.login.options(c.brokers, len(secure) > 0)
	return append(secure, login...), err
}

// admin connects for administrative requests.
func (c *client) admin(ctx context.Context) (*kadm.Client, error) {
	cl, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	return kadm.NewClient(cl), nil
}

func (c *client) json() bool { return c.output == "json" }

// printJSON writes one indented document.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// table writes aligned columns.
func table(w io.Writer, header []string, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, strings.Join(header, "\t"))
	for _, row := range rows {
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	return tw.Flush()
}

// item is the outcome for one name of a batch.
type item struct {
	Name  string `json:"name"`
	Error string `json:"error,omitempty"`
}

// report prints a batch's outcomes and turns failures into the right exit code.
func (c *client) report(w io.Writer, done string, items []item) error {
	failed := 0
	for _, it := range items {
		if it.Error != "" {
			failed++
		}
	}
	if c.json() {
		if err := printJSON(w, items); err != nil {
			return err
		}
	} else {
		for _, it := range items {
			if it.Error == "" {
				fmt.Fprintf(w, "%s %s\n", done, it.Name)
			} else {
				fmt.Fprintf(w, "%s: %s\n", it.Name, it.Error)
			}
		}
	}
	switch {
	case failed == 0:
		return nil
	case failed == len(items):
		return withCode(exitFailed, fmt.Errorf("%d of %d failed", failed, len(items)))
	}
	return withCode(exitPartly, fmt.Errorf("%d of %d failed", failed, len(items)))
}

// errorText is err's text, with the broker's own words where it sent some.
func errorText(err error, message string) string {
	switch {
	case err == nil:
		return ""
	case message != "":
		return fmt.Sprintf("%v (%s)", err, message)
	}
	return err.Error()
}

// keyValues parses k=v flags.
func keyValues(pairs []string) (map[string]*string, error) {
	out := make(map[string]*string, len(pairs))
	for _, pair := range pairs {
		k, v, ok := strings.Cut(pair, "=")
		if !ok || k == "" {
			return nil, withCode(exitUsage, fmt.Errorf("%q is not key=value", pair))
		}
		out[k] = &v
	}
	return out, nil
}

// endOfInput tells whether err only says that the context or the input ended.
func endOfInput(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed)
}
