package native

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/quorlog/quorlog/broker"
	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// user logs in with each call; the password is the name.
type user string

func (u user) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(string(u)+":"+string(u)))}, nil
}

func (user) RequireTransportSecurity() bool { return false }

// rule is a right to something.
type rule struct {
	op broker.Operation
	on broker.Resource
}

// guarded is a method, the right that it needs, none if that is the zero value, and what it needs beside. try makes a call, and returns
// its error.
type guarded struct {
	name string
	rule
	also []rule
	try  func(context.Context, *grpc.ClientConn) error
}

var errHidden = status.Error(codes.PermissionDenied, "nothing is seen")

// seen is the error of a method that leaves out what one may not see.
func seen(yes bool, err error) error {
	if err == nil && !yes {
		return errHidden
	}
	return err
}

func guardedMethods() []guarded {
	topic, group := broker.Topic("t"), broker.Group("g")
	one := []*quorlogv1.Record{{Value: []byte("v")}}
	offsets := []*quorlogv1.GroupOffset{{Topic: "t", Offset: 1}}
	records := func(cc *grpc.ClientConn) quorlogv1.RecordsClient { return quorlogv1.NewRecordsClient(cc) }
	topics := func(cc *grpc.ClientConn) quorlogv1.TopicsClient { return quorlogv1.NewTopicsClient(cc) }
	groups := func(cc *grpc.ClientConn) quorlogv1.GroupsClient { return quorlogv1.NewGroupsClient(cc) }
	cluster := func(cc *grpc.ClientConn) quorlogv1.ClusterClient { return quorlogv1.NewClusterClient(cc) }
	health := func(cc *grpc.ClientConn) healthv1.HealthClient { return healthv1.NewHealthClient(cc) }
	return []guarded{
		{"Produce", rule{broker.Write, topic}, nil, func(ctx context.Context, cc *grpc.ClientConn) error {
			return second(records(cc).Produce(ctx, &quorlogv1.ProduceRequest{Topic: "t", Records: one}))
		}},
		{"ProduceStream", rule{broker.Write, topic}, nil, func(ctx context.Context, cc *grpc.ClientConn) error {
			stream, err := records(cc).ProduceStream(ctx)
			if err != nil {
				return err
			}
			_ = stream.Send(&quorlogv1.ProduceStreamRequest{Batch: &quorlogv1.ProduceRequest{Topic: "t", Records: one}}) // Recv tells
			_ = stream.CloseSend()
			got, err := stream.Recv()
			if e := got.GetError(); err == nil && e != nil {
				return status.Error(codes.Code(e.GetCode()), e.GetReason())
			}
			return err
		}},
		{"Consume", rule{broker.Read, topic}, nil, func(ctx context.Context, cc *grpc.ClientConn) error {
			return second(records(cc).Consume(ctx, &quorlogv1.ConsumeRequest{Topic: "t"}))
		}},
		{"ConsumeStream", rule{broker.Read, topic}, nil, func(ctx context.Context, cc *grpc.ClientConn) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			stream, err := records(cc).ConsumeStream(ctx, &quorlogv1.ConsumeRequest{Topic: "t"})
			if err != nil {
				return err
			}
			return second(stream.Recv())
		}},
		{"InitProducer", rule{broker.IdempotentWrite, broker.Cluster}, nil, func(ctx context.Context, cc *grpc.ClientConn) error {
			return second(records(cc).InitProducer(ctx, &quorlogv1.InitProducerRequest{}))
		}},
		{"InitProducer of a writer", rule{broker.Write, topic}, nil, func(ctx context.Context, cc *grpc.ClientConn) error {
			return second(records(cc).InitProducer(ctx, &quorlogv1.InitProducerRequest{}))
		}},
		{"CreateTopic", rule{broker.Create, topic}, nil, func(ctx context.Context, cc *grpc.ClientConn) error {
			return second(topics(cc).CreateTopic(ctx, &quorlogv1.CreateTopicRequest{Name: "t"}))
		}},
		{"CreateTopic by the cluster", rule{broker.Create, broker.Cluster}, nil, func(ctx context.Context, cc *grpc.ClientConn) error {
			return second(topics(cc).CreateTopic(ctx, &quorlogv1.CreateTopicRequest{Name: "t"}))
		}},
		{"DeleteTopic", rule{broker.Delete, broker.Topic("nothing")}, nil, func(ctx context.Context, cc *grpc.ClientConn) error {
			return second(topics(cc).DeleteTopic(ctx, &quorlogv1.DeleteTopicRequest{Name: "nothing"}))
		}},
		{"DeleteTopic by the cluster", rule{broker.Delete, broker.Cluster}, nil, func(ctx context.Context, cc *grpc.ClientConn) error {
			return second(topics(cc).DeleteTopic(ctx, &quorlogv1.DeleteTopicRequest{Name: "nothing"}))
		}},
		{"ListTopics", rule{broker.Describe, topic}, nil, func(ctx context.Context, cc *grpc.ClientConn) error {
			got, err := topics(cc).ListTopics(ctx, &quorlogv1.ListTopicsRequest{})
			return seen(len(got.GetTopics()) > 0, err)
		}},
		{"DescribeTopic", rule{broker.Describe, topic}, nil, func(ctx context.Context, cc *grpc.ClientConn) error {
			return second(topics(cc).DescribeTopic(ctx, &quorlogv1.DescribeTopicRequest{Name: "t"}))
		}},
		{"DescribeTopic, settings", rule{broker.DescribeConfigs, topic}, []rule{{broker.Describe, topic}}, func(ctx context.Context, cc *grpc.ClientConn) error {
			got, err := topics(cc).DescribeTopic(ctx, &quorlogv1.DescribeTopicRequest{Name: "t"})
			return seen(len(got.GetConfig()) > 0, err)
		}},
		{"AlterTopic, settings", rule{broker.AlterConfigs, topic}, nil, func(ctx context.Context, cc *grpc.ClientConn) error {
			return second(topics(cc).AlterTopic(ctx, &quorlogv1.AlterTopicRequest{Name: "t", Reset_: []string{"retention.ms"}}))
		}},
		{"AlterTopic shows no layout", rule{broker.Describe, topic}, []rule{{broker.AlterConfigs, topic}}, func(ctx context.Context, cc *grpc.ClientConn) error {
			got, err := topics(cc).AlterTopic(ctx, &quorlogv1.AlterTopicRequest{Name: "t", Reset_: []string{"retention.ms"}})
			return seen(len(got.GetPartitions()) > 0, err)
		}},
		{"AlterTopic, partitions", rule{broker.Alter, topic}, nil, func(ctx context.Context, cc *grpc.ClientConn) error {
			return second(topics(cc).AlterTopic(ctx, &quorlogv1.AlterTopicRequest{Name: "t", Partitions: 1}))
		}},
		{"ListGroups", rule{broker.Describe, group}, nil, func(ctx context.Context, cc *grpc.ClientConn) error {
			got, err := groups(cc).ListGroups(ctx, &quorlogv1.ListGroupsRequest{})
			return seen(len(got.GetGroups()) > 0, err)
		}},
		{"DescribeGroup", rule{broker.Describe, group}, nil, func(ctx context.Context, cc *grpc.ClientConn) error {
			return second(groups(cc).DescribeGroup(ctx, &quorlogv1.DescribeGroupRequest{Group: "g"}))
		}},
		{"DeleteGroup", rule{broker.Delete, broker.Group("nothing")}, nil, func(ctx context.Context, cc *grpc.ClientConn) error {
			return second(groups(cc).DeleteGroup(ctx, &quorlogv1.DeleteGroupRequest{Group: "nothing"}))
		}},
		{"CommitOffsets, group", rule{broker.Read, group}, []rule{{broker.Read, topic}}, func(ctx context.Context, cc *grpc.ClientConn) error {
			return second(groups(cc).CommitOffsets(ctx, &quorlogv1.CommitOffsetsRequest{Group: "g", Offsets: offsets}))
		}},
		{"CommitOffsets, topic", rule{broker.Read, topic}, []rule{{broker.Read, group}}, func(ctx context.Context, cc *grpc.ClientConn) error {
			return second(groups(cc).CommitOffsets(ctx, &quorlogv1.CommitOffsetsRequest{Group: "g", Offsets: offsets}))
		}},
		{"FetchOffsets, group", rule{broker.Describe, group}, []rule{{broker.Describe, topic}}, func(ctx context.Context, cc *grpc.ClientConn) error {
			return second(groups(cc).FetchOffsets(ctx, &quorlogv1.FetchOffsetsRequest{Group: "g"}))
		}},
		{"FetchOffsets, topic", rule{broker.Describe, topic}, []rule{{broker.Describe, group}}, func(ctx context.Context, cc *grpc.ClientConn) error {
			return second(groups(cc).FetchOffsets(ctx, &quorlogv1.FetchOffsetsRequest{Group: "g", Topic: "t"}))
		}},
		{"FetchOffsets, all topics", rule{broker.Describe, topic}, []rule{{broker.Describe, group}}, func(ctx context.Context, cc *grpc.ClientConn) error {
			got, err := groups(cc).FetchOffsets(ctx, &quorlogv1.FetchOffsetsRequest{Group: "g"})
			return seen(len(got.GetOffsets()) > 0, err)
		}},
		{"GetServers", rule{broker.Describe, topic}, nil, func(ctx context.Context, cc *grpc.ClientConn) error {
			got, err := cluster(cc).GetServers(ctx, &quorlogv1.GetServersRequest{})
			return seen(len(got.GetServers()[0].GetLeads()) > 0 && got.GetPartitions()["t"] == 1, err)
		}},
		{"GetServers of a topic", rule{broker.Describe, topic}, nil, func(ctx context.Context, cc *grpc.ClientConn) error {
			got, err := cluster(cc).GetServers(ctx, &quorlogv1.GetServersRequest{Topics: []string{"t"}})
			return seen(len(got.GetServers()[0].GetLeads()) > 0 && got.GetPartitions()["t"] == 1, err)
		}},
		{"GetStatus", rule{broker.Describe, broker.Cluster}, nil, func(ctx context.Context, cc *grpc.ClientConn) error {
			return second(cluster(cc).GetStatus(ctx, &quorlogv1.GetStatusRequest{}))
		}},
		{"Check", rule{}, nil, func(ctx context.Context, cc *grpc.ClientConn) error {
			return second(health(cc).Check(ctx, &healthv1.HealthCheckRequest{}))
		}},
		{"List", rule{}, nil, func(ctx context.Context, cc *grpc.ClientConn) error {
			return second(health(cc).List(ctx, &healthv1.HealthListRequest{}))
		}},
		{"Watch", rule{}, nil, func(ctx context.Context, cc *grpc.ClientConn) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			stream, err := health(cc).Watch(ctx, &healthv1.HealthCheckRequest{})
			if err != nil {
				return err
			}
			return second(stream.Recv())
		}},
		{"Drain", rule{broker.AlterConfigs, broker.Cluster}, nil, func(ctx context.Context, cc *grpc.ClientConn) error {
			return second(cluster(cc).Drain(ctx, &quorlogv1.DrainRequest{Node: 1}))
		}},
	}
}

