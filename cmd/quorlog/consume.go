package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

type consumeFlags struct {
	format     string
	offset     string
	beginning  bool
	count      int
	exitAtEnd  bool
	group      string
	partitions []int32
	committed  bool
}

func newConsume(c *client) *cobra.Command {
	var f consumeFlags
	cmd := &cobra.Command{
		Use:   "consume TOPIC...",
		Short: "Consume records and print them",
		Long: `Consume prints records by a format, from the start of each partition unless --offset says otherwise.

The format takes the verbs of kcat and rpk: %v value, %k key, %t topic, %p partition, %o offset,
%d timestamp, %h{...} headers. With -o json each record is one JSON object a line.`,
		Example: "  quorlog consume orders\n  quorlog consume orders -f '%p/%o %k=%v\\n' -n 10\n  quorlog consume orders --offset @2026-11-21T10:00:00Z -o json\n  quorlog consume orders --group workers",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, topics []string) error {
			return c.consume(cmd, f, topics)
		},
	}
	c.flags(cmd)
	cmd.Flags().StringVarP(&f.format, "format", "f", `%v\n`, "record format")
	cmd.Flags().StringVar(&f.offset, "offset", "start", "start, end, a number, -N for N before the end, or @time (RFC 3339 or Unix milliseconds)")
	cmd.Flags().BoolVar(&f.beginning, "from-beginning", false, "the same as --offset start")
	cmd.Flags().IntVarP(&f.count, "num", "n", 0, "stop after this many records; 0 goes on")
	cmd.Flags().BoolVarP(&f.exitAtEnd, "exit", "e", false, "stop at the present end of the partitions")
	cmd.Flags().StringVarP(&f.group, "group", "g", "", "consume as a member of this group and commit offsets")
	cmd.Flags().Int32SliceVarP(&f.partitions, "partitions", "p", nil, "only these partitions")
	cmd.Flags().BoolVar(&f.committed, "read-committed", true, "hide records of open and aborted transactions")
	return cmd
}

// parseOffset reads --offset.
func parseOffset(s string) (kgo.Offset, error) {
	switch s {
	case "start":
		return kgo.NewOffset().AtStart(), nil
	case "end":
		return kgo.NewOffset().AtEnd(), nil
	}
	if at, ok := strings.CutPrefix(s, "@"); ok {
		if ms, err := strconv.ParseInt(at, 10, 64); err == nil {
			return kgo.NewOffset().AfterMilli(ms), nil
		}
		t, err := time.Parse(time.RFC3339, at)
		if err != nil {
			return kgo.Offset{}, withCode(exitUsage, fmt.Errorf("offset %q: %w", s, err))
		}
		return kgo.NewOffset().AfterMilli(t.UnixMilli()), nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return kgo.Offset{}, withCode(exitUsage, fmt.Errorf("offset %q: use start, end, a number, -N or @time", s))
	}
	if n < 0 {
		return kgo.NewOffset().AtEnd().Relative(n), nil
	}
	return kgo.NewOffset().At(n), nil
}

func (f consumeFlags) options(topics []string) ([]kgo.Opt, error) {
	if f.beginning {
		f.offset = "start"
	}
	at, err := parseOffset(f.offset)
	if err != nil {
		return nil, err
	}
	opts := []kgo.Opt{kgo.ConsumeResetOffset(at), kgo.FetchMaxWait(500 * time.Millisecond)}
	if f.committed {
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	switch {
	case f.group != "" && len(f.partitions) > 0:
		return nil, withCode(exitUsage, errors.New("--group and --partitions exclude each other"))
	case f.group != "":
		return append(opts, kgo.ConsumeTopics(topics...), kgo.ConsumerGroup(f.group)), nil
	case len(f.partitions) == 0:
		return append(opts, kgo.ConsumeTopics(topics...)), nil
	}
	direct := map[string]map[int32]kgo.Offset{}
	for _, topic := range topics {
		direct[topic] = map[int32]kgo.Offset{}
		for _, p := range f.partitions {
			direct[topic][p] = at
		}
	}
	return append(opts, kgo.ConsumePartitions(direct)), nil
}

// printer writes one record.
type printer func(w io.Writer, r *kgo.Record) error

func (c *client) printer(format string) (printer, error) {
	if c.json() {
		return printRecordJSON, nil
	}
	formatter, err := kgo.NewRecordFormatter(format)
	if err != nil {
		return nil, withCode(exitUsage, fmt.Errorf("format: %w", err))
	}
	var buf []byte
	return func(w io.Writer, r *kgo.Record) error {
		buf = formatter.AppendRecord(buf[:0], r)
		_, err := w.Write(buf)
		return err
	}, nil
}

func printRecordJSON(w io.Writer, r *kgo.Record) error {
	type header struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	}
	out := struct {
		Topic     string   `json:"topic"`
		Partition int32    `json:"partition"`
		Offset    int64    `json:"offset"`
		Timestamp int64    `json:"timestamp"`
		Key       *string  `json:"key"`
		Value     *string  `json:"value"`
		Headers   []header `json:"headers,omitempty"`
	}{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(), Key: text(r.Key), Value: text(r.Value)}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, header{h.Key, string(h.Value)})
	}
	return json.NewEncoder(w).Encode(out)
}

