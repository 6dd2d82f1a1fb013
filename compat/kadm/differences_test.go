package kadm

// difference is a call that we answer otherwise than kfake.
type difference struct {
	ours  string // what we answer; "": it is not compared, because until ends it
	until int16  // the API whose presence ends the difference; 0: none
	why   string
}

const (
	configsToo   = "we answer a new topic's settings, as Kafka does since 2.4; kfake only those that were asked for"
	wrongName    = "a topic's name holds letters, digits, dot, underscore and minus in Kafka; kfake takes any, and has it from here on"
	noDirectory  = "a node has one directory, so there is nothing to move; kfake takes the request and does nothing"
	notYetQuotas = "quotas are not there yet"
)

// What those parts of the answers are that come more than once.
const (
	otherConfigs = "max.message.bytes={Key:max.message.bytes Value:1048588 Sensitive:false Source:DEFAULT_CONFIG Synonyms:[]} " +
		"retention.ms={Key:retention.ms Value:604800000 Sensitive:false Source:DEFAULT_CONFIG Synonyms:[]}]"
	deleted   = "Configs:[cleanup.policy={Key:cleanup.policy Value:delete Sensitive:false Source:DEFAULT_CONFIG Synonyms:[]} " + otherConfigs
	compacted = "Configs:[cleanup.policy={Key:cleanup.policy Value:compact Sensitive:false Source:DYNAMIC_TOPIC_CONFIG Synonyms:[]} " + otherConfigs
	listed    = "[t={Topic:t IsInternal:false Partitions:[0={Topic:t Partition:0 Err:ok} 1={Topic:t Partition:1 Err:ok}] AuthorizedOperations:[] Err:ok} " +
		"u={Topic:u IsInternal:false Partitions:[0={Topic:u Partition:0 Err:ok} 1={Topic:u Partition:1 Err:ok} 2={Topic:u Partition:2 Err:ok}] AuthorizedOperations:[] Err:ok} " +
		"v={Topic:v IsInternal:false Partitions:[0={Topic:v Partition:0 Err:ok}] AuthorizedOperations:[] Err:ok}]"
)

// differences are all of them.
var differences = map[string]difference{
	"CreateTopic": {ours: "[t={Topic:t Err:ok NumPartitions:2 ReplicationFactor:3 " + deleted + "}]", why: configsToo},
	"CreateTopics": {ours: "[bad name={Topic:bad name Err:INVALID_TOPIC_EXCEPTION NumPartitions:-1 ReplicationFactor:-1 Configs:[]} " +
		"u={Topic:u Err:ok NumPartitions:1 ReplicationFactor:3 " + compacted + "} v={Topic:v Err:ok NumPartitions:1 ReplicationFactor:3 " + compacted + "}]",
		why: configsToo + "; " + wrongName},
	"ValidateCreateTopics": {ours: "[not there={Topic:not there Err:INVALID_TOPIC_EXCEPTION NumPartitions:-1 ReplicationFactor:-1 Configs:[]} " +
		"w={Topic:w Err:ok NumPartitions:1 ReplicationFactor:3 " + deleted + "}]",
		why: configsToo + "; " + wrongName},
	"ListTopics":             {ours: listed, why: wrongName},
	"ListTopicsWithInternal": {ours: listed, why: wrongName},
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
	"DescribeGroups": {ours: "[g={Group:g State:Empty ProtocolType: Protocol: Members:[] AuthorizedOperations:[ALTER_CONFIGS DELETE DESCRIBE DESCRIBE_CONFIGS READ] Err:ok} " +
		"none={Group:none State:Dead ProtocolType: Protocol: Members:[] AuthorizedOperations:[] Err:GROUP_ID_NOT_FOUND}]",
		why: "groups have settings since Kafka 4.0, with operations of their own; and Kafka tells none of a group that is not there"},
	"DescribeConsumerGroups": {ours: "[none={Group:none State: Epoch:0 AssignmentEpoch:0 AssignorName: Members:[] AuthorizedOperations:[] Err:GROUP_ID_NOT_FOUND}]",
		why: "Kafka tells no authorized operations of a group that is not there"},
	"ListConfigResources": {ours: "{Resources:[{Name:t Type:TOPIC} {Name:u Type:TOPIC} {Name:v Type:TOPIC}] Err:ok}", why: "kfake keeps settings of topics that can't be"},
	"DescribeProducers": {ours: "[{Topic:t Partition:0 ProducerEpoch:0 LastSequence:9 CurrentTxnStartOffset:-1}]",
		why: "we show every producer with a sequence, as Kafka does; kfake those with a transaction"},
	"ValidateAlterClientQuotas": {until: 49, why: notYetQuotas},
	"AlterClientQuotas":         {until: 49, why: notYetQuotas},
	"DescribeClientQuotas":      {until: 48, why: notYetQuotas},
}
