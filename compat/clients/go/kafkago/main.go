// Command kafkago is the common client command line (see ../../README.md) on segmentio/kafka-go.
package main

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
)

func main() {
	verb, brokers, topic, arg := os.Args[1], strings.Split(os.Args[2], ","), os.Args[3], os.Args[4]
	ctx := context.Background()
	var err error
	switch verb {
	case "produce":
		err = produce(ctx, brokers, topic, arg)
	case "consume":
		err = consume(ctx, brokers, topic, number(arg), fmt.Sprintf("consume-%d-%d", os.Getpid(), time.Now().UnixNano()))
	case "group":
		err = consume(ctx, brokers, topic, number(arg), os.Args[5])
	case "member":
		err = member(ctx, brokers, topic, arg)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		log.Fatal(err)
	}
	return n
}

func produce(ctx context.Context, brokers []string, topic, file string) error {
	w := &kafka.Writer{
		Addr: kafka.TCP(brokers...), Topic: topic, RequiredAcks: kafka.RequireAll, Compression: kafka.Lz4, BatchTimeout: 10 * time.Millisecond,
	}
	lines, err := os.Open(file)
	if err != nil {
		return err
	}
	defer lines.Close()
	var batch []kafka.Message
	scanner := bufio.NewScanner(lines)
	for scanner.Scan() {
		batch = append(batch, kafka.Message{Value: append([]byte(nil), scanner.Bytes()...)})
		if len(batch) == 500 {
			if err := w.WriteMessages(ctx, batch...); err != nil {
				return err
			}
			batch = nil
		}
	}
	if err := w.WriteMessages(ctx, batch...); err != nil {
		return err
	}
	return w.Close()
}

// consume always joins a group: kafka-go's reader without one is bound to a single partition.
func consume(ctx context.Context, brokers []string, topic string, count int, group string) error {
	r := kafka.NewReader(kafka.ReaderConfig{
		Brokers: brokers, GroupID: group, Topic: topic, StartOffset: kafka.FirstOffset, MaxWait: 500 * time.Millisecond,
	})
	last := map[int]kafka.Message{}
	for range count {
		m, err := r.FetchMessage(ctx)
		if err != nil {
			return err
		}
		fmt.Printf("%s\n", m.Value)
		last[m.Partition] = m
	}
	for _, m := range last {
		if err := r.CommitMessages(ctx, m); err != nil {
			return err
		}
	}
	return r.Close()
}

// member prints and commits for ever. This client tells nobody which partitions it was given.
func member(ctx context.Context, brokers []string, topic, group string) error {
	r := kafka.NewReader(kafka.ReaderConfig{
		Brokers: brokers, GroupID: group, Topic: topic, StartOffset: kafka.FirstOffset, MaxWait: 200 * time.Millisecond,
		SessionTimeout: 6 * time.Second, HeartbeatInterval: 500 * time.Millisecond, RebalanceTimeout: 10 * time.Second,
		CommitInterval: 300 * time.Millisecond,
	})
	for {
		m, err := r.FetchMessage(ctx)
		if err != nil {
			return err
		}
		fmt.Println("record", m.Partition, m.Offset, string(m.Value))
		if err := r.CommitMessages(ctx, m); err != nil {
			return err
		}
	}
}
