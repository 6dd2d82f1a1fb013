package broker

import "errors"

// Principal is who a caller has proven to be, as "type:name": "User:alice", or "User:CN=alice,O=example" of a certificate.
type Principal string

// Anonymous is the principal of a connection that has not authenticated.
const Anonymous Principal = "User:ANONYMOUS"

// Operation is what a caller wants to do, in Kafka's codes (org.apache.kafka.common.acl.AclOperation).
type Operation int8

// The operations. AnyOperation stands in filters only; AllOperations in rules only: no request asks for it.
const (
	AnyOperation    Operation = 1
	AllOperations   Operation = 2
	Read            Operation = 3
	Write           Operation = 4
	Create          Operation = 5
	Delete          Operation = 6
	Alter           Operation = 7
	Describe        Operation = 8
	ClusterAction   Operation = 9
	DescribeConfigs Operation = 10
	AlterConfigs    Operation = 11
	IdempotentWrite Operation = 12
	CreateTokens    Operation = 13
	DescribeTokens  Operation = 14
	TwoPhaseCommit  Operation = 15
)

// ResourceType is the kind of thing that a caller wants to do it to, in Kafka's codes
// (org.apache.kafka.common.resource.ResourceType).
type ResourceType int8

// The types of resources. AnyResource stands in filters only.
const (
	AnyResource             ResourceType = 1
	TopicResource           ResourceType = 2
	GroupResource           ResourceType = 3
	ClusterResource         ResourceType = 4
	TransactionalIDResource ResourceType = 5
	DelegationTokenResource ResourceType = 6
	UserResource            ResourceType = 7
)

// ClusterName is the name of the only resource of type ClusterResource.
const ClusterName = "kafka-cluster"

// Resource is one thing that requests act upon.
type Resource struct {
	Type ResourceType
	Name string
}

// Cluster is the cluster as a resource.
var Cluster = Resource{ClusterResource, ClusterName}

// Topic is a topic as a resource.
func Topic(name string) Resource { return Resource{TopicResource, name} }

// Group is a group of any kind as a resource.
func Group(id string) Resource { return Resource{GroupResource, id} }

// TransactionalID is a transactional id as a resource.
func TransactionalID(id string) Resource { return Resource{TransactionalIDResource, id} }

// Authorizer decides who may do what. Its methods may be called at any time from any goroutine, do not block, and deny what
// they cannot decide.
type Authorizer interface {
	// Allowed tells whether the caller may do op to the resource.
	Allowed(c Caller, op Operation, r Resource) bool
	// AllowedSome tells whether there may be a resource of the type to which the caller may do op (KIP-679). It says nothing
	// of any resource that exists.
	AllowedSome(c Caller, op Operation, t ResourceType) bool
}

// Everyone is the authorizer of a cluster without access control: everybody may do everything.
type Everyone struct{}

// Allowed says yes.
func (Everyone) Allowed(Caller, Operation, Resource) bool { return true }

// AllowedSome says yes.
func (Everyone) AllowedSome(Caller, Operation, ResourceType) bool { return true }

// operationsOf lists what can be done to the resources of each type.
var operationsOf = map[ResourceType][]Operation{
	TopicResource:           {Read, Write, Create, Delete, Alter, Describe, DescribeConfigs, AlterConfigs},
	GroupResource:           {Read, Delete, Describe, DescribeConfigs, AlterConfigs},
	ClusterResource:         {Create, Alter, Describe, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite},
	TransactionalIDResource: {Write, Describe, TwoPhaseCommit},
	DelegationTokenResource: {Describe},
	UserResource:            {CreateTokens, DescribeTokens},
}

// AuthorizedOperations is the set of operations that the caller may do to a resource, the bit 1<<op for each (KIP-430).
func AuthorizedOperations(a Authorizer, c Caller, r Resource) int32 {
	var set int32
	for _, op := range operationsOf[r.Type] {
		if a.Allowed(c, op, r) {
			set |= 1 << op
		}
	}
	return set
}

// Errors of what a caller may not do, one for each type of resource.
var (
	ErrTopicDenied           = errors.New("topic authorization failed")
	ErrGroupDenied           = errors.New("group authorization failed")
	ErrClusterDenied         = errors.New("cluster authorization failed")
	ErrTransactionalIDDenied = errors.New("transactional id authorization failed")
)
