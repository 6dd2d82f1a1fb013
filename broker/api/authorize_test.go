package api

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/auth"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestEveryKeyHasAGuard: nobody adds a key without deciding who may use it, or moves one from its guard to a Start that does not
// ask.
func TestEveryKeyHasAGuard(t *testing.T) {
	for _, row := range Table() {
		if !row.guarded() || asking[row.Key] == (guards[row.Key] != nil) {
			t.Errorf("%s: guarded %v, asks by itself %v, has a guard %v", row.Key, row.guarded(), asking[row.Key], guards[row.Key] != nil)
		}
	}
	if moved := (&Row{Key: kafkaproto.KeyHeartbeat, Start: produceRow.Start}); moved.guarded() {
		t.Error("a key whose guard nothing runs is served")
	}
}

// need is a right that a request needs, and the code of the answer without it.
type need struct {
	op   broker.Operation
	on   broker.Resource
	code kafkaproto.Code
}

// guardRow is a request with all that it needs.
type guardRow struct {
	name  string
	body  kmsg.Request
	needs []need
}

var (
	needTopic = func(op broker.Operation) need {
		return need{op, broker.Topic("orders"), kafkaproto.TopicAuthorizationFailed}
	}
	needGroup = func(op broker.Operation) need {
		return need{op, broker.Group("g"), kafkaproto.GroupAuthorizationFailed}
	}
	needCluster = func(op broker.Operation) need { return need{op, broker.Cluster, kafkaproto.ClusterAuthorizationFailed} }
	needTxn     = func(op broker.Operation) need {
		return need{op, broker.TransactionalID("t"), kafkaproto.TransactionalIDAuthorizationFailed}
	}
)

