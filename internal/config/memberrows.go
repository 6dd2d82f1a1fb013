package config

// The settings of groups whose partitions the coordinator assigns (KIP-848, KIP-932).
func memberRows() []Setting {
	return []Setting{
		brokerRow("group.consumer.assignors", List, "uniform,range", "uniform, range", "How partitions may be assigned to the members of a consumer group; the first one unless the members ask for another.", eachOf("uniform", "range"), false),
		brokerRow("group.consumer.session.timeout.ms", Int, "45000", "1 or more", "How long a member of a consumer group may be silent.", integer(1, maxInt), false),
		brokerRow("group.consumer.heartbeat.interval.ms", Int, "5000", "1 or more", "How often the members of a consumer group are told to be heard of.", integer(1, maxInt), false),
		brokerRow("group.consumer.max.size", Int, "10000", "1 or more", "Members of one consumer group. More than 10000 counts as 10000; Kafka has no bound.", integer(1, maxInt), false),
		brokerRow("group.consumer.migration.policy", String, "bidirectional", "bidirectional, upgrade, downgrade, disabled", "Which groups with members may change their protocol: classic groups to the consumer protocol (upgrade), consumer groups back (downgrade).", oneOf("bidirectional", "upgrade", "downgrade", "disabled"), false),
		brokerRow("group.share.session.timeout.ms", Int, "45000", "1 or more", "How long a member of a share group may be silent.", integer(1, maxInt), false),
		brokerRow("group.share.heartbeat.interval.ms", Int, "5000", "1 or more", "How often the members of a share group are told to be heard of.", integer(1, maxInt), false),
		brokerRow("group.share.max.size", Int, "200", "1 to 1000", "Members of one share group.", integer(1, 1000), false),
	}
}
