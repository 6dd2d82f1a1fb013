package compat

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// sample makes valid requests of every key and version.
type sample struct {
	topic string // exists, with one partition
	id    [16]byte
}

const sampleTopic = "sample"

func newSample(t testing.TB, node *testcluster.Node) sample {
	t.Helper()
	w := dialWire(t, node)
	defer w.Close()
	w.createTopic(sampleTopic, 1)
	w.awaitGroups()
	return sample{topic: sampleTopic, id: topicID(t, node, sampleTopic)}
}

// awaitGroups asks for the coordinator of a group, which makes the topic of the offsets, until it answers for its groups.
func (w *wire) awaitGroups() {
	w.t.Helper()
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.Version, find.CoordinatorKey = 2, "any"
	beat := kmsg.NewPtrHeartbeatRequest()
	beat.Group, beat.MemberID = "any", "nobody"
	const loading, notAvailable, notCoordinator, unknownMember = 14, 15, 16, 25
	for deadline := time.Now().Add(closePatience); time.Now().Before(deadline); {
		w.ask(find)
		switch code := w.ask(beat).(*kmsg.HeartbeatResponse).ErrorCode; code {
		case unknownMember:
			return
		case loading, notAvailable, notCoordinator:
		default:
			w.t.Fatalf("a heartbeat of nobody: error code %d", code)
		}
	}
	w.t.Fatal("no coordinator")
}

// createRequest asks for a topic. configs are names and values by turns.
func createRequest(name string, partitions int32, configs ...string) *kmsg.CreateTopicsRequest {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version = 5
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, partitions, 1
	for i := 0; i < len(configs); i += 2 {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = configs[i], &configs[i+1]
		rt.Configs = append(rt.Configs, c)
	}
	req.Topics = append(req.Topics, rt)
	return req
}

// createTopic creates a topic.
func (w *wire) createTopic(name string, partitions int32, configs ...string) {
	w.t.Helper()
	got := w.ask(createRequest(name, partitions, configs...)).(*kmsg.CreateTopicsResponse).Topics[0]
	if got.ErrorCode != 0 {
		w.t.Fatalf("create %s: error code %d (%v)", name, got.ErrorCode, *got.ErrorMessage)
	}
}

// variant tells how much a request holds.
type variant string

const (
	bare   variant = "bare"   // every field has its default: empty lists, null or empty names
	filled variant = "filled" // every list has one element, every name is given
)

// request returns a valid request. Names that a broker would remember differ by key, version and variant, so that no two
// requests meet in one group.
func (s sample) request(key, version int16, v variant) kmsg.Request {
	req := kmsg.RequestForKey(key)
	req.SetVersion(version)
	name := fmt.Sprintf("s-%d-%d-%s", key, version, v)
	if v == filled {
		s.fill(reflect.ValueOf(req).Elem(), name)
	}
	s.adjust(req, name)
	return req
}

// fill gives lists one element and names a value.
func (s sample) fill(v reflect.Value, name string) {
	for i := range v.NumField() {
		field, f := v.Type().Field(i).Name, v.Field(i)
		switch p := f.Addr().Interface().(type) {
		case *kmsg.Tags:
			continue
		case *string:
			*p = s.name(field, name)
			continue
		case **string:
			given := s.name(field, name)
			*p = &given
			continue
		case *[]byte:
			*p = []byte(name)
			continue
		case *[16]byte:
			*p = s.id
			continue
		}
		switch f.Kind() {
		case reflect.Struct:
			s.fill(f, name)
		case reflect.Pointer:
			f.Set(reflect.New(f.Type().Elem()))
			if f.Elem().Kind() == reflect.Struct {
				s.fill(f.Elem(), name)
			}
		case reflect.Slice:
			s.fillSlice(f, field, name)
		}
	}
}

func (s sample) fillSlice(f reflect.Value, field, name string) {
	f.Set(reflect.MakeSlice(f.Type(), 1, 1))
	elem := f.Index(0)
	if d, ok := elem.Addr().Interface().(interface{ Default() }); ok {
		d.Default()
	}
	switch elem.Kind() {
	case reflect.Struct:
		s.fill(elem, name)
	case reflect.String:
		elem.SetString(s.name(field, name))
	}
}

// name is the value of a field that holds one.
func (s sample) name(field, own string) string {
	switch field {
	case "Topic", "Topics", "TopicNames":
		return s.topic
	default:
		return own
	}
}