// text keeps null apart from empty: a null value is a tombstone.
func text(b []byte) *string {
	if b == nil {
		return nil
	}
	s := string(b)
	return &s
}

func (c *client) consume(cmd *cobra.Command, f consumeFlags, topics []string) error {
	opts, err := f.options(topics)
	if err != nil {
		return err
	}
	show, err := c.printer(f.format)
	if err != nil {
		return err
	}
	cl, err := c.connect(cmd.Context(), opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	var ends *endTracker
	if f.exitAtEnd {
		if ends, err = newEndTracker(cmd.Context(), kadm.NewClient(cl), topics, f.partitions); err != nil {
			return err
		}
	}
	return pollRecords(cmd, cl, f.count, ends, show)
}

func pollRecords(cmd *cobra.Command, cl *kgo.Client, count int, ends *endTracker, show printer) error {
	seen := 0
	out := newFlushWriter(cmd.OutOrStdout())
	defer out.Flush()
	for !ends.reached() {
		fetches := cl.PollFetches(cmd.Context())
		if cmd.Context().Err() != nil {
			return nil // the user stopped us; what was printed stands
		}
		if err := fetches.Err0(); err != nil {
			return err
		}
		for _, fe := range fetches.Errors() {
			if !endOfInput(fe.Err) {
				return fmt.Errorf("%s/%d: %w", fe.Topic, fe.Partition, fe.Err)
			}
		}
		for iter := fetches.RecordIter(); !iter.Done(); {
			r := iter.Next()
			if ends.beyond(r) {
				continue
			}
			if err := show(out, r); err != nil {
				return err
			}
			if seen++; count > 0 && seen >= count {
				return nil
			}
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// endTracker knows the offsets at which `consume --exit` stops. A nil tracker never stops.
type endTracker struct {
	ends map[string]map[int32]int64 // exclusive; a partition is removed once it is reached
	all  map[string]map[int32]int64
}

func newEndTracker(ctx context.Context, adm *kadm.Client, topics []string, partitions []int32) (*endTracker, error) {
	starts, err := offsetsOf(ctx, adm.ListStartOffsets, topics)
	if err != nil {
		return nil, err
	}
	ends, err := offsetsOf(ctx, adm.ListCommittedOffsets, topics)
	if err != nil {
		return nil, err
	}
	only := map[int32]bool{}
	for _, p := range partitions {
		only[p] = true
	}
	t := &endTracker{ends: map[string]map[int32]int64{}, all: map[string]map[int32]int64{}}
	ends.Each(func(o kadm.ListedOffset) {
		if len(only) > 0 && !only[o.Partition] {
			return
		}
		if t.ends[o.Topic] == nil {
			t.ends[o.Topic], t.all[o.Topic] = map[int32]int64{}, map[int32]int64{}
		}
		t.all[o.Topic][o.Partition] = o.Offset
		if start, _ := starts.Lookup(o.Topic, o.Partition); start.Offset < o.Offset {
			t.ends[o.Topic][o.Partition] = o.Offset
		}
	})
	return t, nil
}

// beyond notes a record and tells whether it was written after the command started.
func (t *endTracker) beyond(r *kgo.Record) bool {
	if t == nil {
		return false
	}
	end, ok := t.all[r.Topic][r.Partition]
	if ok && r.Offset+1 >= end {
		delete(t.ends[r.Topic], r.Partition)
	}
	return ok && r.Offset >= end
}

func (t *endTracker) reached() bool {
	if t == nil {
		return false
	}
	for _, partitions := range t.ends {
		if len(partitions) > 0 {
			return false
		}
	}
	return true
}
