package agent

import (
	"context"
	"strconv"

	"github.com/quorlog/quorlog/internal/config"
	"github.com/quorlog/quorlog/internal/metrics"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
	"github.com/quorlog/quorlog/replication/partition"
)

// scrape gathers a node's figures once. What is bounded comes first, what grows with topics, groups and partitions after it: if
// there is too much, that is what gets lost.
type scrape struct {
	*metrics.Out
	a      *Agent
	im     *controller.Image
	levels seriesLevel
}

// seriesLevel is the setting quorlog.metrics.partition.level.
type seriesLevel struct{ topics, partitions bool }

// gather tells the node's figures; before it serves, few.
func (w *web) gather(ctx context.Context, o *metrics.Out) {
	a := w.node
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(a.ctx, cancel)() // a node that stops has no time to ask others
	s := &scrape{Out: o, a: a}
	s.disk()
	s.Set(&metrics.Ready, truth(well(w.ready(ctx))))
	if !a.serving.Load() {
		return
	}
	s.im = a.controller.Image()
	level := s.im.Layers().Get(config.Broker, "quorlog.metrics.partition.level")
	s.levels = seriesLevel{topics: level != "off", partitions: level == "partition"}
	s.Set(&metrics.Draining, truth(a.draining()))
	s.connections()
	s.security()
	s.native()
	s.logs()
	s.metadata()
	all := a.partitions.All()
	s.replicas(all)
	if s.levels.topics {
		s.topics()
	}
	s.groups(ctx)
	if s.levels.partitions {
		s.perPartition(all)
	}
}

