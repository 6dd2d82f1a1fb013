package api

import (
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Repeats in requests.
//
// A request may name the same thing many thousand times, in a few bytes each, and what there is to tell of it, such as a topic's
// partitions or a group's members, may be as long as it likes. So keys that tell of things take each once, where it is first named,
// before guards and handlers see the request: what they allocate, do and answer is bounded by what there is. Clients keep answers
// by name and see no difference. Where repeats ask for different parts, all of them are asked for.
//
// Kafka does so for Metadata, DeleteGroups and ElectLeaders. Keys whose answers and work have a fixed size for each name, or in the order of
// the request, are not here, nor are those that refuse repeats.

// onces take repeats out of requests, by key.
var onces = map[kafkaproto.Key]func(kmsg.Request) error{
	kafkaproto.KeyMetadata: unrepeated(func(q *kmsg.MetadataRequest) {
		q.Topics = once(q.Topics, func(t *kmsg.MetadataRequestTopic) namedTopic {
			if name := deref(t.Topic); name != "" {
				return namedTopic{name: name} // the id is not looked at then
			}
			return namedTopic{id: t.TopicID}
		}, nil)
	}),
	kafkaproto.KeyOffsetFetch:     unrepeated(onceOffsetFetch),
	kafkaproto.KeyFindCoordinator: unrepeated(func(q *kmsg.FindCoordinatorRequest) { q.CoordinatorKeys = distinct(q.CoordinatorKeys) }),
	kafkaproto.KeyDescribeGroups:  unrepeated(func(q *kmsg.DescribeGroupsRequest) { q.Groups = distinct(q.Groups) }),
	kafkaproto.KeyDescribeConfigs: unrepeated(onceDescribeConfigs),
	kafkaproto.KeyDeleteGroups:    unrepeated(func(q *kmsg.DeleteGroupsRequest) { q.Groups = distinct(q.Groups) }),
	kafkaproto.KeyElectLeaders: unrepeated(func(q *kmsg.ElectLeadersRequest) {
		q.Topics = oncePartitions(q.Topics, func(t *kmsg.ElectLeadersRequestTopic) (namedTopic, *[]int32) {
			return namedTopic{name: t.Topic}, &t.Partitions
		})
	}),
	kafkaproto.KeyListPartitionReassignments: unrepeated(func(q *kmsg.ListPartitionReassignmentsRequest) {
		q.Topics = oncePartitions(q.Topics, func(t *kmsg.ListPartitionReassignmentsRequestTopic) (namedTopic, *[]int32) {
			return namedTopic{name: t.Topic}, &t.Partitions
		})
	}),
	kafkaproto.KeyDescribeQuorum: unrepeated(onceDescribeQuorum),
	kafkaproto.KeyDescribeProducers: unrepeated(func(q *kmsg.DescribeProducersRequest) {
		q.Topics = oncePartitions(q.Topics, func(t *kmsg.DescribeProducersRequestTopic) (namedTopic, *[]int32) {
			return namedTopic{name: t.Topic}, &t.Partitions
		})
	}),
	kafkaproto.KeyDescribeTransactions: unrepeated(func(q *kmsg.DescribeTransactionsRequest) {
		q.TransactionalIDs = distinct(q.TransactionalIDs)
	}),
	kafkaproto.KeyConsumerGroupDescribe: unrepeated(func(q *kmsg.ConsumerGroupDescribeRequest) { q.Groups = distinct(q.Groups) }),
	kafkaproto.KeyListConfigResources:   unrepeated(func(q *kmsg.ListConfigResourcesRequest) { q.ResourceTypes = distinct(q.ResourceTypes) }),
	kafkaproto.KeyDescribeTopicPartitions: unrepeated(func(q *kmsg.DescribeTopicPartitionsRequest) {
		q.Topics = once(q.Topics, func(t *kmsg.DescribeTopicPartitionsRequestTopic) string { return t.Topic }, nil)
	}),
	kafkaproto.KeyShareGroupDescribe:        unrepeated(func(q *kmsg.ShareGroupDescribeRequest) { q.GroupIDs = distinct(q.GroupIDs) }),
	kafkaproto.KeyDescribeShareGroupOffsets: unrepeated(onceShareGroupOffsets),
	kafkaproto.KeyDeleteShareGroupOffsets: unrepeated(func(q *kmsg.DeleteShareGroupOffsetsRequest) {
		q.Topics = once(q.Topics, func(t *kmsg.DeleteShareGroupOffsetsRequestTopic) string { return t.Topic }, nil)
	}),
}

// namedTopic is how a request names a topic.
type namedTopic struct {
	name string
	id   [16]byte
}

// unrepeated fits a typed function into the table.
func unrepeated[Q kmsg.Request](fn func(Q)) func(kmsg.Request) error {
	return func(body kmsg.Request) error {
		q, ok := body.(Q)
		if !ok {
			return errWrongType
		}
		fn(q)
		return nil
	}
}

// once keeps the first of all elements with the same key, in their order and in the same memory. merge, if there is one, is told of each
// that goes, with the one that stays for it.
func once[T any, K comparable](list []T, key func(*T) K, merge func(first, repeat *T)) []T {
	if len(list) < 2 {
		return list
	}
	at, kept := make(map[K]int), list[:0]
	for i := range list {
		k := key(&list[i])
		if first, again := at[k]; !again {
			at[k] = len(kept)
			kept = append(kept, list[i])
		} else if merge != nil {
			merge(&kept[first], &list[i])
		}
	}
	return kept
}

// distinct is once for what is its own key.
func distinct[T comparable](list []T) []T { return once(list, func(t *T) T { return *t }, nil) }

// oncePartitions is once for lists of topics with partitions, and for these.
func oncePartitions[T any](topics []T, parts func(*T) (namedTopic, *[]int32)) []T {
	topics = once(topics, func(t *T) namedTopic {
		name, _ := parts(t)
		return name
	}, func(first, repeat *T) {
		_, all := parts(first)
		_, more := parts(repeat)
		*all = append(*all, *more...)
	})
	for i := range topics {
		_, all := parts(&topics[i])
		*all = distinct(*all)
	}
	return topics
}

// allOrBoth joins two lists of which nil means all.
func allOrBoth[T any](a, b []T) []T {
	if a == nil || b == nil {
		return nil
	}
	return append(a, b...)
}

// onceOffsetFetch: a group is asked as the member, and in the epoch, that are first named.
func onceOffsetFetch(q *kmsg.OffsetFetchRequest) {
	q.Topics = oncePartitions(q.Topics, func(t *kmsg.OffsetFetchRequestTopic) (namedTopic, *[]int32) {
		return namedTopic{name: t.Topic}, &t.Partitions
	})
	type group = kmsg.OffsetFetchRequestGroup
	q.Groups = once(q.Groups, func(g *group) string { return g.Group }, func(first, repeat *group) {
		first.Topics = allOrBoth(first.Topics, repeat.Topics)
	})
	for i := range q.Groups {
		q.Groups[i].Topics = oncePartitions(q.Groups[i].Topics, func(t *kmsg.OffsetFetchRequestGroupTopic) (namedTopic, *[]int32) {
			return namedTopic{t.Topic, t.TopicID}, &t.Partitions
		})
	}
}

func onceDescribeConfigs(q *kmsg.DescribeConfigsRequest) {
	type resource = kmsg.DescribeConfigsRequestResource
	type key struct {
		kind kmsg.ConfigResourceType
		name string
	}
	for i := range q.Resources {
		if r := &q.Resources[i]; len(r.ConfigNames) == 0 {
			r.ConfigNames = nil // both mean all
		}
	}
	q.Resources = once(q.Resources, func(r *resource) key { return key{r.ResourceType, r.ResourceName} }, func(first, repeat *resource) {
		first.ConfigNames = allOrBoth(first.ConfigNames, repeat.ConfigNames)
	})
}

func onceDescribeQuorum(q *kmsg.DescribeQuorumRequest) {
	type topic = kmsg.DescribeQuorumRequestTopic
	q.Topics = once(q.Topics, func(t *topic) string { return t.Topic }, func(first, repeat *topic) {
		first.Partitions = append(first.Partitions, repeat.Partitions...)
	})
	for i := range q.Topics {
		q.Topics[i].Partitions = once(q.Topics[i].Partitions, func(p *kmsg.DescribeQuorumRequestTopicPartition) int32 { return p.Partition }, nil)
	}
}

func onceShareGroupOffsets(q *kmsg.DescribeShareGroupOffsetsRequest) {
	type group = kmsg.DescribeShareGroupOffsetsRequestGroup
	q.Groups = once(q.Groups, func(g *group) string { return g.GroupID }, func(first, repeat *group) {
		first.Topics = allOrBoth(first.Topics, repeat.Topics)
	})
	for i := range q.Groups {
		q.Groups[i].Topics = oncePartitions(q.Groups[i].Topics, func(t *kmsg.DescribeShareGroupOffsetsRequestGroupTopic) (namedTopic, *[]int32) {
			return namedTopic{name: t.Topic}, &t.Partitions
		})
	}
}
