package native

import (
	"context"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc/codes"

	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
)

// elsewhere: a node without a replica has the leader answer, and says of a stream where to go.
func elsewhere(w *world) {
	_, err := w.topics(0).CreateTopic(w.ctx, &quorlogv1.CreateTopicRequest{Name: "single", Partitions: 1, ReplicationFactor: 1})
	w.must(err)
	for node := range w.conns {
		w.eventually(func() bool {
			got, err := w.topics(node).DescribeTopic(w.ctx, &quorlogv1.DescribeTopicRequest{Name: "single"})
			return err == nil && got.GetPartitions()[0].GetLeader() >= 0
		})
	}
	leader := w.leader("single", 0)
	const records = 20
	for i := range records {
		_, err := w.records(i%3).Produce(w.ctx, &quorlogv1.ProduceRequest{Topic: "single", Records: []*quorlogv1.Record{{Key: []byte("k"), Value: []byte(strconv.Itoa(i))}}})
		w.must(err)
	}
	for node := range w.conns {
		seen := 0
		for next := int64(0); next < records; {
			got, err := w.records(node).Consume(w.ctx, &quorlogv1.ConsumeRequest{Topic: "single", Start: &quorlogv1.ConsumeRequest_Offset{Offset: next}, MaxRecords: 7})
			w.must(err)
			for _, r := range got.GetRecords() {
				if string(r.Value) != strconv.FormatInt(r.GetOffset(), 10) || r.GetOffset() != int64(seen) {
					w.Errorf("node %d: %v", node, r)
				}
				seen++
			}
			next = got.GetNextOffset()
		}
		end, err := w.records(node).Consume(w.ctx, &quorlogv1.ConsumeRequest{Topic: "single", Start: &quorlogv1.ConsumeRequest_Edge{Edge: quorlogv1.Edge_EDGE_LATEST}, MaxWaitMs: 1})
		w.must(err)
		if len(end.GetRecords()) != 0 || end.GetNextOffset() != records {
			w.Errorf("node %d: %v", node, end)
		}
		_, err = w.records(node).Consume(w.ctx, &quorlogv1.ConsumeRequest{Topic: "single", Start: &quorlogv1.ConsumeRequest_Offset{Offset: 1000}})
		st := w.refused(err, codes.OutOfRange, "OFFSET_OUT_OF_RANGE")
		if r := detail[*quorlogv1.OffsetRange](st); r.GetEndOffset() != records {
			w.Errorf("node %d: %v", node, r)
		}
		if node == leader {
			continue
		}
		stream, err := w.records(node).ConsumeStream(w.ctx, &quorlogv1.ConsumeRequest{Topic: "single"})
		w.must(err)
		_, err = stream.Recv()
		st = w.refused(err, codes.Unavailable, "NOT_LEADER_OR_FOLLOWER")
		if l := detail[*quorlogv1.NotLeader](st); l.GetLeader() != int32(leader+1) || l.GetAddress() != w.addrs[leader] {
			w.Errorf("node %d says that %v leads, not %d", node, l, leader)
		}
	}
	// Who waits on another node hears of what comes meanwhile.
	came := make(chan error, 1)
	go func() {
		got, err := w.records((leader+1)%3).Consume(w.ctx, &quorlogv1.ConsumeRequest{Topic: "single", Start: &quorlogv1.ConsumeRequest_Offset{Offset: records}, MaxWaitMs: 60_000})
		if err == nil && len(got.GetRecords()) != 1 {
			err = fmt.Errorf("%v", got)
		}
		came <- err
	}()
	_, err = w.records(leader).Produce(w.ctx, &quorlogv1.ProduceRequest{Topic: "single", Records: []*quorlogv1.Record{{Value: []byte("more")}}})
	w.must(err)
	w.must(<-came)
}

// bombs: a batch that decompresses to much is read if it is not too much, and if it is, its reader is told and can go on behind it.
func bombs(w *world) {
	const mib = 1 << 20
	w.topic("bombs", 1)
	cl := w.client(kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.ProducerBatchMaxBytes(100*mib), kgo.BrokerMaxWriteBytes(200*mib))
	for _, size := range []int{20 * mib, 70 * mib} {
		w.must(cl.ProduceSync(w.ctx, &kgo.Record{Topic: "bombs", Value: make([]byte, size)}).FirstErr())
	}
	_, err := w.records(0).Produce(w.ctx, &quorlogv1.ProduceRequest{Topic: "bombs", Records: []*quorlogv1.Record{{Value: []byte("behind")}}})
	w.must(err)
	read := func(at int64) (*quorlogv1.ConsumeResponse, error) {
		large := dialLarge(w)
		return large.Consume(w.ctx, &quorlogv1.ConsumeRequest{
			Topic: "bombs", Start: &quorlogv1.ConsumeRequest_Offset{Offset: at}, MaxRecords: 1, MaxWaitMs: 10_000, // a follower may be behind
		})
	}
	got, err := read(0)
	w.must(err)
	if len(got.GetRecords()) != 1 || len(got.GetRecords()[0].Value) != 20*mib {
		w.Errorf("%d records", len(got.GetRecords()))
	}
	_, err = read(1)
	w.refused(err, codes.InvalidArgument, "MESSAGE_TOO_LARGE")
	if got, err = read(2); err != nil || len(got.GetRecords()) != 1 || string(got.GetRecords()[0].Value) != "behind" {
		w.Error(got, err)
	}
}

// leaderChanges: streams on all nodes go on while leaderships move, and bring each record once.
func leaderChanges(w *world) {
	w.topic("moving", 1)
	const records, moves = 300, 3
	done := make(chan error, len(w.conns))
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	for node := range w.conns {
		stream, err := w.records(node).ConsumeStream(ctx, &quorlogv1.ConsumeRequest{Topic: "moving"})
		w.must(err)
		go func() {
			seen := map[string]bool{}
			for next := int64(0); len(seen) < records; {
				got, err := stream.Recv()
				if err != nil {
					done <- fmt.Errorf("node %d after %d records: %w", node, len(seen), err)
					return
				}
				for _, r := range got.GetRecords() {
					if r.GetOffset() < next {
						done <- fmt.Errorf("node %d: offset %d after %d", node, r.GetOffset(), next)
						return
					}
					next, seen[string(r.Value)] = r.GetOffset()+1, true
				}
			}
			done <- nil
		}()
	}
	for i := range records {
		if i%(records/moves) == records/moves/2 {
			from := w.leader("moving", 0)
			_, err := w.cluster(0).Drain(w.ctx, &quorlogv1.DrainRequest{Node: int32(from + 1), Drain: true})
			w.must(err)
			w.eventually(func() bool { return w.leader("moving", 0) != from })
			_, err = w.cluster(0).Drain(w.ctx, &quorlogv1.DrainRequest{Node: int32(from + 1)})
			w.must(err)
		}
		w.eventually(func() bool { // without an identity it may be there twice
			_, err := w.records(i%3).Produce(w.ctx, &quorlogv1.ProduceRequest{Topic: "moving", Records: []*quorlogv1.Record{{Value: []byte(strconv.Itoa(i))}}})
			return err == nil
		})
	}
	for range w.conns {
		w.must(<-done)
	}
}