// inVain are the codes of calls that are let in and can't be done; the others can.
var inVain = map[string]codes.Code{
	"CreateTopic": codes.AlreadyExists, "CreateTopic by the cluster": codes.AlreadyExists,
	"DeleteTopic": codes.NotFound, "DeleteTopic by the cluster": codes.NotFound, "DeleteGroup": codes.NotFound,
	"AlterTopic, partitions": codes.InvalidArgument, // it has as many already
}

// grades are what a user may have, and whether it lets a method that needs more than Describe be called.
var grades = []struct {
	name  string
	rules func(r rule) []kmsg.CreateACLsRequestCreation
	in    func(r rule) bool
}{
	{"none", func(rule) []kmsg.CreateACLsRequestCreation { return nil }, never},
	{"describe", func(r rule) []kmsg.CreateACLsRequestCreation {
		return acls(allow, rule{broker.Describe, r.on}, r.on.Name, literal)
	}, func(r rule) bool { return r.op == broker.Describe }},
	{"allow", func(r rule) []kmsg.CreateACLsRequestCreation { return acls(allow, r, r.on.Name, literal) }, always},
	{"deny", func(r rule) []kmsg.CreateACLsRequestCreation {
		return append(acls(allow, rule{broker.AllOperations, r.on}, r.on.Name, literal), acls(deny, r, r.on.Name, literal)...)
	}, never},
	{"prefixed", func(r rule) []kmsg.CreateACLsRequestCreation { return acls(allow, r, r.on.Name[:1], prefixed) }, always},
	{"wildcard", func(r rule) []kmsg.CreateACLsRequestCreation { return acls(allow, r, "*", literal) }, always},
	{"super", func(rule) []kmsg.CreateACLsRequestCreation { return nil }, always},
}

