package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
)

type produceFlags struct {
	format      string
	key         string
	partition   int32
	acks        string
	compression string
	verbose     bool
}

func newProduce(c *client) *cobra.Command {
	var f produceFlags
	cmd := &cobra.Command{
		Use:   "produce TOPIC [FILE...]",
		Short: "Produce records read from standard input or files",
		Long: `Produce reads records by a format and sends them idempotently with acks=all.

The format takes the verbs of kcat and rpk: %v value, %k key, %t topic, %p partition,
%h{...} headers; the default is one value a line.`,
		Example: "  echo hello | quorlog produce orders\n  quorlog produce orders -f '%k %v\\n' < pairs.txt\n  quorlog produce logs /var/log/syslog",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.produce(cmd, f, args[0], args[1:])
		},
	}
	c.flags(cmd)
	cmd.Flags().StringVarP(&f.format, "format", "f", `%v\n`, "record format")
	cmd.Flags().StringVarP(&f.key, "key", "k", "", "key of every record")
	cmd.Flags().Int32VarP(&f.partition, "partition", "p", -1, "partition; -1 lets the partitioner choose")
	cmd.Flags().StringVar(&f.acks, "acks", "all", "all, 1 or 0")
	cmd.Flags().StringVarP(&f.compression, "compression", "z", "snappy", "none, gzip, snappy, lz4 or zstd")
	cmd.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "print the partition and offset of every record")
	return cmd
}

// producerOptions turns the flags that `produce` and `bench` share into client options.
func producerOptions(acks, compression string) ([]kgo.Opt, error) {
	var opts []kgo.Opt
	switch acks {
	case "all", "-1":
		opts = append(opts, kgo.RequiredAcks(kgo.AllISRAcks()))
	case "1":
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case "0":
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	default:
		return nil, withCode(exitUsage, fmt.Errorf("unknown acks %q: use all, 1 or 0", acks))
	}
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	codec, ok := codecs[compression]
	if !ok {
		return nil, withCode(exitUsage, fmt.Errorf("unknown compression %q: use none, gzip, snappy, lz4 or zstd", compression))
	}
	return append(opts, kgo.ProducerBatchCompression(codec)), nil
}

func (c *client) produce(cmd *cobra.Command, f produceFlags, topic string, files []string) error {
	opts, err := producerOptions(f.acks, f.compression)
	if err != nil {
		return err
	}
	opts = append(opts, kgo.DefaultProduceTopic(topic), kgo.AllowAutoTopicCreation())
	if f.partition >= 0 {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	in, closeInput, err := openInputs(cmd.InOrStdin(), files)
	if err != nil {
		return err
	}
	defer closeInput()
	reader, err := kgo.NewRecordReader(in, f.format)
	if err != nil {
		return withCode(exitUsage, fmt.Errorf("format: %w", err))
	}
	cl, err := c.connect(cmd.Context(), opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	return sendRecords(cmd, cl, reader, f)
}

// openInputs joins the files, or gives standard input where there are none.
func openInputs(stdin io.Reader, files []string) (io.Reader, func(), error) {
	if len(files) == 0 {
		return stdin, func() {}, nil
	}
	var opened []*os.File
	closeAll := func() {
		for _, file := range opened {
			file.Close()
		}
	}
	var readers []io.Reader
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			closeAll()
			return nil, nil, withCode(exitUsage, err)
		}
		opened = append(opened, file)
		readers = append(readers, file)
	}
	return io.MultiReader(readers...), closeAll, nil
}

func sendRecords(cmd *cobra.Command, cl *kgo.Client, reader *kgo.RecordReader, f produceFlags) error {
	ctx, cancel := context.WithCancelCause(cmd.Context())
	defer cancel(nil)
	var mu sync.Mutex // the promise runs on the client's goroutine, the output belongs to us
	sent := 0
	promise := func(r *kgo.Record, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			cancel(err)
			return
		}
		sent++
		if f.verbose {
			fmt.Fprintf(cmd.OutOrStdout(), "%s/%d offset %d\n", r.Topic, r.Partition, r.Offset)
		}
	}
	for ctx.Err() == nil {
		r, err := reader.ReadRecord()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			cancel(fmt.Errorf("input: %w", err))
			break
		}
		if f.key != "" {
			r.Key = []byte(f.key)
		}
		if f.partition >= 0 {
			r.Partition = f.partition
		}
		cl.Produce(ctx, r, promise)
	}
	if err := cl.Flush(cmd.Context()); err != nil {
		cancel(err)
	}
	mu.Lock()
	defer mu.Unlock()
	fmt.Fprintf(cmd.ErrOrStderr(), "produced %d records\n", sent)
	return context.Cause(ctx)
}
