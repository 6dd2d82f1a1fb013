package faults

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// watcher asks every node again and again who leads, and the leaders for the watermark and the log start.
type watcher struct {
	topic string
	c     []*testcluster.Node
	h     *History
	conns map[int]*wire // by place in c
}

const watchPace = 50 * time.Millisecond

// newWatcher remembers the nodes that the cluster has by now; nodes that join later are not asked.
func newWatcher(l *Load) *watcher {
	w := &watcher{topic: l.Topic, h: l.History, conns: map[int]*wire{}}
	for _, id := range l.c.IDs() {
		w.c = append(w.c, l.c.Node(id))
	}
	return w
}

func (w *watcher) run(ctx context.Context) {
	tick := time.NewTicker(watchPace)
	defer tick.Stop()
	defer func() {
		for _, conn := range w.conns {
			conn.close()
		}
	}()
	for i := 0; ctx.Err() == nil; i++ {
		w.look(ctx, i%len(w.c))
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// look asks one node for what it knows and for the offsets of what it leads.
func (w *watcher) look(ctx context.Context, node int) {
	conn := w.conns[node]
	if conn == nil {
		var err error
		if conn, err = dialWire(ctx, w.c[node].Addr); err != nil {
			return
		}
		w.conns[node] = conn
	}
	if err := w.ask(conn, node+1); err != nil {
		conn.close()
		delete(w.conns, node)
	}
}

func (w *watcher) ask(conn *wire, id int) error {
	view, err := conn.look(w.topic)
	if err != nil {
		return err
	}
	for p := range w.h.Partitions() {
		v, ok := view.parts[p]
		if !ok || v.leader <= 0 {
			continue
		}
		w.h.Leader(p, v.epoch, v.leader)
		if v.leader != id {
			continue
		}
		end, epoch, err := conn.offset(w.topic, p, latestOffset)
		if err != nil {
			return err
		}
		start, _, err := conn.offset(w.topic, p, earliestOffset)
		if err != nil {
			return err
		}
		// The epoch of the answer; where the log is empty there is none, and what the node said before counts.
		w.h.Watermark(p, max(epoch, v.epoch), end, start)
	}
	return nil
}

// Timestamps that ListOffsets gives a meaning.
const (
	latestOffset   = -1
	earliestOffset = -2
)

// offset asks for a partition's watermark or log start; -1 when the node does not say.
func (w *wire) offset(topic string, partition int32, which int64) (offset int64, epoch int32, err error) {
	part := kmsg.NewListOffsetsRequestTopicPartition()
	part.Partition, part.Timestamp, part.CurrentLeaderEpoch = partition, which, -1
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic, rt.Partitions = topic, []kmsg.ListOffsetsRequestTopicPartition{part}
	req := kmsg.NewPtrListOffsetsRequest()
	req.SetVersion(7)
	req.ReplicaID, req.Topics = -1, []kmsg.ListOffsetsRequestTopic{rt}
	answer, err := w.do(req, 2*time.Second)
	if err != nil {
		return -1, -1, err
	}
	got := answer.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
	if got.ErrorCode != 0 {
		return -1, -1, nil
	}
	return got.Offset, got.LeaderEpoch, nil
}
