package fetch

import (
	"errors"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
)

var (
	// ErrSessionTopicID: a session made with topic names is continued with topic ids, or the other way round
	// (FETCH_SESSION_TOPIC_ID_ERROR).
	ErrSessionTopicID = errors.New("the fetch session names topics differently")
	// ErrNotReplica: the request says that it comes from a broker. Replicas of this cluster don't fetch, they get their
	// entries through Raft, so this is a stranger that would be shown what is not committed (TOPIC_AUTHORIZATION_FAILED,
	// which is what Kafka answers to a fetch of a replica without the right to one).
	ErrNotReplica = errors.New("only consumers may fetch")
)

// reading is one Fetch's pass over its partitions.
type reading struct {
	readCommitted bool
	rack          string
	denied        func(Key) bool // may be nil
	anyReplica    bool
	routes        Routes // may be nil
	byID          bool
	limit         int // bytes of records that the answer may hold
	total         int // bytes of records that it holds
	params        []Params
	sources       []Partition // nil where the partition was not found
	results       []Result
	// urgent tells that something other than records must be told at once: an error of a read, or a diverging epoch.
	urgent bool
	// found counts the partitions that exist. Without any there is nothing to wait for.
	found int
}

func (s *Service) newReading(r *Request, params []Params, limit int) *reading {
	return &reading{
		readCommitted: r.ReadCommitted,
		rack:          r.Rack,
		denied:        r.Denied,
		anyReplica:    r.AnyReplica || r.Rack != "",
		routes:        s.routes,
		byID:          r.UsesTopicIDs,
		limit:         limit,
		params:        params,
		sources:       make([]Partition, len(params)),
		results:       make([]Result, len(params)),
	}
}

// refuse answers every partition with the same error.
func (g *reading) refuse(err error) {
	for i := range g.params {
		g.results[i] = failure(g.params[i].Key, err)
	}
}

// readAll finds and reads all partitions. One that is unknown or denied is no reason for haste: a client that asks for it beside
// others would otherwise never wait.
func (g *reading) readAll(ps Partitions) {
	for i := range g.params {
		p := &g.params[i]
		if g.refused(i) {
			continue
		}
		src, err := g.find(ps, p.Key)
		if err != nil {
			g.results[i] = failure(p.Key, err)
			if errors.Is(err, replication.ErrNotLeader) {
				g.urgent = true
				if g.routes != nil {
					g.results[i].Leader = g.leader(i)
				}
			}
			continue
		}
		g.found++
		g.sources[i] = src
		g.read(i)
	}
}

// refused tells whether the caller may not read a partition, and answers that; what was read of it before is let go.
func (g *reading) refused(i int) bool {
	res, key := &g.results[i], g.params[i].Key
	if g.denied == nil || !g.denied(key) {
		return false
	}
	g.total -= res.Size()
	res.release()
	*res = failure(key, broker.ErrTopicDenied)
	g.sources[i] = nil
	return true
}

func (g *reading) find(ps Partitions, k Key) (Partition, error) {
	if g.byID {
		return ps.LookupID(k.TopicID, k.Partition)
	}
	return ps.Lookup(k.Topic, k.Partition)
}

// read reads one partition, again if it was read before. What the answer holds beside it decides how much it may
// bring: its own limit, and what is left of the answer's; but the first batch of an answer comes whole, or a consumer
// would be stuck before a batch that is larger than its limits (KIP-74).
func (g *reading) read(i int) {
	res, p := &g.results[i], &g.params[i]
	g.total -= res.Size()
	res.release()
	preferred := g.preferred(i)
	room := max(0, min(p.MaxBytes, g.limit-g.total))
	if preferred != replication.NoNode {
		room = 0
	}
	got, err := g.sources[i].Read(partition.ReadRequest{
		Offset:           p.Offset,
		MaxBytes:         room,
		AtLeastOne:       g.total == 0 && preferred == replication.NoNode,
		AnyReplica:       g.anyReplica,
		ReadCommitted:    g.readCommitted,
		CurrentEpoch:     p.CurrentEpoch,
		LastFetchedEpoch: p.LastEpoch,
	})
	if err != nil {
		*res = failure(p.Key, err)
		if errors.Is(err, replication.ErrNotLeader) || errors.Is(err, replication.ErrFencedLeaderEpoch) {
			res.Leader = g.leader(i)
		}
		g.urgent = true
		return
	}
	*res = Result{
		Key:           p.Key,
		HighWatermark: got.Offsets.HighWatermark,
		LastStable:    got.Offsets.LastStable,
		LogStart:      got.Offsets.LogStart,
		Diverging:     got.Diverging,
		Records:       got.Records,
		Leader:        replication.NoLeader,
		Preferred:     preferred,
	}
	if g.readCommitted {
		res.Aborted = got.Aborted
	}
	if res.Records != nil && res.Size() == 0 {
		res.release()
	}
	g.urgent = g.urgent || got.Diverging != nil || preferred != replication.NoNode
	g.total += res.Size()
}

// count tells the partitions what was read of them.
func (g *reading) count() {
	for i, p := range g.sources {
		if p != nil {
			p.Served(g.results[i].Size(), g.results[i].Err)
		}
	}
}

// leader is who leads the partition, as far as this node knows.
func (g *reading) leader(i int) replication.Leader {
	if g.routes == nil {
		return g.sources[i].Leader()
	}
	topic, id, index := g.named(i)
	return g.routes.LeaderOf(topic, id, index)
}

// preferred is the replica that the consumer should read the partition from instead; NoNode for this one.
func (g *reading) preferred(i int) replication.NodeID {
	if g.routes == nil || g.rack == "" {
		return replication.NoNode
	}
	topic, id, index := g.named(i)
	return g.routes.ReadReplica(topic, id, index, g.rack, g.params[i].Offset)
}

// named is how the request names the partition: by name or by id, never by both.
func (g *reading) named(i int) (string, replication.TopicID, int32) {
	k := &g.params[i].Key
	if g.byID {
		return "", k.TopicID, k.Partition
	}
	return k.Topic, replication.TopicID{}, k.Partition
}

// stale reports whether a partition has moved since it was read.
func (g *reading) stale(i int) bool {
	now, err := g.sources[i].Offsets(g.params[i].CurrentEpoch)
	if err != nil {
		return true // reading again finds the error; of a follower nobody but Read tells where it stands
	}
	res := &g.results[i]
	return now.HighWatermark != res.HighWatermark || now.LastStable != res.LastStable || now.LogStart != res.LogStart
}

// refresh reads again what has moved.
func (g *reading) refresh() {
	for i := range g.sources {
		switch {
		case g.sources[i] == nil:
		case g.refused(i): // by now
			g.urgent = true
		case g.stale(i):
			g.read(i)
		}
	}
}

func failure(k Key, err error) Result {
	return Result{Key: k, Err: err, HighWatermark: -1, LastStable: -1, LogStart: -1, Leader: replication.NoLeader, Preferred: replication.NoNode}
}