// guardRows has a row for each key and each way to name what it is about. Keys that anybody may use are in anybodysKeys, those
// that leave out what is denied, and those whose services ask, have tests of their own.
func guardRows(id replication.TopicID) []guardRow {
	orders, txn, g, partitions := "orders", "t", "g", []int32{0}
	row := func(body kmsg.Request, version int16, needs ...need) guardRow {
		body.SetVersion(version)
		name := kafkaproto.Key(body.Key()).String() + " " + strconv.Itoa(int(version)) + " " + strconv.Itoa(int(needs[0].op))
		return guardRow{name, body, needs}
	}
	const describe, read, write, create, del, alter = broker.Describe, broker.Read, broker.Write, broker.Create, broker.Delete, broker.Alter
	commit := []kmsg.OffsetCommitRequestTopic{{Topic: orders, Partitions: []kmsg.OffsetCommitRequestTopicPartition{{}}}}
	commitByID := []kmsg.OffsetCommitRequestTopic{{TopicID: id, Partitions: []kmsg.OffsetCommitRequestTopicPartition{{}}}}
	txnCommit := []kmsg.TxnOffsetCommitRequestTopic{{Topic: orders, Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{}}}}
	epochs := []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: orders, Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{{}}}}
	return []guardRow{
		row(&kmsg.ListOffsetsRequest{Topics: []kmsg.ListOffsetsRequestTopic{{Topic: orders, Partitions: []kmsg.ListOffsetsRequestTopicPartition{{}}}}}, 7, needTopic(describe)),
		row(&kmsg.MetadataRequest{Topics: []kmsg.MetadataRequestTopic{{Topic: &orders}}}, 12, needTopic(describe)),
		row(&kmsg.MetadataRequest{Topics: []kmsg.MetadataRequestTopic{{Topic: &orders}}}, 0, needTopic(describe)),
		row(&kmsg.MetadataRequest{Topics: []kmsg.MetadataRequestTopic{{TopicID: id}}}, 13, needTopic(describe)),
		row(&kmsg.OffsetCommitRequest{Group: g, Topics: commit}, 8, needGroup(read), needTopic(read)),
		row(&kmsg.OffsetCommitRequest{Group: g, Topics: commitByID}, 10, needGroup(read), needTopic(read)),
		row(&kmsg.OffsetFetchRequest{Group: g, Topics: []kmsg.OffsetFetchRequestTopic{{Topic: orders, Partitions: partitions}}}, 7, needGroup(describe), needTopic(describe)),
		row(&kmsg.OffsetFetchRequest{Group: g, Topics: []kmsg.OffsetFetchRequestTopic{{Topic: orders, Partitions: partitions}}}, 1, needGroup(describe), needTopic(describe)),
		row(&kmsg.OffsetFetchRequest{Groups: []kmsg.OffsetFetchRequestGroup{{Group: g}}}, 8, needGroup(describe)),
		row(&kmsg.FindCoordinatorRequest{CoordinatorKey: g}, 3, needGroup(describe)),
		row(&kmsg.FindCoordinatorRequest{CoordinatorKeys: []string{g}}, 5, needGroup(describe)),
		row(&kmsg.FindCoordinatorRequest{CoordinatorKeys: []string{txn}, CoordinatorType: 1}, 5, needTxn(describe)),
		row(&kmsg.FindCoordinatorRequest{CoordinatorKeys: []string{"g:x:0"}, CoordinatorType: 2}, 6, needCluster(broker.ClusterAction)),
		row(&kmsg.JoinGroupRequest{Group: g}, 9, needGroup(read)),
		row(&kmsg.HeartbeatRequest{Group: g}, 4, needGroup(read)),
		row(&kmsg.LeaveGroupRequest{Group: g}, 5, needGroup(read)),
		row(&kmsg.SyncGroupRequest{Group: g}, 5, needGroup(read)),
		row(&kmsg.DescribeGroupsRequest{Groups: []string{g}}, 5, needGroup(describe)),
		row(&kmsg.CreateTopicsRequest{Topics: []kmsg.CreateTopicsRequestTopic{{Topic: orders}}}, 7, needTopic(create)),
		row(&kmsg.CreateTopicsRequest{Topics: []kmsg.CreateTopicsRequestTopic{{Topic: orders}}}, 7, need{create, broker.Cluster, kafkaproto.TopicAuthorizationFailed}),
		row(&kmsg.DeleteTopicsRequest{TopicNames: []string{orders}}, 5, needTopic(del)),
		row(&kmsg.DeleteTopicsRequest{TopicNames: []string{orders}}, 5, need{del, broker.Cluster, kafkaproto.TopicAuthorizationFailed}),
		row(&kmsg.DeleteTopicsRequest{Topics: []kmsg.DeleteTopicsRequestTopic{{TopicID: id}}}, 6, needTopic(del)),
		row(&kmsg.DeleteRecordsRequest{Topics: []kmsg.DeleteRecordsRequestTopic{{Topic: orders, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{}}}}}, 2, needTopic(del)),
		row(&kmsg.InitProducerIDRequest{TransactionalID: &txn}, 4, needTxn(write)),
		row(&kmsg.InitProducerIDRequest{}, 4, needCluster(broker.IdempotentWrite)),
		row(&kmsg.InitProducerIDRequest{}, 4, need{write, broker.Topic("orders"), kafkaproto.ClusterAuthorizationFailed}),
		row(&kmsg.OffsetForLeaderEpochRequest{Topics: epochs}, 4, needTopic(describe)),
		row(&kmsg.OffsetForLeaderEpochRequest{Topics: epochs}, 4, need{broker.ClusterAction, broker.Cluster, kafkaproto.TopicAuthorizationFailed}),
		row(&kmsg.AddPartitionsToTxnRequest{TransactionalID: txn, Topics: []kmsg.AddPartitionsToTxnRequestTopic{{Topic: orders, Partitions: partitions}}}, 3, needTxn(write), needTopic(write)),
		row(&kmsg.AddPartitionsToTxnRequest{Transactions: []kmsg.AddPartitionsToTxnRequestTransaction{{TransactionalID: txn}}}, 5, needCluster(broker.ClusterAction)),
		row(&kmsg.AddOffsetsToTxnRequest{TransactionalID: txn, Group: g}, 3, needTxn(write), needGroup(read)),
		row(&kmsg.EndTxnRequest{TransactionalID: txn}, 4, needTxn(write)),
		row(&kmsg.WriteTxnMarkersRequest{Markers: []kmsg.WriteTxnMarkersRequestMarker{{Topics: []kmsg.WriteTxnMarkersRequestMarkerTopic{{Topic: orders, Partitions: partitions}}}}}, 1, needCluster(alter)),
		row(&kmsg.WriteTxnMarkersRequest{Markers: []kmsg.WriteTxnMarkersRequestMarker{{Topics: []kmsg.WriteTxnMarkersRequestMarkerTopic{{Topic: orders, Partitions: partitions}}}}}, 1, needCluster(broker.ClusterAction)),
		row(&kmsg.TxnOffsetCommitRequest{TransactionalID: txn, Group: g, Topics: txnCommit}, 4, needTxn(write), needGroup(read), needTopic(read)),
		row(&kmsg.DescribeACLsRequest{}, 3, needCluster(describe)),
		row(&kmsg.CreateACLsRequest{Creations: []kmsg.CreateACLsRequestCreation{{}}}, 3, needCluster(alter)),
		row(&kmsg.DeleteACLsRequest{Filters: []kmsg.DeleteACLsRequestFilter{{}}}, 3, needCluster(alter)),
		row(&kmsg.DescribeConfigsRequest{Resources: []kmsg.DescribeConfigsRequestResource{{ResourceType: 2, ResourceName: orders}}}, 4, needTopic(broker.DescribeConfigs)),
		row(&kmsg.DescribeConfigsRequest{Resources: []kmsg.DescribeConfigsRequestResource{{ResourceType: 4, ResourceName: "1"}}}, 4, needCluster(broker.DescribeConfigs)),
		row(&kmsg.DescribeConfigsRequest{Resources: []kmsg.DescribeConfigsRequestResource{{ResourceType: 8, ResourceName: "1"}}}, 4, needCluster(broker.DescribeConfigs)),
		row(&kmsg.DescribeConfigsRequest{Resources: []kmsg.DescribeConfigsRequestResource{{ResourceType: 32, ResourceName: g}}}, 4, needGroup(broker.DescribeConfigs)),
		row(&kmsg.AlterConfigsRequest{Resources: []kmsg.AlterConfigsRequestResource{{ResourceType: 2, ResourceName: orders}}}, 2, needTopic(broker.AlterConfigs)),
		row(&kmsg.AlterConfigsRequest{Resources: []kmsg.AlterConfigsRequestResource{{ResourceType: 4}}}, 2, needCluster(broker.AlterConfigs)),
		row(&kmsg.IncrementalAlterConfigsRequest{Resources: []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: 2, ResourceName: orders}}}, 1, needTopic(broker.AlterConfigs)),
		row(&kmsg.IncrementalAlterConfigsRequest{Resources: []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: 8, ResourceName: "1"}}}, 1, needCluster(broker.AlterConfigs)),
		row(&kmsg.IncrementalAlterConfigsRequest{Resources: []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: 32, ResourceName: g}}}, 1, needGroup(broker.AlterConfigs)),
		row(&kmsg.DescribeLogDirsRequest{}, 4, needCluster(describe)),
		row(&kmsg.CreatePartitionsRequest{Topics: []kmsg.CreatePartitionsRequestTopic{{Topic: orders}}}, 3, needTopic(alter)),
		row(&kmsg.DeleteGroupsRequest{Groups: []string{g}}, 2, needGroup(del)),
		row(&kmsg.ElectLeadersRequest{Topics: []kmsg.ElectLeadersRequestTopic{{Topic: orders, Partitions: partitions}}}, 2, needCluster(alter)),
		row(&kmsg.AlterPartitionAssignmentsRequest{}, 1, needCluster(alter)),
		row(&kmsg.ListPartitionReassignmentsRequest{}, 0, needCluster(describe)),
		row(&kmsg.OffsetDeleteRequest{Group: g, Topics: []kmsg.OffsetDeleteRequestTopic{{Topic: orders, Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{}}}}}, 0, needGroup(del), needTopic(read)),
		row(&kmsg.DescribeUserSCRAMCredentialsRequest{}, 0, needCluster(describe)),
		row(&kmsg.AlterUserSCRAMCredentialsRequest{Deletions: []kmsg.AlterUserSCRAMCredentialsRequestDeletion{{Name: "alice"}}}, 0, needCluster(alter)),
		row(&kmsg.DescribeQuorumRequest{}, 2, needCluster(describe)),
		row(&kmsg.UpdateFeaturesRequest{}, 2, needCluster(alter)),
		row(&kmsg.DescribeProducersRequest{Topics: []kmsg.DescribeProducersRequestTopic{{Topic: orders, Partitions: partitions}}}, 0, needTopic(read)),
		row(&kmsg.UnregisterBrokerRequest{}, 0, needCluster(alter)),
		row(&kmsg.DescribeTransactionsRequest{TransactionalIDs: []string{txn}}, 0, needTxn(describe)),
		row(&kmsg.ConsumerGroupHeartbeatRequest{Group: g, SubscribedTopicNames: []string{orders}}, 1, needGroup(read), needTopic(describe)),
		row(&kmsg.ConsumerGroupDescribeRequest{Groups: []string{g}}, 1, needGroup(describe)),
		row(&kmsg.ListConfigResourcesRequest{}, 1, needCluster(broker.DescribeConfigs)),
		row(&kmsg.DescribeTopicPartitionsRequest{Topics: []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: orders}}}, 0, needTopic(describe)),
		row(&kmsg.ShareGroupHeartbeatRequest{GroupID: g, SubscribedTopicNames: []string{orders}}, 1, needGroup(read), needTopic(describe)),
		row(&kmsg.ShareGroupDescribeRequest{GroupIDs: []string{g}}, 1, needGroup(describe)),
		row(&kmsg.ShareAcknowledgeRequest{GroupID: &g, Topics: []kmsg.ShareAcknowledgeRequestTopic{{TopicID: id, Partitions: []kmsg.ShareAcknowledgeRequestTopicPartition{{}}}}}, 1, needGroup(read), needTopic(read)),
		row(&kmsg.DescribeShareGroupOffsetsRequest{Groups: []kmsg.DescribeShareGroupOffsetsRequestGroup{{GroupID: g}}}, 0, needGroup(describe)),
		row(&kmsg.AlterShareGroupOffsetsRequest{GroupID: g, Topics: []kmsg.AlterShareGroupOffsetsRequestTopic{{Topic: orders, Partitions: []kmsg.AlterShareGroupOffsetsRequestTopicPartition{{}}}}}, 0, needGroup(read), needTopic(read)),
		row(&kmsg.DeleteShareGroupOffsetsRequest{GroupID: g, Topics: []kmsg.DeleteShareGroupOffsetsRequestTopic{{Topic: orders}}}, 0, needGroup(del), needTopic(read)),
	}
}

