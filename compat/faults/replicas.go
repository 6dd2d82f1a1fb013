package faults

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/quorlog/quorlog/log/batch"
)

// compareReplicas reads each partition from each node that holds it, bytes of batches and all, and reports every node
// whose bytes differ from the others'. A replica that is behind gets time to catch up.
func (l *Load) compareReplicas(starts, ends []int64) {
	l.t.Helper()
	for p := range l.o.Partitions {
		for !l.comparePartition(p, starts[p], ends[p]) {
			starts, _ = l.offsets() // retention has moved the log start meanwhile
		}
	}
}

// comparePartition does it for one partition. It reports false if the log start has passed the one that is given.
func (l *Load) comparePartition(p int32, start, end int64) bool {
	nodes := l.replicasOf(p)
	want := ""
	for _, id := range nodes {
		sum, err := l.replicaSum(id, p, start, end)
		switch {
		case errors.Is(err, kerr.OffsetOutOfRange) && l.o.Jumps:
			return false
		case err != nil:
			l.History.Report(Divergent, "partition %d on node %d can't be read: %v", p, id, err)
		case want == "":
			want = sum
		case sum != want:
			l.History.Report(Divergent, "partition %d, offsets %d to %d: node %d has other bytes than node %d", p, start, end, id, nodes[0])
		}
	}
	return true
}

// replicasOf asks for the nodes that hold a partition.
func (l *Load) replicasOf(p int32) (ids []int) {
	l.t.Helper()
	await(l.t, func() string {
		for _, addr := range l.c.Addrs() {
			w, err := dialWire(context.Background(), addr)
			if err != nil {
				continue
			}
			view, err := w.look(l.Topic)
			w.close()
			if err == nil && len(view.replica[p]) > 0 {
				ids = ids[:0]
				for _, id := range view.replica[p] {
					ids = append(ids, int(id))
				}
				return ""
			}
		}
		return "nobody tells who holds the partition"
	})
	return ids
}

// replicaPatience bounds the wait for a replica to show everything: followers learn of the watermark within a second.
const replicaPatience = 20 * time.Second

// replicaSum is the checksum of all batches of a partition between two offsets, as one node has them.
func (l *Load) replicaSum(node int, p int32, start, end int64) (string, error) {
	var w *wire
	defer func() {
		if w != nil {
			w.close()
		}
	}()
	sum, at := sha256.New(), start
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	last := errors.New("it answers with nothing")
	for deadline := time.Now().Add(replicaPatience); at < end; {
		if time.Now().After(deadline) {
			return "", fmt.Errorf("at offset %d of %d: %w", at, end, last)
		}
		if w == nil {
			if w, last = dialWire(context.Background(), l.c.Node(node).Addr); last != nil {
				w = nil
				<-tick.C
				continue
			}
		}
		frames, err := w.fetch(l.Topic, p, at)
		if errors.Is(err, kerr.OffsetOutOfRange) && l.o.Jumps {
			return "", err
		}
		if err != nil {
			last = err
			var code *kerr.Error
			if !errors.As(err, &code) {
				w.close()
				w = nil
			}
			<-tick.C
			continue
		}
		if len(frames) == 0 {
			<-tick.C // its watermark is not there yet
		}
		for _, f := range frames {
			h, err := batch.ParseHeader(f)
			if err != nil {
				return "", err
			}
			if int64(h.NextOffset()) <= at {
				continue // the batch before, from whose middle it was asked
			}
			if int64(h.BaseOffset) >= end {
				break
			}
			sum.Write(f)
			at = int64(h.NextOffset())
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// fetch reads whole batches from one node, leader or not.
func (w *wire) fetch(topic string, p int32, at int64) ([][]byte, error) {
	part := kmsg.NewFetchRequestTopicPartition()
	part.Partition, part.FetchOffset, part.PartitionMaxBytes, part.CurrentLeaderEpoch = p, at, 4<<20, -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.Partitions = topic, []kmsg.FetchRequestTopicPartition{part}
	req := kmsg.NewPtrFetchRequest()
	req.SetVersion(12)
	req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = -1, 100, 1, 16<<20
	req.Rack = "nowhere" // with a rack, followers answer, too
	req.SessionEpoch, req.Topics = -1, []kmsg.FetchRequestTopic{rt}
	answer, err := w.do(req, 5*time.Second)
	if err != nil {
		return nil, err
	}
	resp := answer.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return nil, fmt.Errorf("a fetch answer for %d topics", len(resp.Topics))
	}
	got := resp.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(got.ErrorCode); err != nil {
		return nil, err
	}
	return wholeBatches(got.RecordBatches), nil
}

// wholeBatches cuts what a fetch has brought; a batch that is cut off at the end is left out.
func wholeBatches(b []byte) (frames [][]byte) {
	for len(b) >= batch.HeaderSize {
		h, err := batch.ParseHeader(b)
		if err != nil || h.Size() > len(b) {
			break
		}
		frames = append(frames, b[:h.Size()])
		b = b[h.Size():]
	}
	return frames
}