// maxSeries is the setting; before the node knows what is set for the cluster, its own.
func (w *web) maxSeries() int {
	l := w.node.layers
	if w.node.serving.Load() {
		l = w.node.controller.Image().Layers()
	}
	return int(l.Int("quorlog.metrics.max.series"))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func well(checks []check) bool {
	for _, c := range checks {
		if c.fails() {
			return false
		}
	}
	return true
}

func (s *scrape) disk() {
	syncs, writes := s.a.watch.Took()
	s.Took(&metrics.SyncTook, syncs)
	s.Took(&metrics.WriteTook, writes)
	if free, size, err := s.a.fs.Free(s.a.node.DataDir); err == nil {
		s.Set(&metrics.DiskFree, float64(free))
		s.Set(&metrics.DiskSize, float64(size))
	}
	if read, written, ok := diskBytes(); ok {
		s.Set(&metrics.DiskRead, float64(read))
		s.Set(&metrics.DiskWritten, float64(written))
	}
}

func (s *scrape) connections() {
	c := s.a.server.Stats()
	for name, n := range c.Listeners {
		s.Set(&metrics.ConnectionCount, float64(n), name)
	}
	s.Set(&metrics.NetworkIn, float64(c.BytesIn))
	s.Set(&metrics.NetworkOut, float64(c.BytesOut))
	s.Set(&metrics.NetworkDirect, float64(c.BytesSendfile))
	s.Set(&metrics.Accepted, float64(c.Accepted))
	s.Set(&metrics.Refused, float64(c.Refused))
	s.Set(&metrics.Invalid, float64(c.Invalid))
	s.Set(&metrics.TimedOut, float64(c.Timeouts))
	s.Set(&metrics.Panics, float64(c.Panics))
	s.Set(&metrics.RequestMemory, float64(c.Memory))
	s.Set(&metrics.RequestMemoryLimit, float64(c.MemoryLimit))
	s.Set(&metrics.MemoryWaits, float64(c.MemoryWaits))
	for key, took := range c.Took {
		s.Took(&metrics.RequestTook, took, key.String())
	}
}

// security tells how clients prove who they are, what they are denied, and until when the node can prove who it is.
func (s *scrape) security() {
	for listener, sasl := range *s.a.logins.Load() {
		c := sasl.Counts()
		s.Set(&metrics.Logins, float64(c.Succeeded), listener, "accepted")
		s.Set(&metrics.Logins, float64(c.Failed), listener, "refused")
		s.Set(&metrics.Logins, float64(c.Renewed), listener, "renewed")
		s.Set(&metrics.Logins, float64(c.NotRenewed), listener, "not renewed")
	}
	if s.a.denied != nil {
		s.a.denied.each(func(resource string, n int64) { s.Set(&metrics.Denials, float64(n), resource) })
	}
	if held := s.a.ports.certs; held != nil {
		s.Set(&metrics.CertificateEnd, float64(held.NotAfter().Unix()))
	}
}

// native tells of the calls of gRPC, and of HTTP/JSON, which become such.
func (s *scrape) native() {
	for method, c := range s.a.native.Load().Stats() {
		s.Took(&metrics.CallTook, c.Took, method)
		for code, n := range c.Codes {
			s.Set(&metrics.Calls, float64(n), method, code)
		}
	}
}

func (s *scrape) logs() {
	l := partition.LogsOf(s.a.partitions)
	s.Set(&metrics.LogAppends, float64(l.Appends))
	s.Set(&metrics.LogEntries, float64(l.AppendedEntries))
	s.Set(&metrics.LogBytes, float64(l.AppendedBytes))
	s.Set(&metrics.LogRefused, float64(l.RefusedEntries))
	s.Set(&metrics.LogRolls, float64(l.Rolls))
	s.Set(&metrics.LogCheckpoints, float64(l.Checkpoints))
	s.Set(&metrics.TailHits, float64(l.TailHits))
	s.Set(&metrics.TailMisses, float64(l.TailMisses))
	c := s.a.compactor.Load().Counts()
	s.Set(&metrics.CompactPasses, float64(c.Passes))
	s.Set(&metrics.CompactFailures, float64(c.Failures))
	s.Set(&metrics.CompactRead, float64(c.Read))
	s.Set(&metrics.CompactWritten, float64(c.Written))
	s.Set(&metrics.CompactRecords, float64(c.Records))
	s.Set(&metrics.CompactKept, float64(c.Kept))
	s.Set(&metrics.DiskFull, truth(s.a.partitions.Full()))
	used, limit := partition.TailOf(s.a.partitions)
	s.Set(&metrics.TailUsed, float64(used))
	s.Set(&metrics.TailLimit, float64(limit))
}

// metadata tells how the metadata group does, and what only its leader tells, for all nodes.
func (s *scrape) metadata() {
	leads := s.a.controller.ControllerNode() == s.a.node.NodeID
	status := s.a.meta.Status()
	s.Set(&metrics.ActiveControl, truth(leads))
	s.Set(&metrics.UncleanElection, 0)
	s.Set(&metrics.MetaApplied, float64(s.a.machine.Applied()))
	s.Set(&metrics.MetaTerm, float64(status.Term))
	s.Set(&metrics.MetaVoters, float64(len(status.Voters)))
	s.Set(&metrics.MetaLeader, truth(status.Leader != replication.NoNode))
	s.Set(&metrics.PeersConnected, float64(len(s.a.live())-1))
	s.Set(&metrics.OfflineParts, float64(s.leaderless(leads)))
	if !leads {
		return
	}
	s.Set(&metrics.Brokers, float64(len(s.im.Nodes)))
	for id, n := range s.im.Nodes {
		s.Set(&metrics.BrokerInfo, 1, decimal(int(id)), hostPort(n))
	}
}

// leaderless counts the partitions of the cluster that nobody is known to lead.
func (s *scrape) leaderless(asked bool) (n int) {
	if !asked {
		return 0
	}
	for _, t := range s.im.Topics {
		for i := range t.Partitions {
			if leaderOf(s.a, replication.PartitionID{Topic: t.ID, Partition: int32(i)}) == replication.NoNode {
				n++
			}
		}
	}
	return n
}

// replicas tells sums over this node's replicas.
func (s *scrape) replicas(all []*partition.Partition) {
	var leading, leaderless, offline, learners, under, underMin, atMin, backlog int
	for _, p := range all {
		if p.Err() != nil {
			offline++
			continue
		}
		at, _ := partition.PositionOf(p)
		backlog += at.Unapplied
		switch {
		case p.Leading():
			leading++
			r := replicasOf(p)
			learners += len(p.Group().Learners())
			under, underMin, atMin = under+r.under, underMin+r.underMin, atMin+r.atMin
		case p.Leader().Node == replication.NoNode:
			leaderless++
		}
	}
	s.Set(&metrics.PartitionCount, float64(len(all)))
	s.Set(&metrics.LeaderCount, float64(leading))
	s.Set(&metrics.UnderReplicated, float64(under))
	s.Set(&metrics.UnderMinISRs, float64(underMin))
	s.Set(&metrics.AtMinISRs, float64(atMin))
	s.Set(&metrics.OfflineReplicas, float64(offline))
	s.Set(&metrics.RaftLeaderless, float64(leaderless))
	s.Set(&metrics.RaftLearners, float64(learners))
	s.Set(&metrics.RaftBacklog, float64(backlog))
	s.Set(&metrics.RaftElections, float64(s.a.elections.Load()))
}

// replicaCounts are what a leader knows of its replicas; the last three are 0 or 1.
type replicaCounts struct{ replicas, inSync, under, underMin, atMin int }

func replicasOf(p *partition.Partition) (r replicaCounts) {
	target := p.Assignment().Target()
	r.replicas, r.inSync = len(target), len(p.ISR())
	least := p.Config().MinInsyncReplicas
	if r.inSync < r.replicas {
		r.under = 1
	}
	switch {
	case r.inSync < least:
		r.underMin = 1
	case r.inSync == least:
		r.atMin = 1
	}
	return r
}

func (s *scrape) topics() {
	if s.a.controller.ControllerNode() == s.a.node.NodeID {
		for name, t := range s.im.Topics {
			s.Set(&metrics.TopicPartitions, float64(len(t.Partitions)), name)
		}
	}
	for _, t := range partition.TrafficOf(s.a.partitions) {
		s.Set(&metrics.BytesIn, float64(t.BytesIn), t.Topic)
		s.Set(&metrics.MessagesIn, float64(t.MessagesIn), t.Topic)
		s.Set(&metrics.BytesOut, float64(t.BytesOut), t.Topic)
		s.Set(&metrics.Produces, float64(t.Appends), t.Topic)
		s.Set(&metrics.FailedProduces, float64(t.FailedAppends), t.Topic)
		s.Set(&metrics.Fetches, float64(t.Fetches), t.Topic)
		s.Set(&metrics.FailedFetches, float64(t.FailedFetches), t.Topic)
	}
}

// perPartition tells the size of each replica, and of those that lead the rest.
func (s *scrape) perPartition(all []*partition.Partition) {
	for _, p := range all {
		topic, index := p.Topic(), decimal(int(p.ID().Partition))
		s.Set(&metrics.LogSize, float64(p.Size()), topic, index)
		at, ok := partition.PositionOf(p)
		if !ok || !p.Leading() {
			continue
		}
		r := replicasOf(p)
		s.Set(&metrics.CurrentOffset, float64(at.HighWatermark), topic, index)
		s.Set(&metrics.OldestOffset, float64(at.LogStart), topic, index)
		s.Set(&metrics.PartLeader, float64(s.a.node.NodeID), topic, index)
		s.Set(&metrics.PartPreferred, truth(prefers(p.Assignment(), s.a.node.NodeID)), topic, index)
		s.Set(&metrics.PartReplicas, float64(r.replicas), topic, index)
		s.Set(&metrics.PartInSync, float64(r.inSync), topic, index)
		s.Set(&metrics.PartUnder, float64(r.under), topic, index)
		s.Set(&metrics.AtMinISR, float64(r.atMin), topic, index)
		s.Set(&metrics.UnderMinISR, float64(r.underMin), topic, index)
	}
}

// prefers tells whether a node is the one that is to lead.
func prefers(a replication.Assignment, node replication.NodeID) bool {
	target := a.Target()
	return len(target) > 0 && target[0].Node == node
}

func decimal(n int) string { return strconv.Itoa(n) }
