package config

import (
	"slices"
	"strings"
)

func brokerRow(name string, t Type, def, bounds, doc string, check func(string) error, dynamic bool) Setting {
	return Setting{Name: name, Scope: Broker, Type: t, Default: def, Range: bounds, Doc: doc, check: check, Dynamic: dynamic}
}

func brokerRows() []Setting {
	return slices.Concat(topicDefaultRows(), cleanerRows(), clusterRows(), networkRows(), coordinatorRows(), aclRows(), identityRows(), acceptedBrokerRows())
}

// identityRows are what a node is started with, under Kafka's names. Load translates them into node settings and back, so
// that clients see them.
func identityRows() []Setting {
	return []Setting{
		brokerRow("node.id", Int, "1", "0 or more", "The id of this node; the same as --node-id.", integer(0, maxInt), false),
		brokerRow("broker.id", Int, "", "0 or more", "An older name of node.id.", optional(integer(0, maxInt)), false),
		brokerRow("broker.rack", String, "", "", "The rack or zone of this node; the same as --rack.", anything, false),
		brokerRow("log.dirs", String, "", "one directory", "The directory of this node's data; the same as --data-dir.", anything, false),
		brokerRow("log.dir", String, "", "one directory", "An older name of log.dirs.", anything, false),
		brokerRow("listeners", List, "", "NAME://host:port,...", "Where this node listens; the same as --listen and --listeners.", anything, false),
		brokerRow("advertised.listeners", List, "", "NAME://host:port,...", "What clients are told; the same as --advertise and advertise of --listeners.", anything, false),
		brokerRow("listener.security.protocol.map", List, "", "NAME:PROTOCOL,...", "Which listeners have TLS (SSL); the same as tls of --listeners.", anything, false),
		brokerRow("ssl.client.auth", String, "none", "none, requested, required", "Whether clients must show a certificate; the same as --tls-client-auth.", oneOf("none", "requested", "required"), false),
		brokerRow("ssl.principal.mapping.rules", String, "DEFAULT", "DEFAULT, or RULE:pattern/replacement/[LU],...", "Which principal a client's certificate stands for; DEFAULT is the whole distinguished name. Patterns are Go's (RE2).", anything, false),
	}
}

// acceptedBrokerRows stand in most files that were written for Kafka.
func acceptedBrokerRows() []Setting {
	threads := "Goroutines are started as they are needed."
	return []Setting{
		inert(brokerRow("num.network.threads", Int, "3", "1 or more", threads, integer(1, maxInt), false)),
		inert(brokerRow("num.io.threads", Int, "8", "1 or more", threads, integer(1, maxInt), false)),
		inert(brokerRow("background.threads", Int, "10", "1 or more", threads, integer(1, maxInt), false)),
		inert(brokerRow("num.replica.fetchers", Int, "1", "1 or more", "Followers do not fetch: leaders send.", integer(1, maxInt), false)),
		inert(brokerRow("num.recovery.threads.per.data.dir", Int, "2", "1 or more", threads, integer(1, maxInt), false)),
		inert(brokerRow("socket.send.buffer.bytes", Int, "102400", "-1 or more", "The operating system sizes the buffers.", integer(-1, maxInt), false)),
		inert(brokerRow("socket.receive.buffer.bytes", Int, "102400", "-1 or more", "The operating system sizes the buffers.", integer(-1, maxInt), false)),
		inert(brokerRow("queued.max.requests", Int, "500", "1 or more", "queued.max.request.bytes bounds what waits.", integer(1, maxInt), false)),
		inert(brokerRow("log.cleaner.io.buffer.size", Int, "524288", "0 or more", "Compaction reads and writes 1 MiB at a time.", integer(0, maxInt), false)),
		inert(brokerRow("log.cleaner.io.buffer.load.factor", Double, "0.9", "0 to 1", "Seven eighths of compaction's map of keys are used.", fraction, false)),
		inert(brokerRow("follower.replication.throttled.rate", Long, "9223372036854775807", "0 or more", "Followers do not fetch: leaders send, at most quorlog.catchup.max.bytes.per.second and leader.replication.throttled.rate.", integer(0, maxLong), true)),
		inert(brokerRow("replica.alter.log.dirs.io.max.bytes.per.second", Long, "9223372036854775807", "0 or more", "A node has one directory. What new replicas are sent is held back by quorlog.catchup.max.bytes.per.second.", integer(0, maxLong), true)),
		inert(brokerRow("controlled.shutdown.enable", Boolean, "true", "", "A node that is stopped always hands over first.", boolean, false)),
	}
}

