package api

import (
	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/admin"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Guards of the keys of the cluster and of settings.

// configDenied is nil if the caller may do op to the settings of something. Kinds that nobody knows are the handler's to refuse.
func (g *gate) configDenied(op broker.Operation, kind kmsg.ConfigResourceType, name string) error {
	switch admin.ResourceKind(kind) {
	case admin.TopicResource:
		if g.topicDenied(op, name, none) {
			return broker.ErrTopicDenied
		}
		return nil
	case admin.GroupResource:
		return g.group(op, name)
	}
	return g.cluster(op)
}

func guardDescribeConfigs(g *gate, q *kmsg.DescribeConfigsRequest, next func() (*kmsg.DescribeConfigsResponse, error)) (*kmsg.DescribeConfigsResponse, error) {
	why := func(r *kmsg.DescribeConfigsRequestResource) error {
		return g.configDenied(broker.DescribeConfigs, r.ResourceType, r.ResourceName)
	}
	allowed, refused := split(q.Resources, func(r *kmsg.DescribeConfigsRequestResource) bool { return why(r) != nil })
	q.Resources = allowed
	resp, err := next()
	if err != nil {
		return nil, err
	}
	for i := range refused {
		r := kmsg.NewDescribeConfigsResponseResource()
		denied := deniedConfig(refused[i].ResourceType)
		r.ResourceType, r.ResourceName, r.ErrorCode, r.ErrorMessage = refused[i].ResourceType, refused[i].ResourceName, code(denied), message(denied)
		resp.Resources = append(resp.Resources, r)
	}
	return resp, nil
}

// deniedConfig is the error of settings that were denied.
func deniedConfig(kind kmsg.ConfigResourceType) error {
	switch admin.ResourceKind(kind) {
	case admin.TopicResource:
		return broker.ErrTopicDenied
	case admin.GroupResource:
		return broker.ErrGroupDenied
	}
	return broker.ErrClusterDenied
}

func guardAlterConfigs(g *gate, q *kmsg.AlterConfigsRequest, next func() (*kmsg.AlterConfigsResponse, error)) (*kmsg.AlterConfigsResponse, error) {
	allowed, refused := split(q.Resources, func(r *kmsg.AlterConfigsRequestResource) bool {
		return g.configDenied(broker.AlterConfigs, r.ResourceType, r.ResourceName) != nil
	})
	q.Resources = allowed
	resp, err := next()
	if err != nil {
		return nil, err
	}
	for i := range refused {
		r := kmsg.NewAlterConfigsResponseResource()
		denied := deniedConfig(refused[i].ResourceType)
		r.ResourceType, r.ResourceName, r.ErrorCode, r.ErrorMessage = refused[i].ResourceType, refused[i].ResourceName, code(denied), message(denied)
		resp.Resources = append(resp.Resources, r)
	}
	return resp, nil
}

func guardIncrementalAlterConfigs(g *gate, q *kmsg.IncrementalAlterConfigsRequest, next func() (*kmsg.IncrementalAlterConfigsResponse, error)) (*kmsg.IncrementalAlterConfigsResponse, error) {
	allowed, refused := split(q.Resources, func(r *kmsg.IncrementalAlterConfigsRequestResource) bool {
		return g.configDenied(broker.AlterConfigs, r.ResourceType, r.ResourceName) != nil
	})
	q.Resources = allowed
	resp, err := next()
	if err != nil {
		return nil, err
	}
	for i := range refused {
		r := kmsg.NewIncrementalAlterConfigsResponseResource()
		denied := deniedConfig(refused[i].ResourceType)
		r.ResourceType, r.ResourceName, r.ErrorCode, r.ErrorMessage = refused[i].ResourceType, refused[i].ResourceName, code(denied), message(denied)
		resp.Resources = append(resp.Resources, r)
	}
	return resp, nil
}

func guardListConfigResources(g *gate, _ *kmsg.ListConfigResourcesRequest, next func() (*kmsg.ListConfigResourcesResponse, error)) (*kmsg.ListConfigResourcesResponse, error) {
	if err := g.cluster(broker.DescribeConfigs); err != nil {
		resp := kmsg.NewPtrListConfigResourcesResponse()
		resp.ErrorCode = code(err)
		return resp, nil
	}
	return next()
}

func guardDescribeLogDirs(g *gate, _ *kmsg.DescribeLogDirsRequest, next func() (*kmsg.DescribeLogDirsResponse, error)) (*kmsg.DescribeLogDirsResponse, error) {
	if err := g.cluster(broker.Describe); err != nil {
		resp := kmsg.NewPtrDescribeLogDirsResponse()
		resp.ErrorCode = code(err)
		return resp, nil
	}
	return next()
}

func guardElectLeaders(g *gate, q *kmsg.ElectLeadersRequest, next func() (*kmsg.ElectLeadersResponse, error)) (*kmsg.ElectLeadersResponse, error) {
	err := g.cluster(broker.Alter)
	if err == nil {
		return next()
	}
	resp := kmsg.NewPtrElectLeadersResponse()
	resp.ErrorCode = code(err)
	for i := range q.Topics {
		t := kmsg.NewElectLeadersResponseTopic()
		t.Topic = q.Topics[i].Topic
		for _, index := range q.Topics[i].Partitions {
			p := kmsg.NewElectLeadersResponseTopicPartition()
			p.Partition, p.ErrorCode, p.ErrorMessage = index, code(err), message(err)
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}

func guardAlterPartitionReassignments(g *gate, _ *kmsg.AlterPartitionAssignmentsRequest, next func() (*kmsg.AlterPartitionAssignmentsResponse, error)) (*kmsg.AlterPartitionAssignmentsResponse, error) {
	if err := g.cluster(broker.Alter); err != nil {
		resp := kmsg.NewPtrAlterPartitionAssignmentsResponse()
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp, nil
	}
	return next()
}

func guardListPartitionReassignments(g *gate, _ *kmsg.ListPartitionReassignmentsRequest, next func() (*kmsg.ListPartitionReassignmentsResponse, error)) (*kmsg.ListPartitionReassignmentsResponse, error) {
	if err := g.cluster(broker.Describe); err != nil {
		resp := kmsg.NewPtrListPartitionReassignmentsResponse()
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp, nil
	}
	return next()
}

func guardDescribeQuorum(g *gate, _ *kmsg.DescribeQuorumRequest, next func() (*kmsg.DescribeQuorumResponse, error)) (*kmsg.DescribeQuorumResponse, error) {
	if err := g.cluster(broker.Describe); err != nil {
		resp := kmsg.NewPtrDescribeQuorumResponse()
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp, nil
	}
	return next()
}

func guardUpdateFeatures(g *gate, _ *kmsg.UpdateFeaturesRequest, next func() (*kmsg.UpdateFeaturesResponse, error)) (*kmsg.UpdateFeaturesResponse, error) {
	if err := g.cluster(broker.Alter); err != nil {
		resp := kmsg.NewPtrUpdateFeaturesResponse()
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp, nil
	}
	return next()
}

func guardUnregisterBroker(g *gate, _ *kmsg.UnregisterBrokerRequest, next func() (*kmsg.UnregisterBrokerResponse, error)) (*kmsg.UnregisterBrokerResponse, error) {
	if err := g.cluster(broker.Alter); err != nil {
		resp := kmsg.NewPtrUnregisterBrokerResponse()
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp, nil
	}
	return next()
}

// guardDescribeCluster: everybody may know the brokers, as from Metadata.
func guardDescribeCluster(g *gate, q *kmsg.DescribeClusterRequest, next func() (*kmsg.DescribeClusterResponse, error)) (*kmsg.DescribeClusterResponse, error) {
	resp, err := next()
	if err == nil && resp.ErrorCode == 0 {
		resp.ClusterAuthorizedOperations = g.clusterOperations(q.IncludeClusterAuthorizedOperations)
	}
	return resp, err
}

func guardDescribeUserScram(g *gate, _ *kmsg.DescribeUserSCRAMCredentialsRequest, next func() (*kmsg.DescribeUserSCRAMCredentialsResponse, error)) (*kmsg.DescribeUserSCRAMCredentialsResponse, error) {
	if err := g.cluster(broker.Describe); err != nil {
		resp := kmsg.NewPtrDescribeUserSCRAMCredentialsResponse()
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp, nil
	}
	return next()
}

func guardAlterUserScram(g *gate, q *kmsg.AlterUserSCRAMCredentialsRequest, next func() (*kmsg.AlterUserSCRAMCredentialsResponse, error)) (*kmsg.AlterUserSCRAMCredentialsResponse, error) {
	err := g.cluster(broker.Alter)
	if err == nil {
		return next()
	}
	resp, told := kmsg.NewPtrAlterUserSCRAMCredentialsResponse(), map[string]bool{}
	tell := func(user string) {
		if told[user] {
			return
		}
		told[user] = true
		r := kmsg.NewAlterUserSCRAMCredentialsResponseResult()
		r.User, r.ErrorCode, r.ErrorMessage = user, code(err), message(err)
		resp.Results = append(resp.Results, r)
	}
	for i := range q.Deletions {
		tell(q.Deletions[i].Name)
	}
	for i := range q.Upsertions {
		tell(q.Upsertions[i].Name)
	}
	return resp, nil
}

func guardDescribeACLs(g *gate, _ *kmsg.DescribeACLsRequest, next func() (*kmsg.DescribeACLsResponse, error)) (*kmsg.DescribeACLsResponse, error) {
	if err := g.cluster(broker.Describe); err != nil {
		resp := kmsg.NewPtrDescribeACLsResponse()
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp, nil
	}
	return next()
}

func guardCreateACLs(g *gate, q *kmsg.CreateACLsRequest, next func() (*kmsg.CreateACLsResponse, error)) (*kmsg.CreateACLsResponse, error) {
	err := g.cluster(broker.Alter)
	if err == nil {
		return next()
	}
	resp := kmsg.NewPtrCreateACLsResponse()
	for range q.Creations {
		r := kmsg.NewCreateACLsResponseResult()
		r.ErrorCode, r.ErrorMessage = code(err), message(err)
		resp.Results = append(resp.Results, r)
	}
	return resp, nil
}

func guardDeleteACLs(g *gate, q *kmsg.DeleteACLsRequest, next func() (*kmsg.DeleteACLsResponse, error)) (*kmsg.DeleteACLsResponse, error) {
	err := g.cluster(broker.Alter)
	if err == nil {
		return next()
	}
	resp := kmsg.NewPtrDeleteACLsResponse()
	for range q.Filters {
		r := kmsg.NewDeleteACLsResponseResult()
		r.ErrorCode, r.ErrorMessage = code(err), message(err)
		resp.Results = append(resp.Results, r)
	}
	return resp, nil
}
