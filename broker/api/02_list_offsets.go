package api

import (
	"context"
	"fmt"

	"github.com/quorlog/quorlog/broker/fetch"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListOffsets, key 2, versions 1 to 11.
//
//	v1         one offset and its timestamp: latest (-1), earliest (-2), or the first at or after a time
//	v2         isolation levels: latest is the last stable offset for read_committed (KIP-98)
//	v4         leader epochs (KIP-320)
//	v5         OFFSET_NOT_AVAILABLE for a new leader (KIP-207)
//	v6         flexible
//	v7         the record with the highest timestamp (-3, KIP-734)
//	v8         earliest local offset (-4), which is the earliest one: nothing is tiered (KIP-405)
//	v9         latest tiered offset (-5), which does not exist
//	v10        the client's timeout
//	v11        earliest offset that is not uploaded yet (-6), which does not exist
//
// A special value that the version does not know is UNSUPPORTED_VERSION, and a partition that is named twice
// INVALID_REQUEST, as in Kafka. Where nothing fits, the offset is -1 and the error none.
var listOffsetsRow = Row{Key: kafkaproto.KeyListOffsets, Min: 1, Max: 11, AdvertisedMin: 1, Handler: handler(handleListOffsets)}

// readCommitted is isolation level 1; 0 reads everything up to the high watermark.
const readCommitted = 1

// specialSince is the version from which a special timestamp may be asked for.
var specialSince = map[int64]int16{
	int64(fetch.Latest): 1, int64(fetch.Earliest): 1, int64(fetch.MaxTimestamp): 7, int64(fetch.EarliestLocal): 8,
	int64(fetch.LatestTiered): 9, int64(fetch.EarliestPendingUpload): 11,
}

func handleListOffsets(_ context.Context, a *API, _ *Request, q *kmsg.ListOffsetsRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrListOffsetsResponse()
	twice := listedTwice(q)
	for i := range q.Topics {
		t := &q.Topics[i]
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = t.Topic
		for j := range t.Partitions {
			p := &t.Partitions[j]
			rp := kmsg.NewListOffsetsResponseTopicPartition()
			rp.Partition, rp.Timestamp, rp.Offset, rp.LeaderEpoch = p.Partition, -1, -1, -1
			if twice[topicPartition{t.Topic, p.Partition}] {
				rp.ErrorCode = code(replication.ErrInvalidRequest)
			} else if found, err := listOffset(a, q, t.Topic, p); err != nil {
				rp.ErrorCode = code(err)
			} else {
				rp.Timestamp, rp.Offset, rp.LeaderEpoch = found.Timestamp, int64(found.Offset), int32(found.Epoch)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, nil
}

func listOffset(a *API, q *kmsg.ListOffsetsRequest, topic string, p *kmsg.ListOffsetsRequestTopicPartition) (fetch.Found, error) {
	if p.Timestamp < 0 {
		if since, known := specialSince[p.Timestamp]; !known || q.Version < since {
			return fetch.Found{}, fmt.Errorf("%w: timestamp %d in version %d", ErrUnsupportedVersion, p.Timestamp, q.Version)
		}
	}
	return a.Fetch.ListOffset(fetch.OffsetQuery{
		Key:           fetch.Key{Topic: topic, Partition: p.Partition},
		CurrentEpoch:  batch.Epoch(p.CurrentLeaderEpoch),
		Timestamp:     fetch.Timestamp(p.Timestamp),
		ReadCommitted: q.IsolationLevel == readCommitted,
	})
}

// topicPartition names a partition in a request.
type topicPartition struct {
	topic     string
	partition int32
}

// listedTwice returns the partitions that a request names more than once; nil for none.
func listedTwice(q *kmsg.ListOffsetsRequest) map[topicPartition]bool {
	seen := make(map[topicPartition]struct{})
	var twice map[topicPartition]bool
	for i := range q.Topics {
		for j := range q.Topics[i].Partitions {
			k := topicPartition{q.Topics[i].Topic, q.Topics[i].Partitions[j].Partition}
			if _, again := seen[k]; again {
				if twice == nil {
					twice = make(map[topicPartition]bool)
				}
				twice[k] = true
			}
			seen[k] = struct{}{}
		}
	}
	return twice
}