// Keys without a row of guardRows, with the test that has them.
var guardedElsewhere = map[kafkaproto.Key]string{
	// TestProduceAsks, TestFetchAsks, TestShareFetchAsks and TestListsLeaveOut have more of these.
	kafkaproto.KeyProduce: "TestAskingKeysInEveryScenario", kafkaproto.KeyFetch: "TestAskingKeysInEveryScenario",
	kafkaproto.KeyShareFetch: "TestAskingKeysInEveryScenario", kafkaproto.KeyListGroups: "TestAskingKeysInEveryScenario",
	kafkaproto.KeyListTransactions: "TestAskingKeysInEveryScenario",
	kafkaproto.KeyDescribeCluster:  "TestAuthorizedOperations",
	kafkaproto.KeyApiVersions:      "for anybody", kafkaproto.KeySASLHandshake: "for anybody", kafkaproto.KeySASLAuthenticate: "for anybody",
}

// rules is an authorizer by rules of alice.
func rules(list ...controller.ACL) broker.Authorizer {
	set := &controller.ACLs{Rules: list}
	return auth.NewACLs(auth.ACLOptions{Rules: func() (*controller.ACLs, bool) { return set, true }, SuperUsers: []broker.Principal{"User:root"}})
}

func allow(op broker.Operation, r broker.Resource) controller.ACL {
	return controller.ACL{
		ResourceType: int8(r.Type), Name: r.Name, Pattern: controller.LiteralPattern, Principal: "User:alice", Host: "*",
		Operation: int8(op), Permission: controller.Allow,
	}
}

