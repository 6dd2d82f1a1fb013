package kadm

// difference is a call that we answer otherwise than kfake.
type difference struct {
	ours  string // what we answer; "": it is not compared
	until int16  // the API whose presence ends the difference; 0: none
	why   string
}

const (
	configsToo   = "we answer a new topic's settings, as Kafka does since 2.4; kfake only those that were asked for"
	wrongName    = "a topic's name holds letters, digits, dot, underscore and minus in Kafka; kfake takes any, and has it from here on"
	noDirectory  = "a node has one directory, so there is nothing to move; kfake takes the request and does nothing"
	notYetQuotas = "quotas are not there yet"
)

// differences are all of them.
var differences = map[string]difference{
	"CreateTopic":            {why: configsToo},
	"CreateTopics":           {why: configsToo + "; " + wrongName},
	"ValidateCreateTopics":   {why: configsToo + "; " + wrongName},
	"ListTopics":             {why: wrongName},
	"ListTopicsWithInternal": {why: wrongName},
	"DeleteRecords past the end": {ours: "[t=[0={Topic:t Partition:0 LowWatermark:-1 Err:OFFSET_OUT_OF_RANGE}]]",
		why: "Kafka's INVALID_LOW_WATERMARK beside an error is -1"},
	"ElectLeaders": {ours: "[t=[0={Topic:t Partition:0 How:0 Err:ELECTION_NOT_NEEDED} 1={Topic:t Partition:1 How:0 Err:ELECTION_NOT_NEEDED}]]",
		why: "the preferred replicas lead already, which Kafka says; kfake knows no preferred replica"},
	"AlterAllReplicaLogDirs":        {until: 34, why: noDirectory},
	"AlterBrokerReplicaLogDirs":     {until: 34, why: noDirectory},
	"AlterTopicConfigs of nonsense": {ours: "[{Name:t Err:INVALID_CONFIG}]", why: "kfake looks at no value"},
	"UpdateFeatures": {ours: "[no.such.feature={Feature:no.such.feature Err:INVALID_UPDATE_VERSION}]",
		why: "Kafka's answer for a feature that it does not know"},
	"FetchManyOffsets": {ours: "[g={Group:g Fetched:[t=[0={Offset:{Topic:t Partition:0 At:5 Metadata:note} Err:ok} 1={Offset:{Topic:t Partition:1 At:0 Metadata:note} Err:ok}]] Err:ok} " +
		"h={Group:h Fetched:[t=[0={Offset:{Topic:t Partition:0 At:7 Metadata:} Err:ok}]] Err:ok} none={Group:none Fetched:[] Err:ok}]",
		why: "of a group that is not there Kafka says that it has committed nothing; kfake GROUP_ID_NOT_FOUND"},
	"DescribeGroups":            {why: "authorized operations come with access control"},
	"DescribeConsumerGroups":    {why: "authorized operations come with access control"},
	"ListConfigResources":       {why: "kfake keeps settings of topics that can't be"},
	"DescribeProducers":         {why: "we show every producer with a sequence, as Kafka does; kfake those with a transaction"},
	"ValidateAlterClientQuotas": {until: 49, why: notYetQuotas},
	"AlterClientQuotas":         {until: 49, why: notYetQuotas},
	"DescribeClientQuotas":      {until: 48, why: notYetQuotas},
}
