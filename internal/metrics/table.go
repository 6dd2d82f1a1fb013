package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

func row(kind Kind, name, help string, labels ...string) Metric {
	return Metric{Name: name, Kind: kind, Help: help, Labels: labels, desc: prometheus.NewDesc(name, help, labels, nil)}
}

// All lists the metrics in the order of the table.
func All() []*Metric {
	return slices.Concat(brokerMetrics, clusterMetrics, groupMetrics, connectionMetrics, nativeMetrics, securityMetrics, storageMetrics, raftMetrics, ownMetrics)
}

// Names that dashboards of Kafka's own figures ask for, as its JMX exporter writes them. They count what clients do on this
// node.
var (
	BytesIn        = row(Counter, "kafka_server_brokertopicmetrics_bytesin_total", "Bytes of batches that this node stored as leader.", "topic")
	MessagesIn     = row(Counter, "kafka_server_brokertopicmetrics_messagesin_total", "Records of batches that this node stored as leader.", "topic")
	BytesOut       = row(Counter, "kafka_server_brokertopicmetrics_bytesout_total", "Bytes of batches that consumers were sent.", "topic")
	Produces       = row(Counter, "kafka_server_brokertopicmetrics_totalproducerequests_total", "Batches that were to be stored.", "topic")
	FailedProduces = row(Counter, "kafka_server_brokertopicmetrics_failedproducerequests_total", "Batches that were refused or not stored, but for those that another node leads.", "topic")
	Fetches        = row(Counter, "kafka_server_brokertopicmetrics_totalfetchrequests_total", "Fetches, counted for each partition that they read.", "topic")
	FailedFetches  = row(Counter, "kafka_server_brokertopicmetrics_failedfetchrequests_total", "Fetches of a partition that were told an error, but for those that another node leads.", "topic")

	LeaderCount     = row(Gauge, "kafka_server_replicamanager_leadercount", "Partitions that this node leads.")
	PartitionCount  = row(Gauge, "kafka_server_replicamanager_partitioncount", "Partitions that this node has a replica of.")
	UnderReplicated = row(Gauge, "kafka_server_replicamanager_underreplicatedpartitions", "Partitions that this node leads and that lack replicas in sync.")
	UnderMinISRs    = row(Gauge, "kafka_server_replicamanager_underminisrpartitioncount", "Partitions that this node leads with fewer replicas in sync than min.insync.replicas.")
	AtMinISRs       = row(Gauge, "kafka_server_replicamanager_atminisrpartitioncount", "Partitions that this node leads with as many replicas in sync as min.insync.replicas.")
	ActiveControl   = row(Gauge, "kafka_controller_kafkacontroller_activecontrollercount", "1 on the node that leads the metadata, else 0.")
	OfflineParts    = row(Gauge, "kafka_controller_kafkacontroller_offlinepartitionscount", "Partitions that nobody is known to lead; told by the node that leads the metadata, 0 by others.")
	UncleanElection = row(Counter, "kafka_controller_controllerstats_uncleanleaderelections_total", "Always 0: Raft elects nobody who lacks committed records.")
	ConnectionCount = row(Gauge, "kafka_server_socket_server_metrics_connection_count", "Open connections of Kafka clients.", "listener")
	AtMinISR        = row(Gauge, "kafka_cluster_partition_atminisr", "1 if as many replicas are in sync as min.insync.replicas; told by the leader.", "topic", "partition")
	UnderMinISR     = row(Gauge, "kafka_cluster_partition_underminisr", "1 if fewer replicas are in sync than min.insync.replicas; told by the leader.", "topic", "partition")
	LogSize         = row(Gauge, "kafka_log_log_size", "Bytes of this node's replica.", "topic", "partition")
	DiskRead        = row(Counter, "kafka_server_kafkaserver_linux_disk_read_bytes", "Bytes that this process had read from disks (Linux).")
	DiskWritten     = row(Counter, "kafka_server_kafkaserver_linux_disk_write_bytes", "Bytes that this process had written to disks (Linux).")

	brokerMetrics = []*Metric{
		&BytesIn, &MessagesIn, &BytesOut, &Produces, &FailedProduces, &Fetches, &FailedFetches, &LeaderCount, &PartitionCount, &UnderReplicated,
		&UnderMinISRs, &AtMinISRs, &ActiveControl, &OfflineParts, &UncleanElection, &ConnectionCount, &AtMinISR, &UnderMinISR, &LogSize, &DiskRead, &DiskWritten,
	}
)

