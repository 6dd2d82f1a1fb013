package coordinator

import (
	"context"
	"log/slog"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/replication"
)

// PartitionOf is Kafka's: Java's hash of the key, without its sign, modulo the number of partitions.
func PartitionOf(key string, partitions int32) int32 {
	return (javaHash(key) & 0x7fffffff) % partitions
}

// javaHash is Java's String.hashCode: over UTF-16 code units, in 32 bits that wrap. A byte that is no UTF-8 counts as
// U+FFFD, which is what a Java broker would have decoded it to.
func javaHash(s string) int32 {
	var h int32
	for _, r := range s {
		if r >= 0x10000 {
			r -= 0x10000
			h = 31*h + int32(0xd800+r>>10)
			h = 31*h + int32(0xdc00+r&0x3ff)
			continue
		}
		h = 31*h + r
	}
	return h
}

// Found is where requests of a key go.
type Found struct {
	Key  string
	Node replication.Node
	Err  error // broker.ErrCoordinatorNotAvailable: a moment later
}

// findTimeout bounds the creation of the topic by the first who asks for a coordinator.
const findTimeout = 10 * time.Second

// Find tells which node coordinates each key, with the address for clients of the listener. The first call in the life of a
// cluster creates the topic.
func Find(ctx context.Context, c Cluster, topic string, keys []string, listener string, logger *slog.Logger) []Found {
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	out := make([]Found, len(keys))
	t, err := ensure(ctx, c, topic, logger)
	for i, k := range keys {
		out[i] = Found{Key: k, Node: replication.Node{ID: replication.NoNode, Port: -1}, Err: err}
		if err != nil {
			continue
		}
		if node, ok := c.Coordinator(PartitionOf(k, t.Partitions), listener); ok {
			out[i].Node = node
		} else {
			out[i].Err = broker.ErrCoordinatorNotAvailable
		}
	}
	return out
}

func ensure(ctx context.Context, c Cluster, topic string, logger *slog.Logger) (Topic, error) {
	if t, ok := c.Topic(topic); ok && t.Partitions > 0 {
		return t, nil
	}
	if err := c.EnsureTopic(ctx); err != nil {
		logger.Warn("An internal topic could not be created.", "topic", topic, "error", err)
		return Topic{}, broker.ErrCoordinatorNotAvailable
	}
	t, ok := c.Topic(topic)
	if !ok || t.Partitions <= 0 {
		return Topic{}, broker.ErrCoordinatorNotAvailable
	}
	return t, nil
}
