package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The settings of groups whose partitions the coordinator assigns (KIP-848, KIP-932).
func memberRows() []Setting {
	rows := []Setting{
		brokerRow("group.consumer.assignors", List, "uniform,range", "uniform, range", "How partitions may be assigned to the members of a consumer group; the first one unless the members ask for another.", eachOf("uniform", "range"), false),
		brokerRow("group.consumer.max.size", Int, "10000", "1 or more", "Members of one consumer group. More than 10000 counts as 10000; Kafka has no bound.", integer(1, maxInt), false),
		brokerRow("group.consumer.migration.policy", String, "bidirectional", "bidirectional, upgrade, downgrade, disabled", "Which groups with members may change their protocol: classic groups to the consumer protocol (upgrade), consumer groups back (downgrade).", oneOf("bidirectional", "upgrade", "downgrade", "disabled"), false),
		brokerRow("group.share.max.size", Int, "200", "1 to 1000", "Members of one share group.", integer(1, 1000), false),
	}
	for _, kind := range memberKinds {
		session := bounded{name: kind + sessionTimeout, def: 45_000, least: 45_000, most: 60_000, doc: "How long a member of a " + kind + " group may be silent."}
		heartbeat := bounded{name: kind + heartbeatInterval, def: 5000, least: 5000, most: 15_000, doc: "How often the members of a " + kind + " group are told to be heard of."}
		rows = append(rows, slices.Concat(session.rows(1, maxInt), heartbeat.rows(1, maxInt))...)
	}
	return rows
}

// memberKinds are the groups whose members are told how often to be heard of. Kafka has a third kind, streams.
var memberKinds = []string{"consumer", "share"}

const (
	sessionTimeout    = ".session.timeout.ms"
	heartbeatInterval = ".heartbeat.interval.ms"
)

// bounded is a number that a group may set for itself, within bounds that the nodes set. The nodes' settings are named after the
// group's: of share.x they are group.share.x, group.share.min.x and group.share.max.x.
type bounded struct {
	name             string
	def, least, most int64
	doc              string
	dynamic          bool // the default for all groups changes live
}

// rows are the group's setting and the nodes', which must be within low and high themselves.
func (b bounded) rows(low, high int64) []Setting {
	bounds := fmt.Sprintf("%d to %d", low, high)
	if high == maxInt {
		bounds = fmt.Sprintf("%d or more", low)
	}
	kind, rest, _ := strings.Cut(b.name, ".")
	node := func(part string, def int64, doc string, dynamic bool) Setting {
		return brokerRow("group."+kind+part+rest, Int, strconv.FormatInt(def, 10), bounds, doc, integer(low, high), dynamic)
	}
	all := node(".", b.def, b.doc, b.dynamic)
	least := node(".min.", b.least, "The least that a group may set as "+b.name+".", false)
	most := node(".max.", b.most, "The most that a group may set as "+b.name+".", false)
	own := groupRow(b.name, Int, all.Default, "from "+least.Name+" to "+most.Name, b.doc, integer(low, high), all.Name)
	own.Bounds = [2]string{least.Name, most.Name}
	return []Setting{own, all, least, most}
}