// Names of kafka_exporter. What is the cluster's is told by one node, so that sums over all nodes are right: of a partition by its
// leader, else by the node that leads the metadata.
var (
	Brokers         = row(Gauge, "kafka_brokers", "Registered nodes.")
	BrokerInfo      = row(Gauge, "kafka_broker_info", "1 for each registered node.", "id", "address")
	TopicPartitions = row(Gauge, "kafka_topic_partitions", "Partitions of the topic.", "topic")
	CurrentOffset   = row(Gauge, "kafka_topic_partition_current_offset", "The high watermark.", "topic", "partition")
	OldestOffset    = row(Gauge, "kafka_topic_partition_oldest_offset", "The log start offset.", "topic", "partition")
	PartLeader      = row(Gauge, "kafka_topic_partition_leader", "The id of the node that leads.", "topic", "partition")
	PartPreferred   = row(Gauge, "kafka_topic_partition_leader_is_preferred", "1 if the preferred replica leads.", "topic", "partition")
	PartReplicas    = row(Gauge, "kafka_topic_partition_replicas", "Replicas of the partition.", "topic", "partition")
	PartInSync      = row(Gauge, "kafka_topic_partition_in_sync_replica", "Replicas in sync.", "topic", "partition")
	PartUnder       = row(Gauge, "kafka_topic_partition_under_replicated_partition", "1 if replicas in sync are lacking.", "topic", "partition")

	clusterMetrics = []*Metric{
		&Brokers, &BrokerInfo, &TopicPartitions, &CurrentOffset, &OldestOffset, &PartLeader, &PartPreferred, &PartReplicas, &PartInSync, &PartUnder,
	}
)

// The groups', told by their coordinator.
var (
	GroupOffset    = row(Gauge, "kafka_consumergroup_current_offset", "The committed offset.", "consumergroup", "topic", "partition")
	GroupOffsetSum = row(Gauge, "kafka_consumergroup_current_offset_sum", "The sum of the topic's committed offsets.", "consumergroup", "topic")
	GroupLag       = row(Gauge, "kafka_consumergroup_lag", "The high watermark less the committed offset, as kafka-consumer-groups shows it.", "consumergroup", "topic", "partition")
	GroupLagSum    = row(Gauge, "kafka_consumergroup_lag_sum", "The sum of the topic's lags.", "consumergroup", "topic")
	GroupMembers   = row(Gauge, "kafka_consumergroup_members", "Members of the group.", "consumergroup")

	groupMetrics = []*Metric{&GroupOffset, &GroupOffsetSum, &GroupLag, &GroupLagSum, &GroupMembers}
)

// Of the connections of Kafka clients.
var (
	RequestTook   = row(Histogram, "quorlog_request_duration_seconds", "From the arrival of a request until its answer could be written, with the waiting for requests ahead of it and of long polls.", "key")
	NetworkIn     = row(Counter, "quorlog_network_received_bytes_total", "Bytes of requests.")
	NetworkOut    = row(Counter, "quorlog_network_sent_bytes_total", "Bytes of answers.")
	NetworkDirect = row(Counter, "quorlog_network_sendfile_bytes_total", "Those bytes of answers that went from file to socket without a copy.")
	Accepted      = row(Counter, "quorlog_connections_accepted_total", "Connections that were accepted.")
	Refused       = row(Counter, "quorlog_connections_refused_total", "Connections above a limit.")
	Invalid       = row(Counter, "quorlog_connections_invalid_total", "Connections closed because of what they sent.")
	TimedOut      = row(Counter, "quorlog_connections_timeout_total", "Connections closed because they were idle or slow.")
	Panics        = row(Counter, "quorlog_request_panics_total", "Connections closed by a panic while a request was decoded or begun: each is a bug.")

	RequestMemory      = row(Gauge, "quorlog_request_memory_bytes", "Memory of requests that are being read or answered, but for small ones.")
	RequestMemoryLimit = row(Gauge, "quorlog_request_memory_limit_bytes", "How much that may be: queued.max.request.bytes.")
	MemoryWaits        = row(Counter, "quorlog_request_memory_waits_total", "Requests that waited because that memory was used up.")

	connectionMetrics = []*Metric{
		&RequestTook, &NetworkIn, &NetworkOut, &NetworkDirect, &Accepted, &Refused, &Invalid, &TimedOut, &Panics, &RequestMemory, &RequestMemoryLimit,
		&MemoryWaits,
	}
)

// Of the calls of gRPC, those that HTTP/JSON becomes among them. Methods that nobody has called are left out.
var (
	CallTook = row(Histogram, "quorlog_grpc_duration_seconds", "Calls, from their beginning to their end; streams last for as long as their clients want.", "method")
	Calls    = row(Counter, "quorlog_grpc_calls_total", "Calls of methods that are served and that have ended, by the code of their status.", "method", "code")

	nativeMetrics = []*Metric{&CallTook, &Calls}
)

// Of who comes and what they may do.
var (
	Logins         = row(Counter, "quorlog_logins_total", "Logins by a password: accepted, refused, and, again on a connection that is logged in, renewed or not renewed.", "listener", "result")
	Denials        = row(Counter, "quorlog_denials_total", "How often access control said no, also where that only hides something from a list.", "resource")
	CertificateEnd = row(Gauge, "quorlog_tls_certificate_end_seconds", "When this node's certificate ends, in seconds since 1970.")

	securityMetrics = []*Metric{&Logins, &Denials, &CertificateEnd}
)

