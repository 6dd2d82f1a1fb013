package client_test

import (
	"context"
	"fmt"
	"os"

	"github.com/quorlog/quorlog/grpcapi/client"
	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
)

// try ends the program with an error, if there is one.
func try(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func Example() {
	ctx := context.Background()
	c, err := client.New(client.Target(), client.Options{}) // quorlog:///node1:9092,node2:9092
	try(err)
	defer c.Close()
	try(c.Produce(ctx, &client.Record{Topic: "greetings", Key: []byte("k"), Value: []byte("hello")}))
	for r, err := range c.Read(ctx, client.ReadOptions{Topic: "greetings"}) {
		try(err)
		fmt.Fprintln(os.Stdout, r.Offset, string(r.Value))
		break
	}
	// Output: 0 hello
}

// Many records at once, without waiting for each.
func ExampleClient_Send() {
	ctx := context.Background()
	c, err := client.New(client.Target(), client.Options{})
	try(err)
	defer c.Close()
	stored := 0
	for i := range 1000 {
		try(c.Send(ctx, &client.Record{Topic: "numbers", Value: fmt.Append(nil, i)}, func(_ *client.Record, err error) {
			try(err)
			stored++
		}))
	}
	try(c.Flush(ctx))
	fmt.Fprintln(os.Stdout, stored, "are on disk")
	// Output: 1000 are on disk
}

// From a place that was kept, in one partition, and only so far.
func ExampleClient_Read() {
	ctx := context.Background()
	c, err := client.New(client.Target(), client.Options{Partitioner: client.Manual})
	try(err)
	defer c.Close()
	for i := range 5 {
		try(c.Produce(ctx, &client.Record{Topic: "letters", Partition: 0, Value: []byte{byte('a' + i)}}))
	}
	for r, err := range c.Read(ctx, client.ReadOptions{Topic: "letters", Offsets: map[int32]int64{0: 2}}) {
		try(err)
		fmt.Fprintln(os.Stdout, r.Offset, string(r.Value))
		if r.Offset == 4 {
			break
		}
	}
	// Output:
	// 2 c
	// 3 d
	// 4 e
}

// What has no method of its own is called as quorlog.v1 has it, over the same connections.
func ExampleClient_Conn() {
	ctx := context.Background()
	c, err := client.New(client.Target(), client.Options{})
	try(err)
	defer c.Close()
	topics := quorlogv1.NewTopicsClient(c.Conn())
	_, err = topics.CreateTopic(ctx, &quorlogv1.CreateTopicRequest{Name: "made", Partitions: 3})
	try(err)
	made, err := topics.DescribeTopic(ctx, &quorlogv1.DescribeTopicRequest{Name: "made"})
	try(err)
	fmt.Fprintln(os.Stdout, made.GetName(), len(made.GetPartitions()))
	// Output: made 3
}
