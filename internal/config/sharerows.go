package config

// The settings of share groups (KIP-932, KIP-1240). The nodes' are the defaults of the groups'.

var shareResets = "latest, earliest, by_duration:PnDTnHnMn.nS"

func shareBrokerRows() []Setting {
	return []Setting{
		brokerRow("group.share.record.lock.duration.ms", Int, "30000", "1000 to 3600000", "How long a member of a share group has for a record before somebody else gets it.", integer(1000, 3600000), true),
		brokerRow("group.share.delivery.count.limit", Int, "5", "2 to 25", "How often a record is delivered to a share group before it is given up.", integer(2, 25), true),
		brokerRow("group.share.partition.max.record.locks", Int, "2000", "100 to 10000", "Records of a partition that a share group has begun with and not finished.", integer(100, 10000), true),
		brokerRow("group.share.max.share.sessions", Int, "2000", "1 or more", "Members of share groups that fetch from one node.", integer(1, maxInt), false),
		brokerRow("share.coordinator.state.topic.num.partitions", Int, "16", "1 or more", "Partitions of __share_group_state, fixed when it is created. Each is a Raft group; Kafka's default is 50.", integer(1, maxInt), false),
		brokerRow("share.coordinator.state.topic.replication.factor", Short, "-1", "-1, or 1 or more", "Replicas of __share_group_state; -1 as default.replication.factor.", integer(-1, 32767), false),
		brokerRow("share.coordinator.state.topic.min.isr", Int, "1", "1 or more", "min.insync.replicas of __share_group_state. A record is committed by a majority in any case.", integer(1, maxInt), false),
		brokerRow("share.coordinator.state.topic.segment.bytes", Int, "104857600", "1048576 or more", "Segment size of __share_group_state.", integer(1<<20, maxInt), false),
	}
}

func shareGroupRow(name string, t Type, def, bounds, doc string, check func(string) error, synonyms ...string) Setting {
	return Setting{Name: name, Scope: Group, Type: t, Default: def, Range: bounds, Doc: doc, check: check, Synonyms: synonyms, Dynamic: true}
}

func shareGroupRows() []Setting {
	return []Setting{
		shareGroupRow("share.auto.offset.reset", String, "latest", shareResets, "Where a share group begins with a partition: at the end, at the start, or with the records of the last so long.", shareReset),
		shareGroupRow("share.isolation.level", String, "read_uncommitted", "read_uncommitted, read_committed", "Whether a share group gets records of open and aborted transactions.", oneOf("read_uncommitted", "read_committed")),
		shareGroupRow("share.record.lock.duration.ms", Int, "30000", "1000 to 3600000", "How long a member of the share group has for a record before somebody else gets it.", integer(1000, 3600000), "group.share.record.lock.duration.ms"),
		shareGroupRow("share.delivery.count.limit", Int, "5", "2 to 25", "How often a record is delivered to the share group before it is given up.", integer(2, 25), "group.share.delivery.count.limit"),
		shareGroupRow("share.partition.max.record.locks", Int, "2000", "100 to 10000", "Records of a partition that the share group has begun with and not finished.", integer(100, 10000), "group.share.partition.max.record.locks"),
	}
}
