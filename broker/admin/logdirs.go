package admin

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/quorlog/quorlog/replication"
)

// LogDir is where this node keeps its partitions.
type LogDir struct {
	Path string
	// Total and Usable are the size of the volume and what is free on it; -1 if that can't be told.
	Total, Usable int64
	Err           error
	Replicas      []LogDirReplica // by topic, then partition
}

// LogDirReplica is the replica of a partition in a log directory.
type LogDirReplica struct {
	Topic     string
	Partition int32
	Size      int64 // bytes of its segments
}

// LogDir describes this node's log directory and the replicas in it that are wanted; nil means all.
func (s *Service) LogDir(wanted func(topic string, partition int32) bool) LogDir {
	dir := LogDir{Path: s.dataDir, Total: -1, Usable: -1}
	if free, total, err := s.fs.Free(s.dataDir); err != nil {
		dir.Err = fmt.Errorf("%w: %w", replication.ErrStorage, err)
	} else {
		dir.Total, dir.Usable = int64(total), int64(free)
	}
	for _, p := range s.local.All() {
		if wanted == nil || wanted(p.Topic(), p.ID().Partition) {
			dir.Replicas = append(dir.Replicas, LogDirReplica{Topic: p.Topic(), Partition: p.ID().Partition, Size: p.Size()})
		}
	}
	slices.SortFunc(dir.Replicas, func(a, b LogDirReplica) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return dir
}