func never(rule) bool  { return false }
func always(rule) bool { return true }

const (
	allow, deny       = kmsg.ACLPermissionTypeAllow, kmsg.ACLPermissionTypeDeny
	literal, prefixed = kmsg.ACLResourcePatternTypeLiteral, kmsg.ACLResourcePatternTypePrefixed
)

func acls(permission kmsg.ACLPermissionType, r rule, name string, pattern kmsg.ACLResourcePatternType) []kmsg.CreateACLsRequestCreation {
	c := kmsg.NewCreateACLsRequestCreation()
	if r.on.Type == broker.ClusterResource {
		name = broker.ClusterName // no other may stand in a rule
	}
	c.ResourceType, c.ResourceName, c.ResourcePatternType = kmsg.ACLResourceType(r.on.Type), name, pattern
	c.Operation, c.PermissionType, c.Host = kmsg.ACLOperation(r.op), permission, "*"
	return []kmsg.CreateACLsRequestCreation{c}
}

// guardedNode is a node with access control, whose first listener is for the test itself.
func guardedNode(t *testing.T, users []string) (admin *kgo.Client, login string) {
	t.Helper()
	super := []string{"User:ANONYMOUS"}
	for _, u := range users {
		if strings.HasSuffix(u, "-super") {
			super = append(super, "User:"+u)
		}
	}
	n := testcluster.Start(t, testcluster.Options{Args: []string{
		"--listeners", "OPEN://127.0.0.1:0,LOGIN://127.0.0.1:0?sasl=true", "--set", "authorizer=acl",
		"--set", "super.users=" + strings.Join(super, ";"), "--set", "sasl.enabled.mechanisms=PLAIN",
		"--set", "quorlog.sasl.plain.on.loopback=true",
	}})
	listeners, _ := n.Ready("listeners").(string)
	_, rest, _ := strings.Cut(listeners, "LOGIN=")
	login, _, _ = strings.Cut(rest, ",")
	admin, err := kgo.NewClient(kgo.SeedBrokers(n.Addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(admin.Close)
	for some := range slices.Chunk(users, 50) {
		var made []kadm.UpsertSCRAM
		for _, u := range some {
			made = append(made, kadm.UpsertSCRAM{User: u, Mechanism: kadm.ScramSha256, Iterations: 4096, Password: u})
		}
		told, err := kadm.NewClient(admin).AlterUserSCRAMs(t.Context(), nil, made)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range told {
			if u.Err != nil {
				t.Fatal(u.User, u.Err)
			}
		}
	}
	return admin, login
}

func dialAs(t *testing.T, addr string, u user) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithPerRPCCredentials(u))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return cc
}