// scenario is what alice may do with the thing that a need is about.
type scenario struct {
	name    string
	rules   func(need) []controller.ACL
	allowed func(need) bool
}

var scenarios = []scenario{
	{"none", func(need) []controller.ACL { return nil }, func(need) bool { return false }},
	{"describe only", func(n need) []controller.ACL { return []controller.ACL{allow(broker.Describe, n.on)} }, func(n need) bool { return n.op == broker.Describe }},
	{"allow", func(n need) []controller.ACL { return []controller.ACL{allow(n.op, n.on)} }, func(need) bool { return true }},
	{"deny", func(n need) []controller.ACL {
		deny := allow(n.op, n.on)
		deny.Permission = controller.Deny
		return []controller.ACL{allow(n.op, n.on), deny}
	}, func(need) bool { return false }},
	{"prefixed", func(n need) []controller.ACL {
		a := allow(n.op, n.on)
		a.Name, a.Pattern = a.Name[:1], controller.PrefixedPattern
		return []controller.ACL{a}
	}, func(need) bool { return true }},
	{"wildcard", func(n need) []controller.ACL {
		a := allow(n.op, n.on)
		a.Name = "*"
		return []controller.ACL{a}
	}, func(need) bool { return true }},
	{"another name", func(n need) []controller.ACL {
		a := allow(n.op, n.on)
		a.Name += "x"
		return []controller.ACL{a}
	}, func(n need) bool {
		return n.code == kafkaproto.ClusterAuthorizationFailed && n.on.Type == broker.TopicResource
	}},
}

// TestEveryKeyAsks runs each guard for each right that it needs, in each scenario, while all its other needs are met.
func TestEveryKeyAsks(t *testing.T) {
	n := newNode(t)
	id := n.createTopic("orders", 1)
	seen := map[kafkaproto.Key]bool{}
	for _, r := range guardRows(id) {
		seen[kafkaproto.Key(r.body.Key())] = true
	}
	for _, row := range Table() {
		if elsewhere := guardedElsewhere[row.Key] != ""; elsewhere == seen[row.Key] {
			t.Errorf("%s has a row or an entry, not both: row %v", row.Key, seen[row.Key])
		}
	}
	for at := range guardRows(id) {
		for missing := range guardRows(id)[at].needs {
			for _, s := range scenarios {
				r := guardRows(id)[at] // guards change requests
				var list []controller.ACL
				for i, other := range r.needs {
					if i != missing {
						list = append(list, allow(other.op, other.on))
					}
				}
				about := r.needs[missing]
				n.api.Authorizer = rules(append(list, s.rules(about)...)...)
				name := r.name + ", " + strconv.Itoa(missing) + ", " + s.name
				checkGuard(t, n.api, name, r.body, "User:alice", s.allowed(about), about.code)
				if s.name == "none" {
					checkGuard(t, n.api, name+", super user", guardRows(id)[at].body, "User:root", true, 0)
				}
			}
		}
	}
}

// TestDenialsAtEveryVersion: each denial can be told in each version that is served.
func TestDenialsAtEveryVersion(t *testing.T) {
	n := newNode(t)
	id := n.createTopic("orders", 1)
	n.api.Authorizer = rules()
	for at, first := range guardRows(id) {
		row := n.api.row(kafkaproto.Key(first.body.Key()))
		for version := row.Min; version <= row.Max; version++ {
			body := guardRows(id)[at].body
			body.SetVersion(version)
			resp, err := guards[row.Key](&gate{n.api, broker.Caller{Principal: "User:alice"}}, body, func() (kmsg.Response, error) {
				return body.ResponseKind(), nil
			})
			if err != nil {
				t.Fatal(err)
			}
			resp.SetVersion(version)
			back := body.ResponseKind()
			back.SetVersion(version)
			if err := back.ReadFrom(resp.AppendTo(nil)); err != nil {
				t.Errorf("%s %d: %v", row.Key, version, err)
			}
		}
	}
}

// checkGuard runs one guard in front of a handler that finds nothing wrong.
func checkGuard(t *testing.T, a *API, name string, body kmsg.Request, who broker.Principal, allowed bool, want kafkaproto.Code) {
	t.Helper()
	asked, passed := len(reflectNames(body)), -1
	g := &gate{a, broker.Caller{Principal: who}}
	resp, err := guards[kafkaproto.Key(body.Key())](g, body, func() (kmsg.Response, error) {
		passed = len(reflectNames(body))
		return body.ResponseKind(), nil
	})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	resp.SetVersion(body.GetVersion())
	resp.AppendTo(nil) // what can't be encoded panics
	codes := errorCodesIn(reflect.ValueOf(resp))
	switch {
	case allowed && (passed != asked || len(codes) > 0):
		t.Errorf("%s: allowed, but %d of %d items got through, and the answer says %v", name, passed, asked, codes)
	case !allowed && passed == asked:
		t.Errorf("%s: denied, but all of it got through", name)
	case !allowed && !slices.Equal(codes, []int16{int16(want)}):
		t.Errorf("%s: the answer says %v, want %d", name, codes, want)
	}
}

