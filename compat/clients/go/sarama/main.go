// Command sarama is the common client command line (see ../../README.md) on IBM/sarama.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"
)

func main() {
	verb, brokers, topic, arg := os.Args[1], strings.Split(os.Args[2], ","), os.Args[3], os.Args[4]
	cfg := sarama.NewConfig()
	cfg.ClientID = "compat-sarama"
	cfg.Consumer.Offsets.Initial = sarama.OffsetOldest
	cfg.Consumer.Return.Errors = true
	// Idempotence asks for these three.
	cfg.Producer.Idempotent = true
	cfg.Producer.RequiredAcks = sarama.WaitForAll
	cfg.Net.MaxOpenRequests = 1
	cfg.Producer.Return.Successes = true
	cfg.Producer.Compression = sarama.CompressionSnappy
	var err error
	switch verb {
	case "produce":
		err = produce(cfg, brokers, topic, arg)
	case "consume":
		err = consume(cfg, brokers, topic, number(arg))
	case "group":
		err = group(cfg, brokers, topic, number(arg), os.Args[5])
	case "member":
		err = member(cfg, brokers, topic, arg)
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

func produce(cfg *sarama.Config, brokers []string, topic, file string) error {
	producer, err := sarama.NewAsyncProducer(brokers, cfg)
	if err != nil {
		return err
	}
	lines, err := os.Open(file)
	if err != nil {
		return err
	}
	defer lines.Close()
	sent := make(chan int)
	go func() {
		n := 0
		for scanner := bufio.NewScanner(lines); scanner.Scan(); n++ {
			producer.Input() <- &sarama.ProducerMessage{Topic: topic, Value: sarama.ByteEncoder(append([]byte(nil), scanner.Bytes()...))}
		}
		sent <- n
	}()
	done, want := 0, -1
	for done != want {
		select {
		case <-producer.Successes():
			done++
		case failed := <-producer.Errors():
			return failed
		case want = <-sent:
		}
	}
	return producer.Close()
}

func consume(cfg *sarama.Config, brokers []string, topic string, count int) error {
	consumer, err := sarama.NewConsumer(brokers, cfg)
	if err != nil {
		return err
	}
	partitions, err := consumer.Partitions(topic)
	if err != nil {
		return err
	}
	values := make(chan []byte)
	failures := make(chan error)
	for _, p := range partitions {
		pc, err := consumer.ConsumePartition(topic, p, sarama.OffsetOldest)
		if err != nil {
			return err
		}
		go func() {
			for {
				select {
				case m := <-pc.Messages():
					values <- m.Value
				case err := <-pc.Errors():
					failures <- err
				}
			}
		}()
	}
	for range count {
		select {
		case v := <-values:
			fmt.Printf("%s\n", v)
		case err := <-failures:
			return err
		}
	}
	return nil
}

// printer is a group handler that prints until it has seen enough.
type printer struct {
	left int
	done context.CancelFunc
}

func (*printer) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (*printer) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (p *printer) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for m := range claim.Messages() {
		if !p.take(session, m) {
			return nil
		}
	}
	return nil
}

var turn = make(chan struct{}, 1) // claims run at the same time; one prints at a time

func (p *printer) take(session sarama.ConsumerGroupSession, m *sarama.ConsumerMessage) bool {
	turn <- struct{}{}
	defer func() { <-turn }()
	if p.left == 0 {
		return false
	}
	fmt.Printf("%s\n", m.Value)
	session.MarkMessage(m, "")
	if p.left--; p.left == 0 {
		session.Commit()
		p.done()
	}
	return true
}

func group(cfg *sarama.Config, brokers []string, topic string, count int, name string) error {
	cfg.Consumer.Offsets.AutoCommit.Enable = false // exactly what was printed is committed
	member, err := sarama.NewConsumerGroup(brokers, name, cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		for err := range member.Errors() {
			log.Println(err)
		}
	}()
	p := &printer{left: count, done: cancel}
	for ctx.Err() == nil {
		if err := member.Consume(ctx, []string{topic}, p); err != nil && !errors.Is(err, context.Canceled) {
			log.Println(err) // such as a coordinator that has moved; the next round finds it
			time.Sleep(200 * time.Millisecond)
		}
	}
	return member.Close()
}

// teller is a group handler that prints for ever.
type teller struct{ topic string }

func (t teller) Setup(session sarama.ConsumerGroupSession) error {
	var ids []string
	for _, p := range session.Claims()[t.topic] {
		ids = append(ids, strconv.Itoa(int(p)))
	}
	fmt.Println("assigned", session.GenerationID(), strings.Join(ids, ","))
	return nil
}

func (teller) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (teller) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case m, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			fmt.Println("record", m.Partition, m.Offset, string(m.Value))
			session.MarkMessage(m, "")
		case <-session.Context().Done():
			return nil
		}
	}
}

func member(cfg *sarama.Config, brokers []string, topic, name string) error {
	cfg.Consumer.Group.Session.Timeout, cfg.Consumer.Group.Heartbeat.Interval = 6*time.Second, 500*time.Millisecond
	cfg.Consumer.Group.Rebalance.Timeout = 10 * time.Second
	cfg.Consumer.Offsets.AutoCommit.Interval = 300 * time.Millisecond
	cfg.Net.ReadTimeout = 15 * time.Second // longer than a rebalance may take
	member, err := sarama.NewConsumerGroup(brokers, name, cfg)
	if err != nil {
		return err
	}
	go func() {
		for err := range member.Errors() {
			log.Println(err)
		}
	}()
	for {
		if err := member.Consume(context.Background(), []string{topic}, teller{topic}); err != nil {
			log.Println(err) // while a node is down; the next round finds another
			time.Sleep(200 * time.Millisecond)
		}
	}
}
