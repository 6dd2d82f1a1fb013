package api

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// minimal returns a small valid request of a key, about partition 0 of a topic.
func minimal(t testing.TB, key kafkaproto.Key, version int16, topic string, id replication.TopicID) kmsg.Request {
	req := kmsg.RequestForKey(int16(key))
	req.SetVersion(version)
	switch q := req.(type) {
	case *kmsg.ProduceRequest:
		q.Acks, q.TimeoutMillis = -1, 10_000
		rt := kmsg.NewProduceRequestTopic()
		rt.Topic, rt.TopicID = topic, id
		rt.Partitions = append(rt.Partitions, kmsg.ProduceRequestTopicPartition{Records: testBatch(t, "k", "v")})
		q.Topics = append(q.Topics, rt)
	case *kmsg.FetchRequest:
		q.MaxBytes, q.ReplicaID = 1<<20, -1
		rt := kmsg.NewFetchRequestTopic()
		rt.Topic, rt.TopicID = topic, id
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.PartitionMaxBytes = 1 << 20
		rt.Partitions = append(rt.Partitions, rp)
		q.Topics = append(q.Topics, rt)
	case *kmsg.ListOffsetsRequest:
		rt := kmsg.NewListOffsetsRequestTopic()
		rt.Topic = topic
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Timestamp = -1
		rt.Partitions = append(rt.Partitions, rp)
		q.Topics = append(q.Topics, rt)
	case *kmsg.MetadataRequest:
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = &topic
		q.Topics = append(q.Topics, rt)
	case *kmsg.ApiVersionsRequest:
		q.ClientSoftwareName, q.ClientSoftwareVersion, q.NodeID = "test", "1.0", -1
	case *kmsg.CreateTopicsRequest:
		rt := kmsg.NewCreateTopicsRequestTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = fmt.Sprintf("made-%d", version), 1, 1
		q.Topics, q.TimeoutMillis = append(q.Topics, rt), 10_000
	case *kmsg.DeleteTopicsRequest:
		name := fmt.Sprintf("made-%d", version)
		q.TopicNames = []string{name}
		q.Topics, q.TimeoutMillis = []kmsg.DeleteTopicsRequestTopic{{Topic: &name}}, 10_000
	case *kmsg.DeleteRecordsRequest:
		rt := kmsg.NewDeleteRecordsRequestTopic()
		rt.Topic = topic
		rt.Partitions = append(rt.Partitions, kmsg.NewDeleteRecordsRequestTopicPartition())
		q.Topics, q.TimeoutMillis = append(q.Topics, rt), 10_000
	case *kmsg.OffsetForLeaderEpochRequest:
		rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
		rt.Topic = topic
		rt.Partitions = append(rt.Partitions, kmsg.NewOffsetForLeaderEpochRequestTopicPartition())
		q.Topics = append(q.Topics, rt)
	case *kmsg.DescribeConfigsRequest:
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, topic
		q.Resources, q.IncludeDocumentation, q.IncludeSynonyms = append(q.Resources, r), true, true
	case *kmsg.AlterConfigsRequest:
		r := kmsg.NewAlterConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, topic
		r.Configs = append(r.Configs, kmsg.AlterConfigsRequestResourceConfig{Name: "retention.ms", Value: kmsg.StringPtr("100000")})
		q.Resources = append(q.Resources, r)
	case *kmsg.IncrementalAlterConfigsRequest:
		r := kmsg.NewIncrementalAlterConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, topic
		r.Configs = append(r.Configs, kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: "retention.ms", Value: kmsg.StringPtr("200000")})
		q.Resources = append(q.Resources, r)
	case *kmsg.CreatePartitionsRequest:
		rt := kmsg.NewCreatePartitionsRequestTopic()
		rt.Topic, rt.Count = "grows", int32(version)+2
		q.Topics, q.TimeoutMillis = append(q.Topics, rt), 10_000
	case *kmsg.ElectLeadersRequest:
		q.Topics = append(q.Topics, kmsg.ElectLeadersRequestTopic{Topic: topic, Partitions: []int32{0}})
	case *kmsg.AlterPartitionAssignmentsRequest:
		rt := kmsg.AlterPartitionAssignmentsRequestTopic{Topic: topic}
		rt.Partitions = append(rt.Partitions, kmsg.AlterPartitionAssignmentsRequestTopicPartition{Replicas: []int32{1}})
		q.Topics = append(q.Topics, rt)
	case *kmsg.ListPartitionReassignmentsRequest:
		q.Topics = append(q.Topics, kmsg.ListPartitionReassignmentsRequestTopic{Topic: topic, Partitions: []int32{0}})
	case *kmsg.DescribeQuorumRequest:
		rt := kmsg.DescribeQuorumRequestTopic{Topic: topic, Partitions: make([]kmsg.DescribeQuorumRequestTopicPartition, 1)}
		q.Topics = append(q.Topics, rt)
	case *kmsg.DescribeTopicPartitionsRequest:
		q.Topics = append(q.Topics, kmsg.DescribeTopicPartitionsRequestTopic{Topic: topic})
	case *kmsg.DescribeProducersRequest:
		q.Topics = append(q.Topics, kmsg.DescribeProducersRequestTopic{Topic: topic, Partitions: []int32{0}})
	}
	return req
}

