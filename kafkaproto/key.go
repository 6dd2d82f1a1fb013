package kafkaproto

import "strconv"

// Key is the number of a request kind, called API key in the protocol.
type Key int16

// The keys, by Kafka's names.
const (
	KeyProduce                               Key = 0
	KeyFetch                                 Key = 1
	KeyListOffsets                           Key = 2
	KeyMetadata                              Key = 3
	KeyLeaderAndISR                          Key = 4
	KeyStopReplica                           Key = 5
	KeyUpdateMetadata                        Key = 6
	KeyControlledShutdown                    Key = 7
	KeyOffsetCommit                          Key = 8
	KeyOffsetFetch                           Key = 9
	KeyFindCoordinator                       Key = 10
	KeyJoinGroup                             Key = 11
	KeyHeartbeat                             Key = 12
	KeyLeaveGroup                            Key = 13
	KeySyncGroup                             Key = 14
	KeyDescribeGroups                        Key = 15
	KeyListGroups                            Key = 16
	KeySASLHandshake                         Key = 17
	KeyApiVersions                           Key = 18
	KeyCreateTopics                          Key = 19
	KeyDeleteTopics                          Key = 20
	KeyDeleteRecords                         Key = 21
	KeyInitProducerID                        Key = 22
	KeyOffsetForLeaderEpoch                  Key = 23
	KeyAddPartitionsToTxn                    Key = 24
	KeyAddOffsetsToTxn                       Key = 25
	KeyEndTxn                                Key = 26
	KeyWriteTxnMarkers                       Key = 27
	KeyTxnOffsetCommit                       Key = 28
	KeyDescribeACLs                          Key = 29
	KeyCreateACLs                            Key = 30
	KeyDeleteACLs                            Key = 31
	KeyDescribeConfigs                       Key = 32
	KeyAlterConfigs                          Key = 33
	KeyAlterReplicaLogDirs                   Key = 34
	KeyDescribeLogDirs                       Key = 35
	KeySASLAuthenticate                      Key = 36
	KeyCreatePartitions                      Key = 37
	KeyCreateDelegationToken                 Key = 38
	KeyRenewDelegationToken                  Key = 39
	KeyExpireDelegationToken                 Key = 40
	KeyDescribeDelegationToken               Key = 41
	KeyDeleteGroups                          Key = 42
	KeyElectLeaders                          Key = 43
	KeyIncrementalAlterConfigs               Key = 44
	KeyAlterPartitionReassignments           Key = 45
	KeyListPartitionReassignments            Key = 46
	KeyOffsetDelete                          Key = 47
	KeyDescribeClientQuotas                  Key = 48
	KeyAlterClientQuotas                     Key = 49
	KeyDescribeUserScramCredentials          Key = 50
	KeyAlterUserScramCredentials             Key = 51
	KeyVote                                  Key = 52
	KeyBeginQuorumEpoch                      Key = 53
	KeyEndQuorumEpoch                        Key = 54
	KeyDescribeQuorum                        Key = 55
	KeyAlterPartition                        Key = 56
	KeyUpdateFeatures                        Key = 57
	KeyEnvelope                              Key = 58
	KeyFetchSnapshot                         Key = 59
	KeyDescribeCluster                       Key = 60
	KeyDescribeProducers                     Key = 61
	KeyBrokerRegistration                    Key = 62
	KeyBrokerHeartbeat                       Key = 63
	KeyUnregisterBroker                      Key = 64
	KeyDescribeTransactions                  Key = 65
	KeyListTransactions                      Key = 66
	KeyAllocateProducerIDs                   Key = 67
	KeyConsumerGroupHeartbeat                Key = 68
	KeyConsumerGroupDescribe                 Key = 69
	KeyControllerRegistration                Key = 70
	KeyGetTelemetrySubscriptions             Key = 71
	KeyPushTelemetry                         Key = 72
	KeyAssignReplicasToDirs                  Key = 73
	KeyListConfigResources                   Key = 74
	KeyDescribeTopicPartitions               Key = 75
	KeyShareGroupHeartbeat                   Key = 76
	KeyShareGroupDescribe                    Key = 77
	KeyShareFetch                            Key = 78
	KeyShareAcknowledge                      Key = 79
	KeyAddRaftVoter                          Key = 80
	KeyRemoveRaftVoter                       Key = 81
	KeyUpdateRaftVoter                       Key = 82
	KeyInitializeShareGroupState             Key = 83
	KeyReadShareGroupState                   Key = 84
	KeyWriteShareGroupState                  Key = 85
	KeyDeleteShareGroupState                 Key = 86
	KeyReadShareGroupStateSummary            Key = 87
	KeyStreamsGroupHeartbeat                 Key = 88
	KeyStreamsGroupDescribe                  Key = 89
	KeyDescribeShareGroupOffsets             Key = 90
	KeyAlterShareGroupOffsets                Key = 91
	KeyDeleteShareGroupOffsets               Key = 92
	KeyStreamsGroupTopologyDescriptionUpdate Key = 93
	KeyUnregisterController                  Key = 94
)