func create(t *testing.T, ctx context.Context, admin *kgo.Client, rules []kmsg.CreateACLsRequestCreation) {
	t.Helper()
	req := kmsg.NewPtrCreateACLsRequest()
	req.Creations = rules
	resp, err := req.RequestWith(ctx, admin)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range resp.Results {
		if r.ErrorCode != 0 {
			t.Fatalf("%v: %d", rules[i], r.ErrorCode)
		}
	}
}

// TestRights: every method with every kind of right that its caller may have. Each pair has a user of its own, and what it is told is
// known: a code that anything might have would let what is broken pass for let in.
func TestRights(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	name := func(method, grade int) string { return fmt.Sprintf("m%d-%s", method, grades[grade].name) }
	var users []string
	var rules []kmsg.CreateACLsRequestCreation
	methods := guardedMethods()
	for i, m := range methods {
		for k, grade := range grades {
			users = append(users, name(i, k))
			var own []kmsg.CreateACLsRequestCreation
			if m.rule != (rule{}) {
				own = grade.rules(m.rule)
			}
			for _, also := range m.also {
				own = append(own, acls(allow, also, also.on.Name, literal)...)
			}
			for _, r := range own {
				r.Principal = "User:" + name(i, k)
				rules = append(rules, r)
			}
		}
	}
	admin, login := guardedNode(t, users)
	adm := kadm.NewClient(admin)
	if _, err := adm.CreateTopic(ctx, 1, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	if err := adm.CommitAllOffsets(ctx, "g", offsetsAt("t", 0)); err != nil {
		t.Fatal(err)
	}
	if err := admin.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: []byte("v")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	create(t, ctx, admin, rules)
	tried := map[string]bool{}
	for i, m := range methods {
		for k, grade := range grades {
			want := codes.PermissionDenied
			if m.rule == (rule{}) || grade.in(m.rule) {
				want = inVain[m.name]
			}
			if err := m.try(ctx, dialAs(t, login, user(name(i, k)))); status.Code(err) != want {
				t.Errorf("%s with %s: %v, want %v", m.name, grade.name, err, want)
			}
		}
		word, _, _ := strings.Cut(m.name, ",")
		word, _, _ = strings.Cut(word, " ")
		tried[word] = true
	}
	for _, service := range []grpc.ServiceDesc{
		quorlogv1.Records_ServiceDesc, quorlogv1.Topics_ServiceDesc, quorlogv1.Groups_ServiceDesc, quorlogv1.Cluster_ServiceDesc, healthv1.Health_ServiceDesc,
	} {
		for _, m := range service.Methods {
			if !tried[m.MethodName] {
				t.Errorf("%s is not tried", m.MethodName)
			}
		}
		for _, m := range service.Streams {
			if !tried[m.StreamName] {
				t.Errorf("%s is not tried", m.StreamName)
			}
		}
	}
}

// TestRightTakenAway: whoever may read no more gets no record more, on a stream that has begun too.
func TestRightTakenAway(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	admin, login := guardedNode(t, []string{"reader"})
	adm := kadm.NewClient(admin)
	if _, err := adm.CreateTopic(ctx, 1, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	may := acls(allow, rule{broker.Read, broker.Topic("t")}, "t", literal)
	may[0].Principal = "User:reader"
	create(t, ctx, admin, may)
	stream, err := quorlogv1.NewRecordsClient(dialAs(t, login, "reader")).ConsumeStream(ctx, &quorlogv1.ConsumeRequest{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	// Clients are told the addresses of the listener that they come in on.
	servers, err := quorlogv1.NewClusterClient(dialAs(t, login, "reader")).GetServers(ctx, &quorlogv1.GetServersRequest{ServersOnly: true})
	if err != nil || len(servers.GetServers()) != 1 || servers.GetServers()[0].GetAddress() != login {
		t.Errorf("%v, %v; want %s", servers, err, login)
	}
	write := func(value string) {
		t.Helper()
		if err := admin.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: []byte(value)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	write("for the reader")
	if got, err := stream.Recv(); err != nil || len(got.GetRecords()) != 1 {
		t.Fatal(got, err)
	}
	removed, err := adm.DeleteACLs(ctx, kadm.NewACLs().Allow("User:reader").AllowHosts("*").Operations(kadm.OpRead).Topics("t").ResourcePatternType(kadm.ACLPatternLiteral))
	if err != nil || len(removed) != 1 || len(removed[0].Deleted) != 1 {
		t.Fatal(removed, err)
	}
	write("secret")
	if got, err := stream.Recv(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("%v, %v", got, err)
	}
}