func topicDefaultRows() []Setting {
	return []Setting{
		brokerRow("num.partitions", Int, "1", "1 or more", "Partitions of a topic that is created without a number.", integer(1, maxInt), true),
		brokerRow("default.replication.factor", Int, "-1", "-1, or 1 or more", "Replicas of a topic that is created without a number; -1 is the largest odd number up to 3 that the cluster has nodes for.", integer(-1, 32767), true),
		brokerRow("auto.create.topics.enable", Boolean, "true", "", "Whether a client's request may create the topic that it names, where the client asks for that.", boolean, true),
		brokerRow("delete.topic.enable", Boolean, "true", "", "Whether topics can be deleted.", boolean, true),
		brokerRow("log.retention.check.interval.ms", Long, "300000", "1 or more", "How often retention looks for segments to delete.", integer(1, maxLong), false),
		brokerRow("producer.id.expiration.ms", Int, "86400000", "1 or more", "How long the sequences of a producer that is silent are remembered.", integer(1, maxInt), false),
		brokerRow("log.checkpoint.bytes", Long, "67108864", "65536 or more", "Bytes of a partition between checkpoints: what a restart after a crash reads again. Quorlog's own.", integer(1<<16, maxLong), false),
	}
}

// cleanerRows are about compaction.
func cleanerRows() []Setting {
	return []Setting{
		brokerRow("log.cleaner.enable", Boolean, "true", "", "Whether topics with a cleanup.policy that contains compact are compacted.", boolean, true),
		brokerRow("log.cleaner.threads", Int, "1", "1 to 64", "Partitions that are compacted at the same time.", integer(1, 64), false),
		brokerRow("log.cleaner.dedupe.buffer.size", Long, "134217728", "1048576 or more", "Memory for the keys of the partitions that are being compacted, 24 bytes for each, of all threads together. What does not fit takes another pass.", integer(1<<20, maxLong), true),
		brokerRow("log.cleaner.io.max.bytes.per.second", Double, "1.7976931348623157E308", "1 or more", "How much all threads of compaction read and write.", positive, true),
		brokerRow("log.cleaner.backoff.ms", Long, "15000", "1 or more", "How long compaction rests when there is nothing to compact.", integer(1, maxLong), true),
	}
}

// clusterRows are about the nodes together.
func clusterRows() []Setting {
	selectors := []string{"org.apache.kafka.common.replica.RackAwareReplicaSelector", "org.apache.kafka.common.replica.LeaderSelector"}
	return []Setting{
		brokerRow("replica.lag.time.max.ms", Long, "30000", "1 or more", "A replica that has not reached its leader's log end for so long is not in sync.", integer(1, maxLong), false),
		brokerRow("replica.selector.class", Class, selectors[0], strings.Join(selectors, ", "), "Which replica a consumer reads from that names its rack: one in sync in the same rack, or always the leader. Kafka's default is the leader.", oneOf(selectors...), true),
		brokerRow("auto.leader.rebalance.enable", Boolean, "true", "", "Whether leaderships move back to the preferred replicas when these are in sync again.", boolean, true),
		brokerRow("leader.imbalance.check.interval.seconds", Long, "30", "1 or more", "How often that is looked at. Kafka's default is 300.", integer(1, maxLong), false),
		brokerRow("quorlog.election.timeout.ms", Int, "400", "200 to 60000", "How long a leader may be silent before its replicas elect another, and how long it leads on without a majority. The same on all nodes. More of it bears processors that are held up, and makes a failure last as long. Quorlog's own.", integer(200, 60_000), false),
		brokerRow("quorlog.catchup.max.bytes.per.second", Long, "52428800", "1 or more", "How much of older data a node sends to new replicas, of all partitions that it leads together; what is produced meanwhile does not count. Quorlog's own.", integer(1, maxLong), true),
		brokerRow("leader.replication.throttled.rate", Long, "9223372036854775807", "0 or more", "Kafka's tools set it for a reassignment (--throttle): bytes a second, as quorlog.catchup.max.bytes.per.second, of which the lesser counts, whichever replicas are listed for a topic. Less than 65536 counts as that.", integer(0, maxLong), true),
		brokerRow("quorlog.drain", String, "false", "false, true, until-restart", "Set for a single node: it gives all its leaderships away and gets no new replicas where others can take them, until this is false again. until-restart becomes false when the node starts again. Quorlog's own.", oneOf("false", "true", "until-restart"), true),
	}
}

