package config

import "slices"

const shareResets = "latest, earliest, by_duration:PnDTnHnMn.nS"

// shareRows are the settings of share groups (KIP-932, KIP-1240), and of where their state is kept.
func shareRows() []Setting {
	locks := bounded{name: "share.record.lock.duration.ms", def: 30_000, least: 15_000, most: 60_000, dynamic: true,
		doc: "How long a member of a share group has for a record before somebody else gets it."}
	deliveries := bounded{name: "share.delivery.count.limit", def: 5, least: 2, most: 10, dynamic: true,
		doc: "How often a record is delivered to a share group before it is given up."}
	flight := bounded{name: "share.partition.max.record.locks", def: 2000, least: 100, most: 4000, dynamic: true,
		doc: "Records of a partition that a share group has begun with and not finished."}
	return slices.Concat(locks.rows(1000, 3_600_000), deliveries.rows(2, 25), flight.rows(100, 10_000), []Setting{
		groupRow("share.auto.offset.reset", String, "latest", shareResets, "Where a share group begins with a partition: at the end, at the start, or with the records of the last so long.", shareReset),
		groupRow("share.isolation.level", String, "read_uncommitted", "read_uncommitted, read_committed", "Whether a share group gets records of open and aborted transactions.", oneOf("read_uncommitted", "read_committed")),
		brokerRow("group.share.max.share.sessions", Int, "2000", "1 or more", "Members of share groups that fetch from one node.", integer(1, maxInt), false),
		brokerRow("share.coordinator.state.topic.num.partitions", Int, "16", "1 or more", "Partitions of __share_group_state, fixed when it is created: CreatePartitions refuses it. Each is a Raft group; Kafka's default is 50.", integer(1, maxInt), false),
		brokerRow("share.coordinator.state.topic.replication.factor", Short, "-1", "-1, or 1 or more", "Replicas of __share_group_state; -1 as default.replication.factor.", integer(-1, 32767), false),
		brokerRow("share.coordinator.state.topic.min.isr", Int, "1", "1 or more", "min.insync.replicas of __share_group_state. A record is committed by a majority in any case.", integer(1, maxInt), false),
		brokerRow("share.coordinator.state.topic.segment.bytes", Int, "104857600", "1048576 or more", "Segment size of __share_group_state.", integer(1<<20, maxInt), false),
	})
}

func groupRow(name string, t Type, def, bounds, doc string, check func(string) error, synonyms ...string) Setting {
	return Setting{Name: name, Scope: Group, Type: t, Default: def, Range: bounds, Doc: doc, check: check, Synonyms: synonyms, Dynamic: true}
}
