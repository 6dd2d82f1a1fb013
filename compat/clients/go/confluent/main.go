// Command confluent is the common client command line (see ../../README.md) on confluent-kafka-go, which is librdkafka.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"log"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// patience bounds the wait for one record.
const patience = 60 * time.Second

func main() {
	verb, brokers, topic, arg := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	var err error
	switch verb {
	case "produce":
		err = produce(brokers, topic, arg)
	case "consume":
		err = consume(brokers, topic, number(arg), fmt.Sprintf("consume-%d-%d", os.Getpid(), time.Now().UnixNano()))
	case "group":
		err = consume(brokers, topic, number(arg), os.Args[5])
	case "member":
		err = member(brokers, topic, arg, os.Args[5])
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

func produce(brokers, topic, file string) error {
	p, err := kafka.NewProducer(&kafka.ConfigMap{"bootstrap.servers": brokers, "enable.idempotence": true, "compression.type": "zstd"})
	if err != nil {
		return err
	}
	defer p.Close()
	lines, err := os.Open(file)
	if err != nil {
		return err
	}
	defer lines.Close()
	delivered := make(chan kafka.Event, 10_000)
	sent, acked := 0, 0
	drain := func() error {
		m := (<-delivered).(*kafka.Message)
		acked++
		return m.TopicPartition.Error
	}
	for scanner := bufio.NewScanner(lines); scanner.Scan(); sent++ {
		value := append([]byte(nil), scanner.Bytes()...)
		if err := p.Produce(&kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: kafka.PartitionAny}, Value: value}, delivered); err != nil {
			return err
		}
		for sent-acked > 5_000 {
			if err := drain(); err != nil {
				return err
			}
		}
	}
	for acked < sent {
		if err := drain(); err != nil {
			return err
		}
	}
	return nil
}

func consume(brokers, topic string, count int, group string) error {
	c, err := kafka.NewConsumer(&kafka.ConfigMap{
		"bootstrap.servers": brokers, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": false,
	})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Subscribe(topic, nil); err != nil {
		return err
	}
	last := map[int32]*kafka.Message{}
	for range count {
		m, err := c.ReadMessage(patience)
		if err != nil {
			return err
		}
		fmt.Printf("%s\n", m.Value)
		last[m.TopicPartition.Partition] = m
	}
	for _, m := range last {
		if _, err := c.CommitMessage(m); err != nil {
			return err
		}
	}
	return nil
}

func list(partitions []kafka.TopicPartition) string {
	var ids []string
	for _, p := range partitions {
		ids = append(ids, strconv.Itoa(int(p.Partition)))
	}
	return strings.Join(ids, ",")
}

// generation is the group's, -1 if it is not known. The client tells it to transactional producers only, in a form that it calls opaque:
// that of librdkafka's rd_kafka_consumer_group_metadata_write, where it stands behind a magic word.
func generation(c *kafka.Consumer) int32 {
	const magic = "CGMDv2:"
	metadata, err := c.GetConsumerGroupMetadata()
	if err != nil {
		return -1
	}
	field := reflect.ValueOf(metadata).Elem().FieldByName("serialized")
	if !field.IsValid() {
		return -1
	}
	b, ok := bytes.CutPrefix(field.Bytes(), []byte(magic))
	if !ok || len(b) < 4 {
		return -1
	}
	return int32(binary.NativeEndian.Uint32(b))
}

// member prints and commits for ever.
func member(brokers, topic, group, protocol string) error {
	settings := kafka.ConfigMap{"bootstrap.servers": brokers, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": false}
	if protocol == "consumer" {
		settings["group.protocol"] = "consumer"
	} else {
		settings["session.timeout.ms"], settings["heartbeat.interval.ms"] = 6000, 500
	}
	c, err := kafka.NewConsumer(&settings)
	if err != nil {
		return err
	}
	err = c.Subscribe(topic, func(c *kafka.Consumer, e kafka.Event) error {
		now := time.Now().UnixNano()
		switch e := e.(type) {
		case kafka.AssignedPartitions:
			if protocol != "consumer" {
				fmt.Println("assigned", generation(c), list(e.Partitions))
			} else {
				fmt.Println("gained", now, list(e.Partitions))
			}
		case kafka.RevokedPartitions:
			switch {
			case protocol != "consumer":
			case c.AssignmentLost():
				fmt.Println("lost", now, list(e.Partitions))
			default:
				fmt.Println("ceded", now, list(e.Partitions))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for uncommitted := 0; ; {
		m, err := c.ReadMessage(100 * time.Millisecond)
		if err == nil {
			fmt.Println("record", m.TopicPartition.Partition, int64(m.TopicPartition.Offset), string(m.Value))
			uncommitted++
		}
		if uncommitted == 100 || uncommitted > 0 && err != nil {
			if _, err := c.Commit(); err != nil { // the partition's next owner repeats what was not committed
				log.Println(err)
			}
			uncommitted = 0
		}
	}
}
