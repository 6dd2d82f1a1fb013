package api

import (
	"slices"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Guards of the keys of topics. A topic that is denied by name is answered in the same way whether it exists or not.

func guardListOffsets(g *gate, q *kmsg.ListOffsetsRequest, next func() (*kmsg.ListOffsetsResponse, error)) (*kmsg.ListOffsetsResponse, error) {
	allowed, refused := split(q.Topics, func(t *kmsg.ListOffsetsRequestTopic) bool { return g.topicDenied(broker.Describe, t.Topic, none) })
	q.Topics = allowed
	resp, err := next()
	if err != nil {
		return nil, err
	}
	for i := range refused {
		t := kmsg.NewListOffsetsResponseTopic()
		t.Topic = refused[i].Topic
		for j := range refused[i].Partitions {
			p := kmsg.NewListOffsetsResponseTopicPartition()
			p.Partition, p.ErrorCode, p.Timestamp, p.Offset, p.LeaderEpoch = refused[i].Partitions[j].Partition, topicDeniedCode, -1, -1, -1
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}

func guardOffsetForLeaderEpoch(g *gate, q *kmsg.OffsetForLeaderEpochRequest, next func() (*kmsg.OffsetForLeaderEpochResponse, error)) (*kmsg.OffsetForLeaderEpochResponse, error) {
	if g.cluster(broker.ClusterAction) == nil {
		return next()
	}
	allowed, refused := split(q.Topics, func(t *kmsg.OffsetForLeaderEpochRequestTopic) bool {
		return g.topicDenied(broker.Describe, t.Topic, none)
	})
	q.Topics = allowed
	resp, err := next()
	if err != nil {
		return nil, err
	}
	for i := range refused {
		t := kmsg.NewOffsetForLeaderEpochResponseTopic()
		t.Topic = refused[i].Topic
		for j := range refused[i].Partitions {
			p := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			p.Partition, p.ErrorCode, p.LeaderEpoch, p.EndOffset = refused[i].Partitions[j].Partition, topicDeniedCode, -1, -1
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}

// guardMetadata leaves denied topics out where all are asked for. Where they are named, it says that they are denied without
// a look whether they exist; and so it does for one that the request would create without the right to.
func guardMetadata(g *gate, q *kmsg.MetadataRequest, next func() (*kmsg.MetadataResponse, error)) (*kmsg.MetadataResponse, error) {
	all := q.Topics == nil || len(q.Topics) == 0 && q.Version < metadataNullMeansAll
	var refused []kmsg.MetadataRequestTopic
	if !all {
		creates := q.Version < metadataMayCreate || q.AllowAutoTopicCreation
		q.Topics, refused = split(q.Topics, func(t *kmsg.MetadataRequestTopic) bool {
			name := deref(t.Topic)
			return (name != "" || t.TopicID != none) && g.topicDenied(broker.Describe, name, t.TopicID) ||
				creates && name != "" && admin.WouldCreate(g.api.Admin, name) && !g.mayCreate(name)
		})
	}
	if len(q.Topics) == 0 && len(refused) > 0 {
		q.Topics, q.Version = []kmsg.MetadataRequestTopic{}, max(q.Version, metadataNullMeansAll) // none, not all
	}
	resp, err := next()
	if err != nil {
		return nil, err
	}
	if all {
		resp.Topics, _ = split(resp.Topics, func(t *kmsg.MetadataResponseTopic) bool { return g.topicDenied(broker.Describe, deref(t.Topic), none) })
	}
	for i := range resp.Topics {
		if t := &resp.Topics[i]; t.ErrorCode == 0 {
			t.AuthorizedOperations = g.operations(q.IncludeTopicAuthorizedOperations, broker.Topic(deref(t.Topic)))
		}
	}
	resp.AuthorizedOperations = g.clusterOperations(q.IncludeClusterAuthorizedOperations)
	for i := range refused {
		t := kmsg.NewMetadataResponseTopic()
		t.Topic, t.TopicID, t.ErrorCode = refused[i].Topic, refused[i].TopicID, topicDeniedCode
		t.IsInternal, t.AuthorizedOperations = broker.IsInternalTopic(deref(t.Topic)), notAsked
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}

func (g *gate) mayCreate(topic string) bool {
	return g.may(broker.Create, broker.Cluster) || g.may(broker.Create, broker.Topic(topic))
}

// clusterOperations are the operations on the cluster, none for those who may not even describe it.
func (g *gate) clusterOperations(asked bool) int32 {
	if asked && g.cluster(broker.Describe) != nil {
		return 0
	}
	return g.operations(asked, broker.Cluster)
}

// guardDescribeTopicPartitions names the topics that the caller may see where all are asked for, so that pages and cursors tell
// of no others.
func guardDescribeTopicPartitions(g *gate, q *kmsg.DescribeTopicPartitionsRequest, next func() (*kmsg.DescribeTopicPartitionsResponse, error)) (*kmsg.DescribeTopicPartitionsResponse, error) {
	var refused []kmsg.DescribeTopicPartitionsRequestTopic
	denied := func(t *kmsg.DescribeTopicPartitionsRequestTopic) bool {
		return g.topicDenied(broker.Describe, t.Topic, none)
	}
	if len(q.Topics) > 0 {
		q.Topics, refused = split(q.Topics, denied)
		refused = slices.DeleteFunc(refused, func(t kmsg.DescribeTopicPartitionsRequestTopic) bool {
			return q.Cursor != nil && t.Topic < q.Cursor.Topic // told with a page before
		})
	} else {
		for _, name := range admin.TopicNames(g.api.Admin) {
			t := kmsg.NewDescribeTopicPartitionsRequestTopic()
			t.Topic = name
			q.Topics = append(q.Topics, t)
		}
		q.Topics, _ = split(q.Topics, denied)
	}
	resp, err := kmsg.NewPtrDescribeTopicPartitionsResponse(), error(nil)
	if len(q.Topics) > 0 {
		resp, err = next()
	}
	if err != nil {
		return nil, err
	}
	for i := range resp.Topics {
		if t := &resp.Topics[i]; t.ErrorCode == 0 {
			t.AuthorizedOperations = g.operations(true, broker.Topic(deref(t.Topic)))
		}
	}
	for i := range refused {
		t := kmsg.NewDescribeTopicPartitionsResponseTopic()
		t.Topic, t.ErrorCode, t.AuthorizedOperations = &refused[i].Topic, topicDeniedCode, notAsked
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}

// guardCreateTopics asks for Create on the cluster or on each topic, and shows what was made only to who may see settings.
func guardCreateTopics(g *gate, q *kmsg.CreateTopicsRequest, next func() (*kmsg.CreateTopicsResponse, error)) (*kmsg.CreateTopicsResponse, error) {
	all := g.may(broker.Create, broker.Cluster)
	allowed, refused := split(q.Topics, func(t *kmsg.CreateTopicsRequestTopic) bool {
		return !all && !g.may(broker.Create, broker.Topic(t.Topic))
	})
	q.Topics = allowed
	resp, err := next()
	if err != nil {
		return nil, err
	}
	for i := range resp.Topics {
		t := &resp.Topics[i]
		if t.ErrorCode == 0 && g.topicDenied(broker.DescribeConfigs, t.Topic, none) {
			t.ConfigErrorCode, t.NumPartitions, t.ReplicationFactor, t.Configs = topicDeniedCode, -1, -1, nil
		}
	}
	for i := range refused {
		t := kmsg.NewCreateTopicsResponseTopic()
		t.Topic, t.ErrorCode, t.ErrorMessage = refused[i].Topic, topicDeniedCode, message(broker.ErrTopicDenied)
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}

// guardDeleteTopics asks for Delete on the cluster or on each topic, and tells the name of one that was named by id only to who may
// see it.
func guardDeleteTopics(g *gate, q *kmsg.DeleteTopicsRequest, next func() (*kmsg.DeleteTopicsResponse, error)) (*kmsg.DeleteTopicsResponse, error) {
	all := g.may(broker.Delete, broker.Cluster)
	names, deniedNames := split(q.TopicNames, func(name *string) bool { return !all && g.topicDenied(broker.Delete, *name, none) })
	topics, refused := split(q.Topics, func(t *kmsg.DeleteTopicsRequestTopic) bool {
		return !all && g.topicDenied(broker.Delete, deref(t.Topic), t.TopicID)
	})
	q.TopicNames, q.Topics = names, topics
	resp, err := next()
	if err != nil {
		return nil, err
	}
	for i := range deniedNames {
		refused = append(refused, kmsg.DeleteTopicsRequestTopic{Topic: &deniedNames[i]})
	}
	for i := range refused {
		t := kmsg.NewDeleteTopicsResponseTopic()
		t.Topic, t.TopicID, t.ErrorCode, t.ErrorMessage = refused[i].Topic, refused[i].TopicID, topicDeniedCode, message(broker.ErrTopicDenied)
		if name, known := admin.TopicName(g.api.Admin, t.TopicID); t.Topic == nil && known && g.may(broker.Describe, broker.Topic(name)) {
			t.Topic = &name
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}

func guardDeleteRecords(g *gate, q *kmsg.DeleteRecordsRequest, next func() (*kmsg.DeleteRecordsResponse, error)) (*kmsg.DeleteRecordsResponse, error) {
	allowed, refused := split(q.Topics, func(t *kmsg.DeleteRecordsRequestTopic) bool { return g.topicDenied(broker.Delete, t.Topic, none) })
	q.Topics = allowed
	resp, err := next()
	if err != nil {
		return nil, err
	}
	for i := range refused {
		t := kmsg.NewDeleteRecordsResponseTopic()
		t.Topic = refused[i].Topic
		for j := range refused[i].Partitions {
			p := kmsg.NewDeleteRecordsResponseTopicPartition()
			p.Partition, p.ErrorCode, p.LowWatermark = refused[i].Partitions[j].Partition, topicDeniedCode, -1
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}

func guardCreatePartitions(g *gate, q *kmsg.CreatePartitionsRequest, next func() (*kmsg.CreatePartitionsResponse, error)) (*kmsg.CreatePartitionsResponse, error) {
	allowed, refused := split(q.Topics, func(t *kmsg.CreatePartitionsRequestTopic) bool { return g.topicDenied(broker.Alter, t.Topic, none) })
	q.Topics = allowed
	resp, err := next()
	if err != nil {
		return nil, err
	}
	for i := range refused {
		t := kmsg.NewCreatePartitionsResponseTopic()
		t.Topic, t.ErrorCode, t.ErrorMessage = refused[i].Topic, topicDeniedCode, message(broker.ErrTopicDenied)
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}

func guardDescribeProducers(g *gate, q *kmsg.DescribeProducersRequest, next func() (*kmsg.DescribeProducersResponse, error)) (*kmsg.DescribeProducersResponse, error) {
	allowed, refused := split(q.Topics, func(t *kmsg.DescribeProducersRequestTopic) bool { return g.topicDenied(broker.Read, t.Topic, none) })
	q.Topics = allowed
	resp, err := next()
	if err != nil {
		return nil, err
	}
	for i := range refused {
		t := kmsg.NewDescribeProducersResponseTopic()
		t.Topic = refused[i].Topic
		for _, index := range refused[i].Partitions {
			p := kmsg.NewDescribeProducersResponseTopicPartition()
			p.Partition, p.ErrorCode, p.ErrorMessage = index, topicDeniedCode, message(broker.ErrTopicDenied)
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}

// produceDenied tells why a batch of a request may not be written; nil if it may.
func (g *gate) produceDenied(q *kmsg.ProduceRequest) func(topic string, id replication.TopicID) error {
	if q.TransactionID != nil {
		if err := g.transaction(broker.Write, *q.TransactionID); err != nil {
			return func(string, replication.TopicID) error { return err }
		}
	}
	return func(topic string, id replication.TopicID) error {
		denied := g.idDenied(broker.Write, id)
		if q.Version < produceTopicIDs {
			denied = g.topicDenied(broker.Write, topic, none)
		}
		if denied {
			return broker.ErrTopicDenied
		}
		return nil
	}
}
