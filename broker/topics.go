package broker

import "strings"

// Topics that the cluster itself writes. Clients see them marked internal and may not write to them.
const (
	OffsetsTopic     = "__consumer_offsets"
	TransactionTopic = "__transaction_state"
	ShareStateTopic  = "__share_group_state"
)

// MetadataTopic is what Kafka's tools call the metadata group. It is no topic: there is nothing to fetch.
const MetadataTopic = "__cluster_metadata"

// IsInternalTopic tells the topics of the cluster from those of its users.
func IsInternalTopic(name string) bool {
	if !strings.HasPrefix(name, "__") {
		return false
	}
	return name == OffsetsTopic || name == TransactionTopic || name == ShareStateTopic
}
