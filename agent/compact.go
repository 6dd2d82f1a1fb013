package agent

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
	"github.com/quorlog/quorlog/replication/transport"
)

// Compaction runs on each node for itself: each replica of a partition is compacted when that node comes to it. All that the
// nodes tell each other of it is up to where all replicas hold a partition's log: no tombstone goes before.

const (
	// everywhereCall asks a partition's leader for that. Request: topic id 16, partition 4. Answer: a partition.Stored, 8.
	everywhereCall = "compact.everywhere"
	// everywherePatience bounds the wait for the answer. Without one tombstones stay until the next pass.
	everywherePatience = 5 * time.Second
	everywhereRequest  = 20
)

// handleCompact answers for the partitions that this node leads.
func (c *contacts) handleCompact() {
	c.peers.Handle(everywhereCall, func(_ context.Context, _ transport.PeerInfo, body []byte) ([]byte, error) {
		k := c.compactor.Load()
		if k == nil {
			return nil, errStarting
		}
		if len(body) != everywhereRequest {
			return nil, fmt.Errorf("%w: %d bytes", replication.ErrInvalidRequest, len(body))
		}
		id := replication.PartitionID{Partition: int32(binary.BigEndian.Uint32(body[16:]))}
		copy(id.Topic[:], body)
		return binary.BigEndian.AppendUint64(nil, uint64(k.Everywhere(id))), nil
	})
}

// everywhere asks a partition's leader.
func (a *Agent) everywhere(ctx context.Context, leader replication.NodeID, id replication.PartitionID) (partition.Stored, error) {
	ctx, cancel := context.WithTimeout(ctx, everywherePatience)
	defer cancel()
	b, err := a.callPeer(ctx, leader, everywhereCall, binary.BigEndian.AppendUint32(id.Topic[:], uint32(id.Partition)))
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("%w: %d bytes", replication.ErrInvalidRequest, len(b))
	}
	return partition.Stored(binary.BigEndian.Uint64(b)), nil
}

// compactLoop compacts one partition after the other, the dirtiest first, and rests when none needs it.
func (a *Agent) compactLoop() {
	for {
		l := a.controller.Image().Layers()
		o := partition.CleanOptions{
			MapBytes: l.Int("log.cleaner.dedupe.buffer.size") / a.layers.Int("log.cleaner.threads"), Pace: a.compacting.wait, Everywhere: a.everywhere,
		}
		if l.Bool("log.cleaner.enable") && a.compactor.Load().CleanDirtiest(a.ctx, o) {
			continue
		}
		rest := time.NewTimer(l.Duration("log.cleaner.backoff.ms"))
		select {
		case <-a.ctx.Done():
			rest.Stop()
			return
		case <-rest.C:
		}
	}
}
