package agent

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
	"github.com/quorlog/quorlog/replication/transport"
)

const (
	// watermarksCall asks a node for the high watermarks of partitions that it leads. Request: for each, topic id 16, partition 4.
	// Answer: for each, 8, or -1 where the node does not lead it.
	watermarksCall  = "metrics.watermarks"
	watermarksEntry = 20
	// watermarksMost bounds the partitions of one call.
	watermarksMost = 10_000
	// lagPatience bounds the wait for other nodes. What has not come by then is left out.
	lagPatience = 2 * time.Second
)

// handleWatermarks answers for the partitions that this node leads.
func (c *contacts) handleWatermarks() {
	c.peers.Handle(watermarksCall, func(_ context.Context, _ transport.PeerInfo, body []byte) ([]byte, error) {
		m := c.local.Load()
		if m == nil {
			return nil, errStarting
		}
		if len(body)%watermarksEntry != 0 || len(body) > watermarksMost*watermarksEntry {
			return nil, fmt.Errorf("%w: %d bytes", replication.ErrInvalidRequest, len(body))
		}
		out := make([]byte, 0, len(body)/watermarksEntry*8)
		for e := range slices.Chunk(body, watermarksEntry) {
			id := replication.PartitionID{Partition: int32(binary.BigEndian.Uint32(e[16:]))}
			copy(id.Topic[:], e)
			out = binary.BigEndian.AppendUint64(out, uint64(watermark(m, id)))
		}
		return out, nil
	})
}

// watermark is the high watermark of a partition that this node leads; -1 of another.
func watermark(m *partition.Manager, id replication.PartitionID) batch.Offset {
	if p, ok := m.Get(id); ok && p.Leading() {
		if at, ok := partition.PositionOf(p); ok {
			return at.HighWatermark
		}
	}
	return -1
}

// watermarks asks the leaders of partitions for their high watermarks, each once for all of them, at the same time. The partitions
// must differ. What is not known in time is left out.
func watermarks(ctx context.Context, a *Agent, of []replication.PartitionID) map[replication.PartitionID]batch.Offset {
	marks := make(map[replication.PartitionID]batch.Offset, len(of))
	elsewhere := map[replication.NodeID][]replication.PartitionID{}
	for _, id := range of {
		switch leader := leaderOf(a, id); leader {
		case replication.NoNode:
		case a.node.NodeID:
			if mark := watermark(a.partitions, id); mark >= 0 {
				marks[id] = mark
			}
		default:
			elsewhere[leader] = append(elsewhere[leader], id)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, lagPatience)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for node, all := range elsewhere {
		wg.Go(func() {
			for ids := range slices.Chunk(all, watermarksMost) {
				answer, err := askFor(ids, func(body []byte) ([]byte, error) { return a.callPeer(ctx, node, watermarksCall, body) })
				if err != nil {
					return // left out
				}
				mu.Lock()
				for i, mark := range answer {
					if mark >= 0 {
						marks[ids[i]] = mark
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return marks
}

// askFor asks one node by ask. The answer has a watermark, or -1, for each partition.
func askFor(ids []replication.PartitionID, ask func([]byte) ([]byte, error)) ([]batch.Offset, error) {
	body := make([]byte, 0, watermarksEntry*len(ids))
	for _, id := range ids {
		body = binary.BigEndian.AppendUint32(append(body, id.Topic[:]...), uint32(id.Partition))
	}
	b, err := ask(body)
	switch {
	case err != nil:
		return nil, err
	case len(b) != 8*len(ids):
		return nil, fmt.Errorf("%w: %d bytes for %d partitions", replication.ErrInvalidRequest, len(b), len(ids))
	}
	out := make([]batch.Offset, len(ids))
	for i := range out {
		out[i] = batch.Offset(binary.BigEndian.Uint64(b[8*i:]))
	}
	return out, nil
}

// leaderOf is who leads a partition: its own replica knows best, else what nodes told each other.
func leaderOf(a *Agent, id replication.PartitionID) replication.NodeID {
	if p, ok := a.partitions.Get(id); ok && p.Leading() {
		return a.node.NodeID
	}
	l, _, _ := a.table.Leader(id)
	return l.Node
}
