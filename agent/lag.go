package agent

import (
	"context"
	"maps"
	"slices"

	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/internal/metrics"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// A group's lag is what its coordinator knows, the committed offset, against what the partition's leader knows, the high watermark.
// The coordinator asks the leaders, each once for all partitions, when somebody scrapes.

// groups tells the lags of the groups that this node coordinates.
func (s *scrape) groups(ctx context.Context) {
	limit := s.Room()
	if !s.levels.topics {
		limit = 0
	}
	figures, more, _ := group.FiguresOf(s.a.groups, limit) // of partitions that are being read, there is nothing to tell yet
	if s.levels.topics {
		s.Drop(2 * more) // each offset would be two series
	}
	for i := range figures {
		figures[i].Group = metrics.Label(figures[i].Group)
		s.Set(&metrics.GroupMembers, float64(figures[i].Members), figures[i].Group)
	}
	if !s.levels.topics {
		return
	}
	marks := s.watermarks(ctx, figures)
	for _, f := range figures {
		s.group(f, marks)
	}
}

// group tells the offsets of one group. A lag that is not known is left out, and so is a sum that it would belong to.
func (s *scrape) group(f group.Figures, marks map[group.OffsetKey]batch.Offset) {
	type sum struct {
		offset, lag batch.Offset
		unknown     bool
	}
	sums := map[string]*sum{}
	for _, c := range f.Committed {
		of := sums[c.Topic]
		if of == nil {
			of = &sum{}
			sums[c.Topic] = of
		}
		of.offset += c.Offset
		mark, known := marks[c.OffsetKey]
		lag := max(0, mark-c.Offset)
		of.lag += lag
		of.unknown = of.unknown || !known
		if !s.levels.partitions {
			continue
		}
		index := decimal(int(c.Partition))
		s.Set(&metrics.GroupOffset, float64(c.Offset), f.Group, c.Topic, index)
		if known {
			s.Set(&metrics.GroupLag, float64(lag), f.Group, c.Topic, index)
		}
	}
	for topic, of := range sums {
		s.Set(&metrics.GroupOffsetSum, float64(of.offset), f.Group, topic)
		if !of.unknown {
			s.Set(&metrics.GroupLagSum, float64(of.lag), f.Group, topic)
		}
	}
}

// watermarks finds the high watermarks of all partitions for which a group has committed.
func (s *scrape) watermarks(ctx context.Context, figures []group.Figures) map[group.OffsetKey]batch.Offset {
	ids := map[group.OffsetKey]replication.PartitionID{}
	for _, f := range figures {
		for _, c := range f.Committed {
			if t := s.im.Topics[c.Topic]; t != nil && int(c.Partition) < len(t.Partitions) {
				ids[c.OffsetKey] = replication.PartitionID{Topic: t.ID, Partition: c.Partition}
			}
		}
	}
	known := watermarks(ctx, s.a, slices.Collect(maps.Values(ids)))
	marks := make(map[group.OffsetKey]batch.Offset, len(known))
	for k, id := range ids {
		if mark, ok := known[id]; ok {
			marks[k] = mark
		}
	}
	return marks
}