// keyCount is one more than the greatest key.
const keyCount = int(KeyUnregisterController) + 1

var keyNames = [keyCount]string{
	KeyProduce:                               "Produce",
	KeyFetch:                                 "Fetch",
	KeyListOffsets:                           "ListOffsets",
	KeyMetadata:                              "Metadata",
	KeyLeaderAndISR:                          "LeaderAndIsr",
	KeyStopReplica:                           "StopReplica",
	KeyUpdateMetadata:                        "UpdateMetadata",
	KeyControlledShutdown:                    "ControlledShutdown",
	KeyOffsetCommit:                          "OffsetCommit",
	KeyOffsetFetch:                           "OffsetFetch",
	KeyFindCoordinator:                       "FindCoordinator",
	KeyJoinGroup:                             "JoinGroup",
	KeyHeartbeat:                             "Heartbeat",
	KeyLeaveGroup:                            "LeaveGroup",
	KeySyncGroup:                             "SyncGroup",
	KeyDescribeGroups:                        "DescribeGroups",
	KeyListGroups:                            "ListGroups",
	KeySASLHandshake:                         "SaslHandshake",
	KeyApiVersions:                           "ApiVersions",
	KeyCreateTopics:                          "CreateTopics",
	KeyDeleteTopics:                          "DeleteTopics",
	KeyDeleteRecords:                         "DeleteRecords",
	KeyInitProducerID:                        "InitProducerId",
	KeyOffsetForLeaderEpoch:                  "OffsetForLeaderEpoch",
	KeyAddPartitionsToTxn:                    "AddPartitionsToTxn",
	KeyAddOffsetsToTxn:                       "AddOffsetsToTxn",
	KeyEndTxn:                                "EndTxn",
	KeyWriteTxnMarkers:                       "WriteTxnMarkers",
	KeyTxnOffsetCommit:                       "TxnOffsetCommit",
	KeyDescribeACLs:                          "DescribeAcls",
	KeyCreateACLs:                            "CreateAcls",
	KeyDeleteACLs:                            "DeleteAcls",
	KeyDescribeConfigs:                       "DescribeConfigs",
	KeyAlterConfigs:                          "AlterConfigs",
	KeyAlterReplicaLogDirs:                   "AlterReplicaLogDirs",
	KeyDescribeLogDirs:                       "DescribeLogDirs",
	KeySASLAuthenticate:                      "SaslAuthenticate",
	KeyCreatePartitions:                      "CreatePartitions",
	KeyCreateDelegationToken:                 "CreateDelegationToken",
	KeyRenewDelegationToken:                  "RenewDelegationToken",
	KeyExpireDelegationToken:                 "ExpireDelegationToken",
	KeyDescribeDelegationToken:               "DescribeDelegationToken",
	KeyDeleteGroups:                          "DeleteGroups",
	KeyElectLeaders:                          "ElectLeaders",
	KeyIncrementalAlterConfigs:               "IncrementalAlterConfigs",
	KeyAlterPartitionReassignments:           "AlterPartitionReassignments",
	KeyListPartitionReassignments:            "ListPartitionReassignments",
	KeyOffsetDelete:                          "OffsetDelete",
	KeyDescribeClientQuotas:                  "DescribeClientQuotas",
	KeyAlterClientQuotas:                     "AlterClientQuotas",
	KeyDescribeUserScramCredentials:          "DescribeUserScramCredentials",
	KeyAlterUserScramCredentials:             "AlterUserScramCredentials",
	KeyVote:                                  "Vote",
	KeyBeginQuorumEpoch:                      "BeginQuorumEpoch",
	KeyEndQuorumEpoch:                        "EndQuorumEpoch",
	KeyDescribeQuorum:                        "DescribeQuorum",
	KeyAlterPartition:                        "AlterPartition",
	KeyUpdateFeatures:                        "UpdateFeatures",
	KeyEnvelope:                              "Envelope",
	KeyFetchSnapshot:                         "FetchSnapshot",
	KeyDescribeCluster:                       "DescribeCluster",
	KeyDescribeProducers:                     "DescribeProducers",
	KeyBrokerRegistration:                    "BrokerRegistration",
	KeyBrokerHeartbeat:                       "BrokerHeartbeat",
	KeyUnregisterBroker:                      "UnregisterBroker",
	KeyDescribeTransactions:                  "DescribeTransactions",
	KeyListTransactions:                      "ListTransactions",
	KeyAllocateProducerIDs:                   "AllocateProducerIds",
	KeyConsumerGroupHeartbeat:                "ConsumerGroupHeartbeat",
	KeyConsumerGroupDescribe:                 "ConsumerGroupDescribe",
	KeyControllerRegistration:                "ControllerRegistration",
	KeyGetTelemetrySubscriptions:             "GetTelemetrySubscriptions",
	KeyPushTelemetry:                         "PushTelemetry",
	KeyAssignReplicasToDirs:                  "AssignReplicasToDirs",
	KeyListConfigResources:                   "ListConfigResources",
	KeyDescribeTopicPartitions:               "DescribeTopicPartitions",
	KeyShareGroupHeartbeat:                   "ShareGroupHeartbeat",
	KeyShareGroupDescribe:                    "ShareGroupDescribe",
	KeyShareFetch:                            "ShareFetch",
	KeyShareAcknowledge:                      "ShareAcknowledge",
	KeyAddRaftVoter:                          "AddRaftVoter",
	KeyRemoveRaftVoter:                       "RemoveRaftVoter",
	KeyUpdateRaftVoter:                       "UpdateRaftVoter",
	KeyInitializeShareGroupState:             "InitializeShareGroupState",
	KeyReadShareGroupState:                   "ReadShareGroupState",
	KeyWriteShareGroupState:                  "WriteShareGroupState",
	KeyDeleteShareGroupState:                 "DeleteShareGroupState",
	KeyReadShareGroupStateSummary:            "ReadShareGroupStateSummary",
	KeyStreamsGroupHeartbeat:                 "StreamsGroupHeartbeat",
	KeyStreamsGroupDescribe:                  "StreamsGroupDescribe",
	KeyDescribeShareGroupOffsets:             "DescribeShareGroupOffsets",
	KeyAlterShareGroupOffsets:                "AlterShareGroupOffsets",
	KeyDeleteShareGroupOffsets:               "DeleteShareGroupOffsets",
	KeyStreamsGroupTopologyDescriptionUpdate: "StreamsGroupTopologyDescriptionUpdate",
	KeyUnregisterController:                  "UnregisterController",
}

// Known tells whether the protocol defines the key. That does not mean that this broker serves it.
func (k Key) Known() bool { return k >= 0 && int(k) < keyCount }

// String returns Kafka's name of the key, such as ApiVersions.
func (k Key) String() string {
	if !k.Known() {
		return "UnknownKey" + strconv.Itoa(int(k))
	}
	return keyNames[k]
}

// Range is a range of versions of a key, both ends included.
type Range struct{ Min, Max int16 }

// Contains tells whether a version lies in the range.
func (r Range) Contains(version int16) bool { return r.Min <= version && version <= r.Max }