// adjust makes a request that fill or the defaults made sensible in what only its key knows.
func (s sample) adjust(req kmsg.Request, name string) {
	switch r := req.(type) {
	case *kmsg.ProduceRequest:
		r.Acks, r.TimeoutMillis, r.TransactionID = -1, 30_000, nil
		for i := range r.Topics {
			r.Topics[i].Partitions[0].Records = goodBatch().encode()
		}
	case *kmsg.FetchRequest:
		s.adjustFetch(r)
	case *kmsg.ListOffsetsRequest:
		r.ReplicaID = -1
		for i := range r.Topics {
			r.Topics[i].Partitions[0].Timestamp = -1
		}
	case *kmsg.MetadataRequest:
		for i := range r.Topics {
			if r.Version < 12 {
				r.Topics[i].TopicID = [16]byte{}
			}
		}
	case *kmsg.OffsetCommitRequest: // without a member, as tools commit
		r.Generation, r.MemberID, r.InstanceID = -1, "", nil
	case *kmsg.OffsetFetchRequest:
		for i := range r.Groups {
			r.Groups[i].MemberID, r.Groups[i].MemberEpoch = nil, -1
		}
	case *kmsg.JoinGroupRequest:
		r.SessionTimeoutMillis, r.RebalanceTimeoutMillis, r.MemberID, r.InstanceID = 10_000, 10_000, "", nil
		if r.ProtocolType == "" {
			r.ProtocolType = "consumer"
		}
	case *kmsg.CreateTopicsRequest:
		for i := range r.Topics {
			t := &r.Topics[i]
			t.Topic, t.NumPartitions, t.ReplicationFactor, t.ReplicaAssignment = name, 1, 1, nil
			value := "100000"
			t.Configs[0].Name, t.Configs[0].Value = "retention.ms", &value
		}
	case *kmsg.DeleteTopicsRequest:
		s.adjustDeleteTopics(r, name)
	case *kmsg.CreatePartitionsRequest:
		for i := range r.Topics {
			r.Topics[i].Count, r.Topics[i].Assignment = 1, nil
		}
	case *kmsg.InitProducerIDRequest:
		r.TransactionalID, r.ProducerID, r.ProducerEpoch = nil, -1, -1
	case *kmsg.ApiVersionsRequest:
		r.ClientSoftwareName, r.ClientSoftwareVersion, r.ClusterID = "badinput", "1.0", nil
	}
	s.adjustConfigs(req)
}

func (s sample) adjustFetch(r *kmsg.FetchRequest) {
	r.ReplicaID, r.ReplicaState.ID, r.ReplicaState.Epoch = -1, -1, -1
	r.MaxBytes, r.SessionEpoch, r.ClusterID, r.ForgottenTopics = 1<<20, -1, nil, nil
	for i := range r.Topics {
		p := &r.Topics[i].Partitions[0]
		p.PartitionMaxBytes, p.ReplicaDirectoryID, p.HighWatermark = 1<<20, [16]byte{}, 1<<63-1
	}
}

// adjustDeleteTopics keeps the topic that the other requests are about.
func (s sample) adjustDeleteTopics(r *kmsg.DeleteTopicsRequest, name string) {
	for i := range r.TopicNames {
		r.TopicNames[i] = name
	}
	for i := range r.Topics {
		r.Topics[i].Topic, r.Topics[i].TopicID = &name, [16]byte{}
	}
}

// adjustConfigs points settings at the topic.
func (s sample) adjustConfigs(req kmsg.Request) {
	setting, value := "retention.ms", "100000"
	switch r := req.(type) {
	case *kmsg.DescribeConfigsRequest:
		for i := range r.Resources {
			r.Resources[i].ResourceType, r.Resources[i].ResourceName = kmsg.ConfigResourceTypeTopic, s.topic
			r.Resources[i].ConfigNames[0] = setting
		}
	case *kmsg.AlterConfigsRequest:
		for i := range r.Resources {
			r.Resources[i].ResourceType, r.Resources[i].ResourceName = kmsg.ConfigResourceTypeTopic, s.topic
			r.Resources[i].Configs[0].Name, r.Resources[i].Configs[0].Value = setting, &value
		}
	case *kmsg.IncrementalAlterConfigsRequest:
		for i := range r.Resources {
			r.Resources[i].ResourceType, r.Resources[i].ResourceName = kmsg.ConfigResourceTypeTopic, s.topic
			r.Resources[i].Configs[0].Name, r.Resources[i].Configs[0].Value = setting, &value
		}
	}
}

// eachField calls fn with a pointer to every field of a message, however deep.
func eachField(msg any, fn func(name string, field any)) {
	var each func(v reflect.Value)
	each = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() {
				each(v.Elem())
			}
		case reflect.Slice:
			for i := range v.Len() {
				each(v.Index(i))
			}
		case reflect.Struct:
			for i := range v.NumField() {
				if field := v.Type().Field(i); field.IsExported() && field.Name != "UnknownTags" {
					fn(field.Name, v.Field(i).Addr().Interface())
					each(v.Field(i))
				}
			}
		}
	}
	each(reflect.ValueOf(msg))
}