// errorCodeOf digs the first error code out of a response, wherever its kind keeps it.
func errorCodeOf(resp kmsg.Response) int16 {
	switch r := resp.(type) {
	case *kmsg.ProduceResponse:
		return r.Topics[0].Partitions[0].ErrorCode
	case *kmsg.FetchResponse:
		if r.ErrorCode != 0 || len(r.Topics) == 0 {
			return r.ErrorCode
		}
		return r.Topics[0].Partitions[0].ErrorCode
	case *kmsg.ListOffsetsResponse:
		return r.Topics[0].Partitions[0].ErrorCode
	case *kmsg.MetadataResponse:
		return r.Topics[0].ErrorCode
	case *kmsg.ApiVersionsResponse:
		return r.ErrorCode
	case *kmsg.CreateTopicsResponse:
		return r.Topics[0].ErrorCode
	case *kmsg.DeleteTopicsResponse:
		return r.Topics[0].ErrorCode
	case *kmsg.DeleteRecordsResponse:
		return r.Topics[0].Partitions[0].ErrorCode
	case *kmsg.InitProducerIDResponse:
		return r.ErrorCode
	case *kmsg.OffsetForLeaderEpochResponse:
		return r.Topics[0].Partitions[0].ErrorCode
	case *kmsg.DescribeConfigsResponse:
		return r.Resources[0].ErrorCode
	case *kmsg.AlterConfigsResponse:
		return r.Resources[0].ErrorCode
	case *kmsg.IncrementalAlterConfigsResponse:
		return r.Resources[0].ErrorCode
	case *kmsg.DescribeLogDirsResponse:
		return r.Dirs[0].ErrorCode
	case *kmsg.CreatePartitionsResponse:
		return r.Topics[0].ErrorCode
	case *kmsg.DescribeClusterResponse:
		return r.ErrorCode
	case *kmsg.DescribeProducersResponse:
		return r.Topics[0].Partitions[0].ErrorCode
	case *kmsg.DescribeTopicPartitionsResponse:
		return r.Topics[0].ErrorCode
	}
	return 0
}

// ownKeys are the keys whose handlers these tests are about; the groups' have their own, and those of share groups.
func ownKeys() []Row {
	var rows []Row
	for _, row := range Table() {
		switch key := row.Key; {
		case key >= 8 && key <= 16, key == 42, key == 47, key == 68, key == 69, key >= 76 && key <= 79, key >= 90 && key <= 92:
		default:
			rows = append(rows, row)
		}
	}
	return rows
}

// Every key answers a valid request at every version that it serves, without an error, and the answer decodes.
func TestEveryVersion(t *testing.T) {
	n := newNode(t)
	id := n.createTopic("orders", 1)
	n.createTopic("grows", 1)
	n.createTopic("made-1", 1) // for DeleteTopics, which has a version more than CreateTopics
	c := newClient(t, n.api)
	for _, row := range ownKeys() {
		for version := row.Min; version <= row.Max; version++ {
			req := minimal(t, row.Key, version, "orders", id)
			resp, err := c.finish(c.start(req, version), req)
			if err != nil {
				t.Errorf("%s version %d: %v", row.Key, version, err)
				continue
			}
			if got := errorCodeOf(resp); got != 0 {
				t.Errorf("%s version %d: %v", row.Key, version, kafkaproto.Code(got))
			}
		}
	}
}

// Every cut of a valid request, and anything behind it, ends the connection or is answered; nothing panics.
func TestDamagedRequests(t *testing.T) {
	n := newNode(t)
	id := n.createTopic("orders", 1)
	c := newClient(t, n.api)
	send := func(key kafkaproto.Key, version int16, body []byte) error {
		h := kafkaproto.RequestHeader{Key: key, Version: version, ClientID: "test", HasClientID: true}
		reply, err := n.api.Dispatch(context.Background(), c.session, h, body).Finish(context.Background())
		reply.Body.Release()
		return err
	}
	for _, row := range ownKeys() {
		for _, version := range []int16{row.Min, row.Max} {
			req := minimal(t, row.Key, version, "orders", id)
			whole := req.AppendTo(nil)
			for cut := range whole {
				if err := send(row.Key, version, append([]byte(nil), whole[:cut]...)); err == nil {
					t.Errorf("%s version %d: %d of %d bytes were accepted", row.Key, version, cut, len(whole))
				}
			}
			if err := send(row.Key, version, append(append([]byte(nil), whole...), 0)); err == nil {
				t.Errorf("%s version %d: a trailing byte was accepted", row.Key, version)
			}
		}
	}
}