// reflectNames are the items of a request's lists: what guards may take out.
func reflectNames(body kmsg.Request) (items []reflect.Value) {
	v := reflect.ValueOf(body).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Slice {
			for j := range f.Len() {
				items = append(items, f.Index(j))
			}
		}
	}
	return items
}

// errorCodesIn are the different error codes of a response, wherever they stand, without 0.
func errorCodesIn(v reflect.Value) (codes []int16) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			return errorCodesIn(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			codes = append(codes, errorCodesIn(v.Index(i))...)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Name == "ErrorCode" {
				codes = append(codes, int16(v.Field(i).Int()))
			} else if v.Type().Field(i).IsExported() {
				codes = append(codes, errorCodesIn(v.Field(i))...)
			}
		}
	}
	slices.Sort(codes)
	return slices.DeleteFunc(slices.Compact(codes), func(c int16) bool { return c == 0 })
}

// TestListsLeaveOut: lists of everything hold only what the caller may see, and say nothing of the rest.
func TestListsLeaveOut(t *testing.T) {
	n := newNode(t)
	n.createTopic("orders", 1)
	n.createTopic("bills", 1)
	g := &gate{n.api, broker.Caller{Principal: "User:alice"}}
	groups := func() []kmsg.ListGroupsResponseGroup {
		resp, err := guardListGroups(g, &kmsg.ListGroupsRequest{}, func() (*kmsg.ListGroupsResponse, error) {
			return &kmsg.ListGroupsResponse{Groups: []kmsg.ListGroupsResponseGroup{{Group: "g"}, {Group: "h"}}}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return resp.Groups
	}
	n.api.Authorizer = rules(allow(broker.Read, broker.Group("h")), allow(broker.Describe, broker.TransactionalID("t")), allow(broker.Write, broker.Topic("orders")))
	if got := groups(); len(got) != 1 || got[0].Group != "h" {
		t.Errorf("groups %v", got)
	}
	txns, err := guardListTransactions(g, &kmsg.ListTransactionsRequest{}, func() (*kmsg.ListTransactionsResponse, error) {
		return &kmsg.ListTransactionsResponse{TransactionStates: []kmsg.ListTransactionsResponseTransactionState{{TransactionalID: "s"}, {TransactionalID: "t"}}}, nil
	})
	if err != nil || len(txns.TransactionStates) != 1 || txns.TransactionStates[0].TransactionalID != "t" {
		t.Errorf("transactions %v, %v", txns, err)
	}
	c := n.as("alice")
	all := ask[*kmsg.MetadataResponse](c, &kmsg.MetadataRequest{}, 9)
	if len(all.Topics) != 1 || *all.Topics[0].Topic != "orders" {
		t.Errorf("topics %v", all.Topics)
	}
	pages := ask[*kmsg.DescribeTopicPartitionsResponse](c, &kmsg.DescribeTopicPartitionsRequest{ResponsePartitionLimit: 1}, 0)
	if len(pages.Topics) != 1 || *pages.Topics[0].Topic != "orders" || pages.NextCursor != nil {
		t.Errorf("topics %v, then %v", pages.Topics, pages.NextCursor)
	}
	n.api.Authorizer = rules(allow(broker.Describe, broker.Cluster))
	if got := groups(); len(got) != 2 {
		t.Errorf("who may describe the cluster sees groups %v", got)
	}
	if got := ask[*kmsg.DescribeTopicPartitionsResponse](c, &kmsg.DescribeTopicPartitionsRequest{}, 0); len(got.Topics) != 0 {
		t.Errorf("topics %v", got.Topics)
	}
}

// TestMetadataHidesTopics: the answer about a topic that is denied is the same whether it exists or not, and asking creates
// nothing without the right to.
func TestMetadataHidesTopics(t *testing.T) {
	n := newNode(t)
	n.createTopic("orders", 1)
	c := n.as("alice")
	ask := func(name string) kmsg.MetadataResponseTopic {
		q := kmsg.NewPtrMetadataRequest()
		q.AllowAutoTopicCreation = true
		q.Topics = []kmsg.MetadataRequestTopic{{Topic: &name}}
		resp := ask[*kmsg.MetadataResponse](c, q, 12)
		if len(resp.Topics) != 1 {
			t.Fatalf("%d topics", len(resp.Topics))
		}
		return resp.Topics[0]
	}
	n.api.Authorizer = rules(allow(broker.Describe, broker.Topic("new")))
	there, not := ask("orders"), ask("nothing")
	if not.Topic = there.Topic; !reflect.DeepEqual(there, not) {
		t.Errorf("an existing topic is answered by %+v, another by %+v", there, not)
	}
	if got := ask("new"); got.ErrorCode != topicDeniedCode || n.ctl.Image().Topics["new"] != nil {
		t.Errorf("%+v, created %v", got, n.ctl.Image().Topics["new"] != nil)
	}
	// Behind the guard, for which the topic was still there.
	name, q := "new", kmsg.NewPtrMetadataRequest()
	q.AllowAutoTopicCreation, q.Topics = true, []kmsg.MetadataRequestTopic{{Topic: &name}}
	if _, err := handleMetadata(t.Context(), n.api, &Request{Session: c.session}, q); err != nil || n.ctl.Image().Topics["new"] != nil {
		t.Errorf("%v, created %v", err, n.ctl.Image().Topics["new"] != nil)
	}
	n.api.Authorizer = rules(allow(broker.Describe, broker.Topic("new")), allow(broker.Create, broker.Topic("new")))
	if ask("new"); n.ctl.Image().Topics["new"] == nil {
		t.Error("not created")
	}
}

func TestAuthorizedOperations(t *testing.T) {
	n := newNode(t)
	n.createTopic("orders", 1)
	c := n.as("alice")
	q := &kmsg.MetadataRequest{IncludeTopicAuthorizedOperations: true, IncludeClusterAuthorizedOperations: true}
	n.api.Authorizer = rules(allow(broker.Write, broker.Topic("orders")))
	resp := ask[*kmsg.MetadataResponse](c, q, 10)
	if got, want := resp.Topics[0].AuthorizedOperations, int32(1<<broker.Write|1<<broker.Describe); got != want {
		t.Errorf("topic: %b, want %b", got, want)
	}
	if resp.AuthorizedOperations != 0 {
		t.Errorf("cluster: %b of who may not describe it", resp.AuthorizedOperations)
	}
	n.api.Authorizer = broker.Everyone{}
	cluster := ask[*kmsg.DescribeClusterResponse](c, &kmsg.DescribeClusterRequest{EndpointType: endpointBrokers, IncludeClusterAuthorizedOperations: true}, 2)
	want := int32(1<<broker.Create | 1<<broker.Alter | 1<<broker.Describe | 1<<broker.ClusterAction | 1<<broker.DescribeConfigs | 1<<broker.AlterConfigs | 1<<broker.IdempotentWrite)
	if cluster.ClusterAuthorizedOperations != want {
		t.Errorf("cluster: %b, want %b", cluster.ClusterAuthorizedOperations, want)
	}
	if got := ask[*kmsg.MetadataResponse](c, &kmsg.MetadataRequest{}, 10); got.AuthorizedOperations != notAsked || got.Topics[0].AuthorizedOperations != notAsked {
		t.Errorf("not asked: %d, %d", got.AuthorizedOperations, got.Topics[0].AuthorizedOperations)
	}
}

// TestAuthorizedOperationsOfEveryAnswer: each answer with such a field has what its asker may do with the very thing, if that was asked.
func TestAuthorizedOperationsOfEveryAnswer(t *testing.T) {
	n := newNode(t)
	id := n.createTopic("orders", 1)
	orders, g := "orders", "g"
	readG, writeOrders := allow(broker.Read, broker.Group(g)), allow(broker.Write, broker.Topic(orders))
	alterCluster := allow(broker.Alter, broker.Cluster)
	for name, tc := range map[string]struct {
		rules []controller.ACL
		body  kmsg.Request
		resp  kmsg.Response // of whatever is behind the guard
		want  int32
	}{
		"DescribeGroups": {
			[]controller.ACL{readG, writeOrders}, &kmsg.DescribeGroupsRequest{Groups: []string{g}, IncludeAuthorizedOperations: true},
			&kmsg.DescribeGroupsResponse{Groups: []kmsg.DescribeGroupsResponseGroup{{Group: g}}}, 1<<broker.Read | 1<<broker.Describe,
		},
		"DescribeGroups, not asked": {
			[]controller.ACL{readG}, &kmsg.DescribeGroupsRequest{Groups: []string{g}},
			&kmsg.DescribeGroupsResponse{Groups: []kmsg.DescribeGroupsResponseGroup{{Group: g}}}, notAsked,
		},
		"ConsumerGroupDescribe": {
			[]controller.ACL{readG}, &kmsg.ConsumerGroupDescribeRequest{Groups: []string{g}, IncludeAuthorizedOperations: true},
			&kmsg.ConsumerGroupDescribeResponse{Groups: []kmsg.ConsumerGroupDescribeResponseGroup{{Group: g}}}, 1<<broker.Read | 1<<broker.Describe,
		},
		"ConsumerGroupDescribe, not asked": {
			[]controller.ACL{readG}, &kmsg.ConsumerGroupDescribeRequest{Groups: []string{g}},
			&kmsg.ConsumerGroupDescribeResponse{Groups: []kmsg.ConsumerGroupDescribeResponseGroup{{Group: g}}}, notAsked,
		},
		"ShareGroupDescribe": {
			[]controller.ACL{readG, allow(broker.Delete, broker.Group(g))}, &kmsg.ShareGroupDescribeRequest{GroupIDs: []string{g}, IncludeAuthorizedOperations: true},
			&kmsg.ShareGroupDescribeResponse{Groups: []kmsg.ShareGroupDescribeResponseGroup{{GroupID: g}}}, 1<<broker.Read | 1<<broker.Describe | 1<<broker.Delete,
		},
		"ShareGroupDescribe, not asked": {
			[]controller.ACL{readG}, &kmsg.ShareGroupDescribeRequest{GroupIDs: []string{g}},
			&kmsg.ShareGroupDescribeResponse{Groups: []kmsg.ShareGroupDescribeResponseGroup{{GroupID: g}}}, notAsked,
		},
		"DescribeTopicPartitions": {
			[]controller.ACL{writeOrders, alterCluster}, &kmsg.DescribeTopicPartitionsRequest{Topics: []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: orders}}},
			&kmsg.DescribeTopicPartitionsResponse{Topics: []kmsg.DescribeTopicPartitionsResponseTopic{{Topic: &orders, TopicID: id}}}, 1<<broker.Write | 1<<broker.Describe,
		},
		"DescribeCluster": {
			[]controller.ACL{alterCluster, readG}, &kmsg.DescribeClusterRequest{IncludeClusterAuthorizedOperations: true},
			&kmsg.DescribeClusterResponse{}, 1<<broker.Alter | 1<<broker.Describe,
		},
		"DescribeCluster, by who may not describe it": {
			[]controller.ACL{allow(broker.Create, broker.Cluster)}, &kmsg.DescribeClusterRequest{IncludeClusterAuthorizedOperations: true},
			&kmsg.DescribeClusterResponse{}, 0,
		},
		"DescribeCluster, not asked": {[]controller.ACL{alterCluster}, &kmsg.DescribeClusterRequest{}, &kmsg.DescribeClusterResponse{}, notAsked},
	} {
		n.api.Authorizer = rules(tc.rules...)
		resp, err := guards[kafkaproto.Key(tc.body.Key())](&gate{n.api, broker.Caller{Principal: "User:alice"}}, tc.body, func() (kmsg.Response, error) {
			return tc.resp, nil
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := operationsIn(reflect.ValueOf(resp).Elem()); !slices.Equal(got, []int32{tc.want}) {
			t.Errorf("%s: %b, want %b", name, got, tc.want)
		}
	}
}

// operationsIn are the fields of authorized operations in an answer.
func operationsIn(v reflect.Value) (found []int32) {
	for i := range v.NumField() {
		switch f := v.Field(i); {
		case strings.HasSuffix(v.Type().Field(i).Name, "AuthorizedOperations"):
			found = append(found, int32(f.Int()))
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct:
			for j := range f.Len() {
				found = append(found, operationsIn(f.Index(j))...)
			}
		}
	}
	return found
}

// as is a client of somebody.
func (n *node) as(name string) *client {
	c := newClient(n.t, n.api)
	c.session.SetPrincipal(broker.Principal("User:" + name))
	return c
}

func TestProduceAsks(t *testing.T) {
	n := newNode(t)
	id := n.createTopic("orders", 1)
	c, transactional := n.as("alice"), "t"
	writes := func(name string, id replication.TopicID, version int16, txn *string) kafkaproto.Code {
		q := produceRequest(name, id, testBatch(t, "k", "v"))
		q.TransactionID = txn
		return kafkaproto.Code(errorCodeOf(ask[*kmsg.ProduceResponse](c, q, version)))
	}
	for name, tc := range map[string]struct {
		rules []controller.ACL
		want  kafkaproto.Code
	}{
		"none":          {nil, kafkaproto.TopicAuthorizationFailed},
		"describe only": {[]controller.ACL{allow(broker.Describe, broker.Topic("orders"))}, kafkaproto.TopicAuthorizationFailed},
		"allow":         {[]controller.ACL{allow(broker.Write, broker.Topic("orders"))}, kafkaproto.None},
	} {
		n.api.Authorizer = rules(tc.rules...)
		for _, version := range []int16{12, 13} {
			if got := writes("orders", id, version, nil); got != tc.want {
				t.Errorf("%s, version %d: %v", name, version, got)
			}
		}
		if got := writes("nothing", id, 12, nil); got != kafkaproto.TopicAuthorizationFailed {
			t.Errorf("%s: a topic that does not exist: %v", name, got)
		}
	}
	if got := writes("orders", id, 12, &transactional); got != kafkaproto.TransactionalIDAuthorizationFailed {
		t.Errorf("a transactional id: %v", got)
	}
	n.api.Authorizer = rules()
	for _, id := range []replication.TopicID{{1}, {}} {
		if got := writes("", id, 13, nil); got != kafkaproto.UnknownTopicID {
			t.Errorf("an unknown id: %v", got)
		}
	}
	if end := n.latest(n.as("root"), "orders", 0); end != 2 {
		t.Errorf("%d records were written, want 2", end)
	}
}

func TestFetchAsks(t *testing.T) {
	n := newNode(t)
	id := n.createTopic("orders", 1)
	n.fill(n.as("root"), "orders", id, 1)
	c := n.as("alice")
	read := func(version int16, session, epoch int32) (*kmsg.FetchResponse, kafkaproto.Code) {
		q := fetchOf("orders", id, 0, 0)
		if q.SessionID, q.SessionEpoch = session, epoch; session != 0 {
			q.Topics = nil
		}
		resp := ask[*kmsg.FetchResponse](c, q, version)
		if len(resp.Topics) == 0 {
			return resp, kafkaproto.None
		}
		return resp, kafkaproto.Code(resp.Topics[0].Partitions[0].ErrorCode)
	}
	may := rules(allow(broker.Read, broker.Topic("orders")))
	for _, version := range []int16{12, 13} {
		n.api.Authorizer = rules(allow(broker.Describe, broker.Topic("orders")))
		if resp, got := read(version, 0, -1); got != kafkaproto.TopicAuthorizationFailed || len(resp.Topics[0].Partitions[0].RecordBatches) > 0 {
			t.Errorf("version %d, describe only: %v", version, got)
		}
		n.api.Authorizer = may
		first, got := read(version, 0, 0)
		if got != kafkaproto.None || len(first.Topics[0].Partitions[0].RecordBatches) == 0 {
			t.Errorf("version %d, allowed: %v", version, got)
		}
		// The right is taken away while the session lives: it names no partition any more.
		n.api.Authorizer = rules()
		if resp, got := read(version, first.SessionID, 1); got != kafkaproto.TopicAuthorizationFailed || len(resp.Topics[0].Partitions[0].RecordBatches) > 0 {
			t.Errorf("version %d, revoked: %v", version, got)
		}
	}
}

// TestRulesOverTheWire makes, shows and takes away rules as clients do.
func TestRulesOverTheWire(t *testing.T) {
	n := newNode(t)
	c := n.as("root")
	create := &kmsg.CreateACLsRequest{Creations: []kmsg.CreateACLsRequestCreation{
		{ResourceType: 2, ResourceName: "orders", ResourcePatternType: 3, Principal: "User:alice", Host: "*", Operation: 3, PermissionType: 3},
		{ResourceType: 2, ResourceName: "or", ResourcePatternType: 4, Principal: "User:bob", Host: "10.0.0.1", Operation: 4, PermissionType: 2},
		{ResourceType: 2, ResourceName: "*", ResourcePatternType: 3, Principal: "User:bob", Host: "*", Operation: 8, PermissionType: 3},
		{ResourceType: 2, ResourceName: "bad", ResourcePatternType: 2, Principal: "User:bob", Host: "*", Operation: 4, PermissionType: 2},
	}}
	if got := ask[*kmsg.CreateACLsResponse](c, create, 3); kafkaproto.Code(got.Results[0].ErrorCode) != kafkaproto.SecurityDisabled {
		t.Errorf("without an authorizer: %+v", got.Results)
	}
	n.api.Rules = n.ctl
	n.api.Authorizer = auth.NewACLs(auth.ACLOptions{SuperUsers: []broker.Principal{"User:root"}, Rules: func() (*controller.ACLs, bool) { return n.ctl.Image().ACLs, true }})
	for i, r := range ask[*kmsg.CreateACLsResponse](c, create, 3).Results {
		if want := []kafkaproto.Code{0, 0, 0, kafkaproto.InvalidRequest}[i]; kafkaproto.Code(r.ErrorCode) != want {
			t.Errorf("rule %d: %v", i, kafkaproto.Code(r.ErrorCode))
		}
	}
	if !n.api.Authorizer.Allowed(broker.Caller{Principal: "User:alice"}, broker.Read, broker.Topic("orders")) {
		t.Error("the rule does not hold")
	}
	text := func(s string) *string { return &s }
	for name, tc := range map[string]struct {
		filter kmsg.DescribeACLsRequest
		want   int
	}{
		"all":               {kmsg.DescribeACLsRequest{ResourceType: 1, ResourcePatternType: 1, Operation: 1, PermissionType: 1}, 3},
		"what is about it":  {kmsg.DescribeACLsRequest{ResourceType: 2, ResourceName: text("orders"), ResourcePatternType: 2, Operation: 1, PermissionType: 1}, 3},
		"of this name":      {kmsg.DescribeACLsRequest{ResourceType: 2, ResourceName: text("orders"), ResourcePatternType: 1, Operation: 1, PermissionType: 1}, 1},
		"prefixes":          {kmsg.DescribeACLsRequest{ResourceType: 1, ResourcePatternType: 4, Operation: 1, PermissionType: 1}, 1},
		"of somebody":       {kmsg.DescribeACLsRequest{ResourceType: 1, ResourcePatternType: 1, Principal: text("User:bob"), Operation: 1, PermissionType: 1}, 2},
		"from there":        {kmsg.DescribeACLsRequest{ResourceType: 1, ResourcePatternType: 1, Host: text("10.0.0.1"), Operation: 1, PermissionType: 1}, 1},
		"denials":           {kmsg.DescribeACLsRequest{ResourceType: 1, ResourcePatternType: 1, Operation: 1, PermissionType: 2}, 1},
		"another operation": {kmsg.DescribeACLsRequest{ResourceType: 1, ResourcePatternType: 1, Operation: 5, PermissionType: 1}, 0},
		"another type":      {kmsg.DescribeACLsRequest{ResourceType: 3, ResourcePatternType: 1, Operation: 1, PermissionType: 1}, 0},
		"unknown":           {kmsg.DescribeACLsRequest{ResourceType: 1, ResourcePatternType: 1, PermissionType: 1}, -1},
	} {
		got := ask[*kmsg.DescribeACLsResponse](c, &tc.filter, 3)
		count := 0
		for _, r := range got.Resources {
			count += len(r.ACLs)
		}
		if got.ErrorCode != 0 {
			count = -1
		}
		if count != tc.want {
			t.Errorf("%s: %d rules, want %d", name, count, tc.want)
		}
	}
	gone := ask[*kmsg.DeleteACLsResponse](c, &kmsg.DeleteACLsRequest{Filters: []kmsg.DeleteACLsRequestFilter{
		{ResourceType: 2, ResourceName: text("orders"), ResourcePatternType: 3, Operation: 1, PermissionType: 1},
		{ResourceType: 1, ResourcePatternType: 1, Principal: text("User:alice"), Operation: 1, PermissionType: 1},
		{ResourceType: 1, Operation: 1, PermissionType: 1},
	}}, 3).Results
	if len(gone[0].MatchingACLs) != 1 || len(gone[1].MatchingACLs) != 1 || kafkaproto.Code(gone[2].ErrorCode) != kafkaproto.InvalidRequest {
		t.Errorf("%+v", gone)
	}
	if n.api.Authorizer.Allowed(broker.Caller{Principal: "User:alice"}, broker.Read, broker.Topic("orders")) || len(n.ctl.Image().ACLs.Rules) != 2 {
		t.Errorf("left %v", n.ctl.Image().ACLs)
	}
}