func networkRows() []Setting {
	return []Setting{
		brokerRow("socket.request.max.bytes", Int, "104857600", "1024 to 104857600", "The largest request that is read.", integer(1024, 100<<20), false),
		brokerRow("connections.max.idle.ms", Long, "600000", "-1 or more", "A connection without requests is closed after this time; -1 never.", integer(-1, maxLong), false),
		brokerRow("max.connections", Int, "10000", "1 or more", "Connections of all clients together.", integer(1, maxInt), false),
		brokerRow("max.connections.per.ip", Int, "10000", "1 or more", "Connections of one address, those of Kafka, gRPC and HTTP each by themselves.", integer(1, maxInt), false),
		brokerRow("max.connection.creation.rate", Int, "5000", "1 or more", "New connections a second.", integer(1, maxInt), false),
		brokerRow("quorlog.http.hosts", List, "", "names; .example.com is all below it, * any", "Further names by which HTTP/JSON (/v1/) may be asked for on listeners without TLS and SASL, such as those of a load balancer. Any other name may be one that a stranger has led a browser here by. Known without this are addresses, names without a dot, those that clients are told of the nodes, the machine's own, and those below localhost, internal, home.arpa, svc and cluster.local. Quorlog's own.", hostNames, false),
		brokerRow("queued.max.request.bytes", Long, "268435456", "1048576 or more", "Memory of all requests that are being read or answered; beyond it connections wait.", integer(1<<20, maxLong), false),
		brokerRow("fetch.max.bytes", Int, "57671680", "1024 or more", "The most that one Fetch answers, but for a first batch that is larger.", integer(1024, maxInt), false),
		brokerRow("max.incremental.fetch.session.cache.slots", Int, "1000", "0 or more", "Incremental fetch sessions that are kept (KIP-227).", integer(0, maxInt), false),
	}
}

func coordinatorRows() []Setting {
	return []Setting{
		brokerRow("offsets.topic.num.partitions", Int, "16", "1 or more", "Partitions of __consumer_offsets, fixed when it is created: CreatePartitions refuses it. Each is a Raft group; Kafka's default is 50.", integer(1, maxInt), false),
		brokerRow("offsets.topic.replication.factor", Short, "-1", "-1, or 1 or more", "Replicas of __consumer_offsets; -1 as default.replication.factor.", integer(-1, 32767), false),
		brokerRow("offsets.topic.segment.bytes", Int, "104857600", "1048576 or more", "Segment size of __consumer_offsets, fixed when it is created.", integer(1<<20, maxInt), false),
		brokerRow("offsets.retention.minutes", Int, "10080", "1 or more", "How long the offsets of a group without members are kept.", integer(1, maxInt), false),
		brokerRow("offsets.retention.check.interval.ms", Long, "600000", "1 or more", "How often expired offsets are looked for.", integer(1, maxLong), false),
		brokerRow("offset.metadata.max.bytes", Int, "4096", "0 or more", "The largest text that goes with a committed offset.", integer(0, maxInt), false),
		brokerRow("group.initial.rebalance.delay.ms", Int, "0", "0 or more", "How long the first rebalance of an empty group waits for more members. Kafka's default is 3000.", integer(0, maxInt), false),
		brokerRow("group.min.session.timeout.ms", Int, "6000", "1 or more", "The shortest session time-out that a member may ask for.", integer(1, maxInt), false),
		brokerRow("group.max.session.timeout.ms", Int, "1800000", "1 or more", "The longest session time-out that a member may ask for.", integer(1, maxInt), false),
		brokerRow("group.max.size", Int, "10000", "1 or more", "Members of one group. More than 10000 counts as 10000, so that what a group costs is bounded; Kafka has no bound.", integer(1, maxInt), false),
		brokerRow("transaction.max.timeout.ms", Int, "900000", "1 or more", "The longest time-out of a transaction.", integer(1, maxInt), false),
		brokerRow("transactional.id.expiration.ms", Int, "604800000", "1 or more", "How long a transactional id is kept after its last use.", integer(1, maxInt), false),
		brokerRow("quorlog.transaction.max.ids", Int, "1000000", "1 or more", "Transactional ids that one node coordinates, about 900 bytes each; new ones beyond are refused until others expire. Quorlog's own.", integer(1, maxInt), false),
		brokerRow("transaction.state.log.num.partitions", Int, "16", "1 or more", "Partitions of __transaction_state, fixed when it is created: CreatePartitions refuses it. Each is a Raft group; Kafka's default is 50.", integer(1, maxInt), false),
		brokerRow("transaction.state.log.replication.factor", Short, "-1", "-1, or 1 or more", "Replicas of __transaction_state; -1 as default.replication.factor.", integer(-1, 32767), false),
		brokerRow("transaction.state.log.min.isr", Int, "1", "1 or more", "min.insync.replicas of __transaction_state. A record is committed by a majority in any case.", integer(1, maxInt), false),
		brokerRow("transaction.state.log.segment.bytes", Int, "104857600", "1048576 or more", "Segment size of __transaction_state.", integer(1<<20, maxInt), false),
	}
}
