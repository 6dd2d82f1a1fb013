package kafkaproto

// schemaTable has a row for each request that the guard lets through; see schema for the language. Versions go up to the
// newest that kmsg decodes; which of them are served is for broker/api to say. Names are for error messages.
//
// The greatest counts are far above what honest clients send, and keep what a request may make handlers do finite:
// 100,000 for topics, partitions and groups, 10,000 for settings, 1,000 for what one member of a group says of itself.
var schemaTable = []schemaRow{
	{KeyProduce, 13, `transactionalID:string?/3+ acks:int16 timeout:int32 topics:[100000]{
		name:string/0-12 id:uuid/13+ partitions:[100000]{index:int32 records:bytes?}}`},
	{KeyFetch, 18, `@0:clusterID:string? replicaID:int32/0-14 @1:replicaState:{id:int32 epoch:int64}
		maxWait:int32 minBytes:int32 maxBytes:int32/3+ isolation:int8/4+ sessionID:int32/7+ sessionEpoch:int32/7+
		topics:[100000]{name:string/0-12 id:uuid/13+ partitions:[100000]{
			index:int32 currentEpoch:int32/9+ offset:int64 lastEpoch:int32/12+ logStart:int64/5+ maxBytes:int32
			@0:directory:uuid @1:highWatermark:int64}}
		forgotten:[100000]{name:string/7-12 id:uuid/13+ partitions:[100000]int32}/7+ rack:string/11+`},
	{KeyListOffsets, 11, `replicaID:int32 isolation:int8/2+ topics:[100000]{name:string partitions:[100000]{
		index:int32 currentEpoch:int32/4+ timestamp:int64 maxOffsets:int32/0}} timeout:int32/10+`},
	{KeyMetadata, 13, `topics:[100000]{id:uuid/10+ name:string?10+}?1+ autoCreate:bool/4+
		clusterOperations:bool/8-10 topicOperations:bool/8+`},
	{KeyOffsetCommit, 10, `group:string generation:int32/1+ member:string/1+ instance:string?/7+ retention:int64/2-4
		topics:[100000]{name:string/0-9 id:uuid/10+ partitions:[100000]{
			index:int32 offset:int64 timestamp:int64/1 epoch:int32/6+ metadata:string?}}`},
	{KeyOffsetFetch, 10, `group:string/0-7 topics:[100000]{name:string partitions:[100000]int32}?2+/0-7
		groups:[100000]{group:string member:string?/9+ epoch:int32/9+
			topics:[100000]{name:string/8-9 id:uuid/10+ partitions:[100000]int32}?}/8+ requireStable:bool/7+`},
	{KeyFindCoordinator, 6, `key:string/0-3 type:int8/1+ keys:[100000]string/4+`},
	{KeyJoinGroup, 9, `group:string sessionTimeout:int32 rebalanceTimeout:int32/1+ member:string instance:string?/5+
		protocolType:string protocols:[1000]{name:string metadata:bytes} reason:string?/8+`},
	{KeyHeartbeat, 4, `group:string generation:int32 member:string instance:string?/3+`},
	{KeyLeaveGroup, 5, `group:string member:string/0-2 members:[100000]{member:string instance:string? reason:string?/5+}/3+`},
	{KeySyncGroup, 5, `group:string generation:int32 member:string instance:string?/3+ protocolType:string?/5+
		protocol:string?/5+ assignments:[100000]{member:string assignment:bytes}`},
	{KeyDescribeGroups, 6, `groups:[100000]string operations:bool/3+`},
	{KeyListGroups, 5, `states:[1000]string/4+ types:[1000]string/5+`},
	{KeySASLHandshake, 1, `mechanism:string`},
	{KeyApiVersions, 5, `name:string/3+ version:string/3+ clusterID:string?/5+ nodeID:int32/5+`},
	{KeyCreateTopics, 7, `topics:[100000]{name:string partitions:int32 replicationFactor:int16
		assignments:[100000]{index:int32 replicas:[1000]int32} configs:[10000]{name:string value:string?}}
		timeout:int32 validateOnly:bool/1+`},
	{KeyDeleteTopics, 6, `names:[100000]string/0-5 topics:[100000]{name:string? id:uuid}/6+ timeout:int32`},
	{KeyDeleteRecords, 2, `topics:[100000]{name:string partitions:[100000]{index:int32 offset:int64}} timeout:int32`},
	{KeyInitProducerID, 5, `transactionalID:string? timeout:int32 producerID:int64/3+ producerEpoch:int16/3+`},
	{KeyOffsetForLeaderEpoch, 4, `replicaID:int32/3+ topics:[100000]{name:string partitions:[100000]{
		index:int32 currentEpoch:int32/2+ epoch:int32}}`},
	{KeyAddPartitionsToTxn, 5, `transactionalID:string/0-3 producerID:int64/0-3 producerEpoch:int16/0-3
		topics:[100000]{name:string partitions:[100000]int32}/0-3
		transactions:[100000]{transactionalID:string producerID:int64 producerEpoch:int16 verifyOnly:bool
			topics:[100000]{name:string partitions:[100000]int32}}/4+`},
	{KeyAddOffsetsToTxn, 4, `transactionalID:string producerID:int64 producerEpoch:int16 group:string`},
	{KeyEndTxn, 5, `transactionalID:string producerID:int64 producerEpoch:int16 commit:bool`},
	{KeyWriteTxnMarkers, 2, `markers:[100000]{producerID:int64 producerEpoch:int16 committed:bool
		topics:[100000]{name:string partitions:[100000]int32} coordinatorEpoch:int32 transactionVersion:int8/2+}`},
	{KeyTxnOffsetCommit, 6, `transactionalID:string group:string producerID:int64 producerEpoch:int16 generation:int32/3+
		member:string/3+ instance:string?/3+ topics:[100000]{name:string/0-5 id:uuid/6+ partitions:[100000]{
			index:int32 offset:int64 epoch:int32/2+ metadata:string?}}`},
	{KeyDescribeACLs, 3, `type:int8 name:string? pattern:int8/1+ principal:string? host:string? operation:int8 permission:int8`},
	{KeyCreateACLs, 3, `creations:[10000]{type:int8 name:string pattern:int8/1+ principal:string host:string operation:int8
		permission:int8}`},
	{KeyDeleteACLs, 3, `filters:[1000]{type:int8 name:string? pattern:int8/1+ principal:string? host:string? operation:int8
		permission:int8}`},
	{KeyDescribeConfigs, 4, `resources:[100000]{type:int8 name:string keys:[10000]string?} synonyms:bool/1+
		documentation:bool/3+`},
	{KeyAlterConfigs, 2, `resources:[100000]{type:int8 name:string configs:[10000]{name:string value:string?}}
		validateOnly:bool`},
	{KeyDescribeLogDirs, 5, `topics:[100000]{name:string partitions:[100000]int32}?`},
	{KeySASLAuthenticate, 2, `message:bytes`},
	{KeyCreatePartitions, 3, `topics:[100000]{name:string count:int32 assignments:[100000]{replicas:[1000]int32}?}
		timeout:int32 validateOnly:bool`},
	{KeyDeleteGroups, 3, `groups:[100000]string`},
	{KeyElectLeaders, 2, `type:int8/1+ topics:[100000]{name:string partitions:[100000]int32}? timeout:int32`},
	{KeyIncrementalAlterConfigs, 1, `resources:[100000]{type:int8 name:string
		configs:[10000]{name:string operation:int8 value:string?}} validateOnly:bool`},
	{KeyAlterPartitionReassignments, 1, `timeout:int32 changeFactor:bool/1+ topics:[100000]{name:string
		partitions:[100000]{index:int32 replicas:[1000]int32?}}?`},
	{KeyListPartitionReassignments, 0, `timeout:int32 topics:[100000]{name:string partitions:[100000]int32}?`},
	{KeyOffsetDelete, 0, `group:string topics:[100000]{name:string partitions:[100000]{index:int32}}`},
	{KeyDescribeUserScramCredentials, 0, `users:[10000]{name:string}?`},
	{KeyAlterUserScramCredentials, 0, `deletions:[1000]{name:string mechanism:int8}
		upsertions:[1000]{name:string mechanism:int8 iterations:int32 salt:bytes salted:bytes}`},
	{KeyDescribeQuorum, 2, `topics:[100000]{name:string partitions:[100000]{index:int32}}`},
	{KeyUpdateFeatures, 2, `timeout:int32 updates:[1000]{feature:string level:int16 allowDowngrade:bool/0 upgradeType:int8/1+}
		validateOnly:bool/1+`},
	{KeyDescribeCluster, 2, `operations:bool endpointType:int8/1+ fenced:bool/2+`},
	{KeyDescribeProducers, 0, `topics:[100000]{name:string partitions:[100000]int32}`},
	{KeyUnregisterBroker, 0, `node:int32`},
	{KeyDescribeTransactions, 0, `ids:[100000]string`},
	{KeyListTransactions, 2, `states:[1000]string producerIDs:[100000]int64 duration:int64/1+ pattern:string?/2+`},
	{KeyConsumerGroupHeartbeat, 1, `group:string member:string epoch:int32 instance:string? rack:string?
		rebalanceTimeout:int32 topics:[100000]string? pattern:string?/1+ assignor:string?
		owned:[100000]{id:uuid partitions:[100000]int32}?`},
	{KeyConsumerGroupDescribe, 1, `groups:[100000]string operations:bool`},
	{KeyListConfigResources, 1, `types:[1000]int8/1+`},
	{KeyShareGroupHeartbeat, 1, `group:string member:string epoch:int32 rack:string? topics:[100000]string?`},
	{KeyShareGroupDescribe, 1, `groups:[100000]string operations:bool`},
	{KeyShareFetch, 2, `group:string? member:string? epoch:int32 maxWait:int32 minBytes:int32 maxBytes:int32 maxRecords:int32/1+
		batchSize:int32/1+ acquireMode:int8/2+ renew:bool/2+ topics:[100000]{id:uuid partitions:[100000]{
			index:int32 maxBytes:int32/0 acks:[100000]{first:int64 last:int64 types:[1000000]int8}}}
		forgotten:[100000]{id:uuid partitions:[100000]int32}`},
	{KeyShareAcknowledge, 2, `group:string? member:string? epoch:int32 renew:bool/2+ topics:[100000]{id:uuid partitions:[100000]{
		index:int32 acks:[100000]{first:int64 last:int64 types:[1000000]int8}}}`},
	{KeyDescribeShareGroupOffsets, 1, `groups:[100000]{group:string topics:[100000]{name:string partitions:[100000]int32}?}`},
	{KeyAlterShareGroupOffsets, 0, `group:string topics:[100000]{name:string partitions:[100000]{index:int32 offset:int64}}`},
	{KeyDeleteShareGroupOffsets, 0, `group:string topics:[100000]{name:string}`},
	{KeyDescribeTopicPartitions, 0, `topics:[100000]{name:string} limit:int32 cursor:{topic:string partition:int32}?`},
}