func TestUnknownKeysAndVersions(t *testing.T) {
	n := newNode(t)
	c := newClient(t, n.api)
	finish := func(key kafkaproto.Key, version int16) error {
		h := kafkaproto.RequestHeader{Key: key, Version: version}
		_, err := n.api.Dispatch(context.Background(), c.session, h, nil).Finish(context.Background())
		return err
	}
	for _, key := range []kafkaproto.Key{-1, 4, 52, 94, 95, 32767} {
		if err := finish(key, 0); !errors.Is(err, ErrUnsupportedKey) {
			t.Errorf("key %d: %v", key, err)
		}
		if n.api.Overlaps(key) {
			t.Errorf("key %d overlaps", key)
		}
	}
	for _, row := range ownKeys() {
		if row.Key == kafkaproto.KeyApiVersions {
			continue
		}
		for _, version := range []int16{-1, row.Min - 1, row.Max + 1} {
			if err := finish(row.Key, version); !errors.Is(err, ErrUnsupportedVersion) {
				t.Errorf("%s version %d: %v", row.Key, version, err)
			}
		}
	}
	if !n.api.Overlaps(kafkaproto.KeyProduce) || n.api.Overlaps(kafkaproto.KeyFetch) {
		t.Error("only Produce overlaps")
	}
}

// A client that is newer than this broker learns the range of ApiVersions in the format of version 0 (KIP-511).
func TestApiVersionsOfTheFuture(t *testing.T) {
	n := newNode(t)
	c := newClient(t, n.api)
	for _, version := range []int16{6, 99, 32767, -1} {
		h := kafkaproto.RequestHeader{Key: kafkaproto.KeyApiVersions, Version: version}
		reply, err := n.api.Dispatch(context.Background(), c.session, h, nil).Finish(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		body, _ := reply.Body.AppendTo(nil)
		resp := kmsg.NewPtrApiVersionsResponse()
		if err := resp.ReadFrom(body); err != nil {
			t.Fatal(err)
		}
		if resp.ErrorCode != int16(kafkaproto.UnsupportedVersion) || len(resp.ApiKeys) != 1 ||
			resp.ApiKeys[0].ApiKey != 18 || resp.ApiKeys[0].MinVersion != 0 || resp.ApiKeys[0].MaxVersion != 5 {
			t.Errorf("version %d: %+v", version, resp)
		}
	}
}

func TestApiVersions(t *testing.T) {
	n := newNode(t)
	c := newClient(t, n.api)
	greet := func(version int16, change func(*kmsg.ApiVersionsRequest)) *kmsg.ApiVersionsResponse {
		q := kmsg.NewPtrApiVersionsRequest()
		q.ClientSoftwareName, q.ClientSoftwareVersion = "kgo", "1.22.2"
		change(q)
		return ask[*kmsg.ApiVersionsResponse](c, q, version)
	}
	resp := greet(5, func(*kmsg.ApiVersionsRequest) {})
	if len(resp.ApiKeys) != len(Table()) || resp.ErrorCode != 0 {
		t.Fatalf("%d keys, %v", len(resp.ApiKeys), kafkaproto.Code(resp.ErrorCode))
	}
	for i, row := range Table() {
		if k := resp.ApiKeys[i]; k.ApiKey != int16(row.Key) || k.MinVersion != row.AdvertisedMin || k.MaxVersion != row.Max {
			t.Errorf("%s: %+v", row.Key, k)
		}
	}
	if resp.ApiKeys[0].MinVersion != 0 {
		t.Error("Produce must be advertised from 0 for old librdkafka")
	}
	if got := c.session.Caller("x").Software; got != "kgo/1.22.2" {
		t.Errorf("software %q", got)
	}
	cluster, other := n.clusterID, "another"
	for name, tc := range map[string]struct {
		version int16
		change  func(*kmsg.ApiVersionsRequest)
		want    kafkaproto.Code
	}{
		"no name":           {3, func(q *kmsg.ApiVersionsRequest) { q.ClientSoftwareName = "" }, kafkaproto.InvalidRequest},
		"odd name":          {3, func(q *kmsg.ApiVersionsRequest) { q.ClientSoftwareName = "-kgo" }, kafkaproto.InvalidRequest},
		"odd version":       {3, func(q *kmsg.ApiVersionsRequest) { q.ClientSoftwareVersion = "1 2" }, kafkaproto.InvalidRequest},
		"no name before v3": {2, func(q *kmsg.ApiVersionsRequest) { q.ClientSoftwareName = "" }, kafkaproto.None},
		"this broker":       {5, func(q *kmsg.ApiVersionsRequest) { q.ClusterID, q.NodeID = &cluster, 1 }, kafkaproto.None},
		"another cluster":   {5, func(q *kmsg.ApiVersionsRequest) { q.ClusterID, q.NodeID = &other, 1 }, kafkaproto.RebootstrapRequired},
		"another broker":    {5, func(q *kmsg.ApiVersionsRequest) { q.ClusterID, q.NodeID = &cluster, 2 }, kafkaproto.RebootstrapRequired},
		"half a target":     {5, func(q *kmsg.ApiVersionsRequest) { q.ClusterID = &cluster }, kafkaproto.InvalidRequest},
	} {
		if got := greet(tc.version, tc.change).ErrorCode; got != int16(tc.want) {
			t.Errorf("%s: %v, want %v", name, kafkaproto.Code(got), tc.want)
		}
	}
}
