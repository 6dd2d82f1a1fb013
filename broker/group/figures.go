package group

import "github.com/quorlog/quorlog/log/batch"

// Figures are what metrics tell of a group.
type Figures struct {
	Group     string
	Members   int
	Committed []CommittedAt
}

// CommittedAt is a committed offset.
type CommittedAt struct {
	OffsetKey
	Offset batch.Offset
}

// FiguresOf lists the groups of a service's node that have members or committed offsets, in no particular order, with at most limit
// offsets in all; more counts the others. With broker.ErrCoordinatorLoading groups are missing, too.
func FiguresOf(s *Service, limit int) (out []Figures, more int, err error) {
	err = s.runtime.Each(func(_ string, m *Machine) {
		f := Figures{Group: m.id, Members: len(m.members)}
		if m.state == Dead {
			return
		}
		if m.modern != nil {
			f.Members = len(m.modern.members)
		}
		for topic, partitions := range m.offsets.topics {
			known, there := s.cluster.Topic(topic)
			for p, c := range partitions {
				switch {
				case !there || c.isOfAnother(known, there):
				case limit <= 0:
					more++
				default:
					limit--
					f.Committed = append(f.Committed, CommittedAt{OffsetKey{topic, p}, c.Offset})
				}
			}
		}
		if f.Members > 0 || len(f.Committed) > 0 {
			out = append(out, f)
		}
	})
	return out, more, err
}
