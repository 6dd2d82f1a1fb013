package grpcapi

import (
	"context"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/quorlog/quorlog/broker"
	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// only allows what is in it, and notes what it is asked.
type only map[broker.Resource]broker.Operation

func (o only) Allowed(_ broker.Caller, op broker.Operation, r broker.Resource) bool {
	allowed, ok := o[r]
	return ok && allowed == op
}

func (o only) AllowedSome(broker.Caller, broker.Operation, broker.ResourceType) bool { return false }

// reasons are the names that the node's table of errors has.
func reasons(err error) string {
	return map[error]string{
		broker.ErrTopicDenied: "TOPIC_AUTHORIZATION_FAILED", broker.ErrGroupDenied: "GROUP_AUTHORIZATION_FAILED",
		broker.ErrClusterDenied: "CLUSTER_AUTHORIZATION_FAILED",
	}[err]
}

// Without the right, nothing is done: the services are not there at all. near is a right that is close, and not enough.
func TestDenied(t *testing.T) {
	topic, group := broker.Topic("t"), broker.Group("g")
	for name, c := range map[string]struct {
		near   only
		call   func(context.Context, *records, *management) error
		reason string
	}{
		"Produce": {only{topic: broker.Read}, func(ctx context.Context, r *records, _ *management) error {
			_, err := r.Produce(ctx, &quorlogv1.ProduceRequest{Topic: "t"})
			return err
		}, "TOPIC_AUTHORIZATION_FAILED"},
		"Consume": {only{topic: broker.Write}, func(ctx context.Context, r *records, _ *management) error {
			_, err := r.Consume(ctx, &quorlogv1.ConsumeRequest{Topic: "t"})
			return err
		}, "TOPIC_AUTHORIZATION_FAILED"},
		"InitProducer": {only{topic: broker.Write}, func(ctx context.Context, r *records, _ *management) error {
			_, err := r.InitProducer(ctx, &quorlogv1.InitProducerRequest{})
			return err
		}, "CLUSTER_AUTHORIZATION_FAILED"},
		"CreateTopic": {only{broker.Cluster: broker.Alter}, func(ctx context.Context, _ *records, m *management) error {
			_, err := m.CreateTopic(ctx, &quorlogv1.CreateTopicRequest{Name: "t"})
			return err
		}, "TOPIC_AUTHORIZATION_FAILED"},
		"DeleteTopic": {only{topic: broker.Alter}, func(ctx context.Context, _ *records, m *management) error {
			_, err := m.DeleteTopic(ctx, &quorlogv1.DeleteTopicRequest{Name: "t"})
			return err
		}, "TOPIC_AUTHORIZATION_FAILED"},
		"DescribeTopic": {only{broker.Cluster: broker.Describe}, func(ctx context.Context, _ *records, m *management) error {
			_, err := m.DescribeTopic(ctx, &quorlogv1.DescribeTopicRequest{Name: "t"})
			return err
		}, "TOPIC_AUTHORIZATION_FAILED"},
		"AlterTopic, settings": {only{topic: broker.Alter}, func(ctx context.Context, _ *records, m *management) error {
			_, err := m.AlterTopic(ctx, &quorlogv1.AlterTopicRequest{Name: "t", Reset_: []string{"retention.ms"}, Partitions: 3})
			return err
		}, "TOPIC_AUTHORIZATION_FAILED"},
		"AlterTopic, partitions": {only{topic: broker.AlterConfigs}, func(ctx context.Context, _ *records, m *management) error {
			_, err := m.AlterTopic(ctx, &quorlogv1.AlterTopicRequest{Name: "t", Reset_: []string{"retention.ms"}, Partitions: 3})
			return err
		}, "TOPIC_AUTHORIZATION_FAILED"},
		"DescribeGroup": {only{group: broker.Delete}, func(ctx context.Context, _ *records, m *management) error {
			_, err := m.DescribeGroup(ctx, &quorlogv1.DescribeGroupRequest{Group: "g"})
			return err
		}, "GROUP_AUTHORIZATION_FAILED"},
		"DeleteGroup": {only{group: broker.Describe}, func(ctx context.Context, _ *records, m *management) error {
			_, err := m.DeleteGroup(ctx, &quorlogv1.DeleteGroupRequest{Group: "g"})
			return err
		}, "GROUP_AUTHORIZATION_FAILED"},
		"CommitOffsets, group": {only{topic: broker.Read}, func(ctx context.Context, _ *records, m *management) error {
			_, err := m.CommitOffsets(ctx, &quorlogv1.CommitOffsetsRequest{Group: "g", Offsets: []*quorlogv1.GroupOffset{{Topic: "t"}}})
			return err
		}, "GROUP_AUTHORIZATION_FAILED"},
		"CommitOffsets, topic": {only{group: broker.Read}, func(ctx context.Context, _ *records, m *management) error {
			_, err := m.CommitOffsets(ctx, &quorlogv1.CommitOffsetsRequest{Group: "g", Offsets: []*quorlogv1.GroupOffset{{Topic: "t"}}})
			return err
		}, "TOPIC_AUTHORIZATION_FAILED"},
		"FetchOffsets, group": {only{topic: broker.Describe}, func(ctx context.Context, _ *records, m *management) error {
			_, err := m.FetchOffsets(ctx, &quorlogv1.FetchOffsetsRequest{Group: "g"})
			return err
		}, "GROUP_AUTHORIZATION_FAILED"},
		"FetchOffsets, topic": {only{group: broker.Describe}, func(ctx context.Context, _ *records, m *management) error {
			_, err := m.FetchOffsets(ctx, &quorlogv1.FetchOffsetsRequest{Group: "g", Topic: "t"})
			return err
		}, "TOPIC_AUTHORIZATION_FAILED"},
		"GetStatus": {only{broker.Cluster: broker.Alter}, func(ctx context.Context, _ *records, m *management) error {
			_, err := m.GetStatus(ctx, &quorlogv1.GetStatusRequest{})
			return err
		}, "CLUSTER_AUTHORIZATION_FAILED"},
		"Drain": {only{broker.Cluster: broker.Alter}, func(ctx context.Context, _ *records, m *management) error {
			_, err := m.Drain(ctx, &quorlogv1.DrainRequest{Node: 1, Drain: true})
			return err
		}, "CLUSTER_AUTHORIZATION_FAILED"},
	} {
		tries := []only{nil, c.near}
		if c.near[group] == broker.Read || c.near[group] == broker.Describe && c.reason == "TOPIC_AUTHORIZATION_FAILED" {
			tries = tries[1:] // without that right the group would be what is refused
		}
		for _, rights := range tries {
			all := &core{auth: rights, memory: newMemory(), o: Options{Reason: reasons}, ctx: t.Context()}
			err := c.call(t.Context(), &records{core: all}, &management{core: all})
			st, _ := status.FromError(err)
			if st.Code() != codes.PermissionDenied || reasonOf(st) != c.reason {
				t.Errorf("%s with %v: %v %s, want %s", name, rights, err, reasonOf(st), c.reason)
			}
		}
	}
}

// A call without a proven caller is not made, and what a client says of itself is not proof.
func TestUnauthenticated(t *testing.T) {
	if _, err := new(core).identified(t.Context()); status.Code(err) != codes.Unauthenticated {
		t.Error(err)
	}
}
