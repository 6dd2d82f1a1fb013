package compat

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// rename changes every field of the given names that is a string, a pointer to one, or a list of them.
func rename(req kmsg.Request, to string, fields ...string) {
	eachField(req, func(name string, field any) {
		if !slices.Contains(fields, name) {
			return
		}
		switch p := field.(type) {
		case *string:
			*p = to
		case **string:
			*p = &to
		case *[]string:
			*p = []string{to}
		}
	})
}

// reid changes every topic id.
func reid(req kmsg.Request, to [16]byte) {
	eachField(req, func(name string, field any) {
		if p, ok := field.(*[16]byte); ok && name == "TopicID" {
			*p = to
		}
	})
}

// repartition changes every partition index.
func repartition(req kmsg.Request, to int32) {
	eachField(req, func(name string, field any) {
		switch p := field.(type) {
		case *int32:
			if name == "Partition" {
				*p = to
			}
		case *[]int32:
			if name == "Partitions" {
				*p = []int32{to}
			}
		}
	})
}

// TestUnknownTopics: every key and version that names topics, asked about a name, an id or a partition that does not exist,
// answers with Kafka's code for that, and creates nothing.
func TestUnknownTopics(t *testing.T) {
	node := testcluster.Start(t, testcluster.Options{Args: fuzzArgs})
	s := newSample(t, node)
	w := dialWire(t, node)
	named := []kmsg.Key{
		kmsg.Produce, kmsg.Fetch, kmsg.ListOffsets, kmsg.Metadata, kmsg.OffsetCommit, kmsg.OffsetFetch, kmsg.DeleteTopics,
		kmsg.DeleteRecords, kmsg.OffsetForLeaderEpoch, kmsg.DescribeConfigs, kmsg.AlterConfigs, kmsg.IncrementalAlterConfigs,
		kmsg.DescribeLogDirs, kmsg.CreatePartitions, kmsg.OffsetDelete, kmsg.DescribeProducers, kmsg.DescribeTopicPartitions,
	}
	// What is no error in Kafka either: an offset that was never committed is -1, a directory just does not hold it.
	silent := []kmsg.Key{kmsg.OffsetFetch, kmsg.DescribeLogDirs}
	check := func(req kmsg.Request, what string, want ...int16) {
		t.Helper()
		codes := errorCodes(w.ask(req))
		codes = slices.DeleteFunc(codes, func(c int16) bool { return c == 0 })
		key := kmsg.Key(req.Key())
		switch {
		case len(codes) == 1 && slices.Contains(want, codes[0]):
		case key == kmsg.OffsetDelete && slices.Equal(codes, []int16{codeGroupNotFound}): // the group is looked up first
		case len(codes) == 0 && slices.Contains(silent, key):
		default:
			t.Errorf("%s v%d, %s: error codes %v, want %v", kmsg.NameForKey(req.Key()), req.GetVersion(), what, codes, want)
		}
	}
	count := 0
	for _, k := range advertised(t, node) {
		key := kmsg.Key(k.ApiKey)
		if !slices.Contains(named, key) {
			continue
		}
		from, to := served(k)
		for version := from; version <= to; version++ {
			byID := usesTopicIDs(s.request(k.ApiKey, version, filled))
			if !byID {
				req := s.request(k.ApiKey, version, filled)
				rename(req, "nowhere", "Topic", "TopicNames", "ResourceName")
				check(req, "unknown topic", codeUnknownPartition)
				req = s.request(k.ApiKey, version, filled)
				rename(req, "not/a:topic", "Topic", "TopicNames", "ResourceName")
				check(req, "illegal topic", codeUnknownPartition, codeInvalidTopic)
				count += 2
			} else {
				req := s.request(k.ApiKey, version, filled)
				reid(req, [16]byte{0xde, 0xad})
				rename(req, "", "Name")
				check(req, "unknown id", codeUnknownTopicID)
				count++
			}
			for _, partition := range []int32{1, -1, math.MaxInt32, math.MinInt32} {
				req := s.request(k.ApiKey, version, filled)
				repartition(req, partition)
				if takesPartitions(key) {
					check(req, fmt.Sprintf("partition %d", partition), codeUnknownPartition)
					count++
				}
			}
		}
	}
	t.Logf("%d requests about what does not exist", count)
	all := kmsg.NewPtrMetadataRequest()
	all.Version = 4
	for _, topic := range w.ask(all).(*kmsg.MetadataResponse).Topics {
		if !slices.Contains([]string{s.topic, "__consumer_offsets"}, *topic.Topic) {
			t.Errorf("topic %q was created", *topic.Topic)
		}
	}
	unharmed(t, node)
}

// usesTopicIDs tells whether a request names topics by id alone.
func usesTopicIDs(req kmsg.Request) bool {
	switch v := req.GetVersion(); req.(type) {
	case *kmsg.ProduceRequest, *kmsg.FetchRequest:
		return v >= 13
	case *kmsg.OffsetCommitRequest, *kmsg.OffsetFetchRequest:
		return v >= 10
	}
	return false
}

// takesPartitions tells whether a request names partitions that are looked up.
func takesPartitions(key kmsg.Key) bool {
	return slices.Contains([]kmsg.Key{
		kmsg.Produce, kmsg.Fetch, kmsg.ListOffsets, kmsg.OffsetCommit, kmsg.OffsetFetch, kmsg.DeleteRecords, kmsg.OffsetForLeaderEpoch,
		kmsg.DescribeLogDirs, kmsg.OffsetDelete, kmsg.DescribeProducers,
	}, key)
}

// TestUnknownTopicIDs: Metadata and DeleteTopics by ids that nobody has, or by both id and name.
func TestUnknownTopicIDs(t *testing.T) {
	node := testcluster.Start(t, testcluster.Options{})
	s := newSample(t, node)
	w := dialWire(t, node)
	for _, version := range []int16{12, 13} {
		req := kmsg.NewPtrMetadataRequest()
		req.Version = version
		req.Topics = append(req.Topics, kmsg.MetadataRequestTopic{TopicID: [16]byte{9}})
		if got := w.ask(req).(*kmsg.MetadataResponse).Topics; len(got) != 1 || got[0].ErrorCode != codeUnknownTopicID {
			t.Errorf("metadata v%d of an unknown id: %+v", version, got)
		}
	}
	for _, version := range []int16{10, 11} { // an id, where the version can't ask by it
		req := kmsg.NewPtrMetadataRequest()
		req.Version = version
		req.Topics = append(req.Topics, kmsg.MetadataRequestTopic{TopicID: s.id, Topic: &s.topic})
		if got := w.ask(req).(*kmsg.MetadataResponse).Topics; len(got) != 1 || got[0].ErrorCode != codeInvalidRequest {
			t.Errorf("metadata v%d by id: %+v", version, got)
		}
	}
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.Version = 6
	req.Topics = append(req.Topics, kmsg.DeleteTopicsRequestTopic{TopicID: [16]byte{9}})
	if got := w.ask(req).(*kmsg.DeleteTopicsResponse).Topics; len(got) != 1 || got[0].ErrorCode != codeUnknownTopicID {
		t.Errorf("deleting an unknown id: %+v", got)
	}
	unharmed(t, node)
}
