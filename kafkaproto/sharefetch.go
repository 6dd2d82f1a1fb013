package kafkaproto

import "github.com/twmb/franz-go/pkg/kmsg"

// EncodeShareFetch encodes a ShareFetch answer, versions 1 and 2. The records of partition p of topic t are what region(t, p)
// returns; where that is nil, the Records of resp, and written as empty where they are nil too: Kafka's own consumer stops at a null.
// Unknown tags of resp are not written.
func EncodeShareFetch(resp *kmsg.ShareFetchResponse, region func(t, p int) Region) Encoded {
	e := fetchEncoder{version: fetchFlexible}
	e.int32(resp.ThrottleMillis)
	e.int16(resp.ErrorCode)
	e.nullableString(resp.ErrorMessage)
	e.int32(resp.AcquisitionLockTimeoutMillis)
	e.count(len(resp.Topics))
	for t := range resp.Topics {
		topic := &resp.Topics[t]
		e.buf = append(e.buf, topic.TopicID[:]...)
		e.count(len(topic.Partitions))
		for p := range topic.Partitions {
			e.sharePartition(&topic.Partitions[p], region(t, p))
		}
		e.noTags()
	}
	e.count(len(resp.NodeEndpoints))
	for i := range resp.NodeEndpoints {
		n := &resp.NodeEndpoints[i]
		e.int32(n.NodeID)
		e.string(n.Host)
		e.int32(n.Port)
		e.nullableString(n.Rack)
		e.noTags()
	}
	e.noTags()
	e.flush()
	return e.out
}

func (e *fetchEncoder) sharePartition(p *kmsg.ShareFetchResponseTopicPartition, r Region) {
	e.int32(p.Partition)
	e.int16(p.ErrorCode)
	e.nullableString(p.ErrorMessage)
	e.int16(p.AcknowledgeErrorCode)
	e.nullableString(p.AcknowledgeErrorMessage)
	e.int32(p.CurrentLeader.LeaderID)
	e.int32(p.CurrentLeader.LeaderEpoch)
	e.noTags()
	e.records(p.Records, r)
	e.count(len(p.AcquiredRecords))
	for i := range p.AcquiredRecords {
		a := &p.AcquiredRecords[i]
		e.int64(a.FirstOffset)
		e.int64(a.LastOffset)
		e.int16(a.DeliveryCount)
		e.noTags()
	}
	e.noTags()
}

func (e *fetchEncoder) nullableString(s *string) {
	if s == nil {
		e.nullCount()
		return
	}
	e.string(*s)
}