// Of the disk and the logs.
var (
	SyncTook        = row(Histogram, "quorlog_fsync_duration_seconds", "Calls that make data durable: fsync of logs, votes and directories.")
	WriteTook       = row(Histogram, "quorlog_write_duration_seconds", "Writes to files.")
	DiskFree        = row(Gauge, "quorlog_disk_free_bytes", "Free space of the data directory's disk.")
	DiskSize        = row(Gauge, "quorlog_disk_size_bytes", "Size of the data directory's disk.")
	DiskFull        = row(Gauge, "quorlog_disk_full", "1 if the disk is so full that no records are taken.")
	OfflineReplicas = row(Gauge, "quorlog_offline_replicas", "Replicas of this node that are offline because their files are damaged.")
	LogAppends      = row(Counter, "quorlog_log_appends_total", "Writes of logs, each with one fsync: group commits.")
	LogEntries      = row(Counter, "quorlog_log_entries_total", "Entries that they stored.")
	LogBytes        = row(Counter, "quorlog_log_bytes_total", "Bytes that they stored.")
	LogRefused      = row(Counter, "quorlog_log_refused_total", "Batches that no longer fitted when they came to be stored.")
	LogRolls        = row(Counter, "quorlog_log_segments_total", "Segments that were begun.")
	LogCheckpoints  = row(Counter, "quorlog_log_checkpoints_total", "Checkpoints.")
	TailHits        = row(Counter, "quorlog_log_tail_hits_total", "Entries that Raft read from memory.")
	TailMisses      = row(Counter, "quorlog_log_tail_misses_total", "Entries that Raft read from disk.")
	TailUsed        = row(Gauge, "quorlog_log_tail_bytes", "Memory that holds the newest entries of logs.")
	TailLimit       = row(Gauge, "quorlog_log_tail_limit_bytes", "How much that may be.")
	CompactPasses   = row(Counter, "quorlog_compaction_passes_total", "Passes of compaction over a partition.")
	CompactFailures = row(Counter, "quorlog_compaction_failures_total", "Passes that ended with an error.")
	CompactRead     = row(Counter, "quorlog_compaction_read_bytes_total", "Bytes that compaction read.")
	CompactWritten  = row(Counter, "quorlog_compaction_written_bytes_total", "Bytes that compaction wrote.")
	CompactRecords  = row(Counter, "quorlog_compaction_records_total", "Records that compaction looked at.")
	CompactKept     = row(Counter, "quorlog_compaction_kept_records_total", "Records that it kept.")

	storageMetrics = []*Metric{
		&SyncTook, &WriteTook, &DiskFree, &DiskSize, &DiskFull, &OfflineReplicas, &LogAppends, &LogEntries, &LogBytes, &LogRefused, &LogRolls,
		&LogCheckpoints, &TailHits, &TailMisses, &TailUsed, &TailLimit, &CompactPasses, &CompactFailures, &CompactRead, &CompactWritten, &CompactRecords, &CompactKept,
	}
)

// Of Raft: the partitions' groups together, and the metadata group.
var (
	RaftLeaderless = row(Gauge, "quorlog_raft_leaderless_groups", "Replicas of this node that know of no leader.")
	RaftElections  = row(Counter, "quorlog_raft_elections_won_total", "How often a replica of this node became leader.")
	RaftBacklog    = row(Gauge, "quorlog_raft_unapplied_entries", "Entries that are stored here and not yet known to be committed.")
	RaftLearners   = row(Gauge, "quorlog_raft_learners", "Replicas that catch up before they get a vote, of partitions that this node leads.")
	MetaApplied    = row(Gauge, "quorlog_metadata_applied_index", "Index of the last entry of the metadata that this node has applied.")
	MetaTerm       = row(Gauge, "quorlog_metadata_term", "Term of the metadata group.")
	MetaVoters     = row(Gauge, "quorlog_metadata_voters", "Votes in the metadata group.")
	MetaLeader     = row(Gauge, "quorlog_metadata_leader_known", "1 if this node knows who leads the metadata.")
	PeersConnected = row(Gauge, "quorlog_peers_connected", "Other nodes that this one is connected to.")

	raftMetrics = []*Metric{&RaftLeaderless, &RaftElections, &RaftBacklog, &RaftLearners, &MetaApplied, &MetaTerm, &MetaVoters, &MetaLeader, &PeersConnected}
)

// Of the node itself.
var (
	BuildInfo     = row(Gauge, "quorlog_build_info", "1, with the version of the program.", "version")
	Ready         = row(Gauge, "quorlog_ready", "1 if /readyz says so.")
	Draining      = row(Gauge, "quorlog_draining", "1 if the node gives its leaderships away.")
	DroppedSeries = row(Gauge, "quorlog_metrics_dropped_series", "Series that the last scrape left out: see quorlog.metrics.max.series.")
	BrokenScrapes = row(Counter, "quorlog_metrics_panics_total", "Scrapes that lack figures because gathering them panicked: each is a bug.")

	ownMetrics = []*Metric{&BuildInfo, &Ready, &Draining, &DroppedSeries, &BrokenScrapes}
)
