package admin

import (
	"context"
	"fmt"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// ToHighWatermark stands for the high watermark in DeleteRecords.
const ToHighWatermark batch.Offset = -1

// DeleteRecords deletes the records of a partition below an offset and returns where the log starts now. Records that are
// not committed can't be deleted, nor those of internal topics and of topics that keep the newest record of each key.
func (s *Service) DeleteRecords(ctx context.Context, topic string, index int32, before batch.Offset) (batch.Offset, error) {
	p, err := s.lookup().Lookup(topic, index)
	switch {
	case err != nil:
		return -1, err
	case broker.IsInternalTopic(topic):
		return -1, fmt.Errorf("%w: records of an internal topic can't be deleted", replication.ErrInvalidTopic)
	case p.Config().CleanupPolicy == replication.CleanupCompact:
		return -1, fmt.Errorf("%w: the topic's cleanup.policy does not include delete", replication.ErrPolicyViolation)
	}
	offsets, err := p.Offsets(batch.NoEpoch)
	if err != nil {
		return -1, err
	}
	if before == ToHighWatermark {
		before = offsets.HighWatermark
	}
	if before < 0 || before > offsets.HighWatermark {
		return -1, fmt.Errorf("%w: %d is not within the committed records, which end at %d",
			replication.ErrOffsetOutOfRange, before, offsets.HighWatermark)
	}
	return p.DeleteRecords(ctx, before)
}
