package group

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/quorlog/quorlog/broker/coordinator"
)

// Limits are the bounds and times of the groups. The zero value is not usable; start from DefaultLimits.
type Limits struct {
	MinSessionTimeout     time.Duration // group.min.session.timeout.ms
	MaxSessionTimeout     time.Duration // group.max.session.timeout.ms
	InitialRebalanceDelay time.Duration // group.initial.rebalance.delay.ms
	NewMemberJoinTimeout  time.Duration // how long a member that has no id yet may wait in JoinGroup
	MaxSize               int           // group.max.size, in members
	OffsetMetadataBytes   int           // offset.metadata.max.bytes, of one committed offset
	OffsetsRetention      time.Duration // offsets.retention.minutes, counted from when the group became empty
	RetentionCheck        time.Duration // offsets.retention.check.interval.ms

	// The next ones are our own. Kafka has no such bounds; ours keep what clients can make a node hold finite.
	MaxGroups          int // groups that one node coordinates
	MaxPendingMembers  int // member ids handed out in a group that have not joined yet (KIP-394)
	MaxProtocols       int // protocols that a member offers
	MaxGroupBytes      int // protocol metadata and assignments of a group: they must fit into one record
	MaxGroupIDBytes    int // also of member and instance ids
	MaxCalls           int // requests that wait in one shard
	MaxQueuedBytes     int // records that wait in one shard for the batch under way
	MaxBatchBytes      int // records that are appended at once
	MaxOffsetsPerGroup int // partitions for which a group has a committed offset
	MaxRegexBytes      int // of a subscription by regular expression, before it is compiled
	MaxRegexes         int // different ones in a group: each has a list of the topics that it matches

	Consumer  MemberLimits // group.consumer.*
	Share     MemberLimits // group.share.*
	Migration Migration    // group.consumer.migration.policy
}

// Migration says which groups with members may change their protocol: KIP-848's group.consumer.migration.policy.
type Migration string

// The policies. A group without members is free to change, whatever the policy.
const (
	MigrateBoth Migration = "bidirectional"
	MigrateUp   Migration = "upgrade"   // from the classic to the consumer protocol
	MigrateDown Migration = "downgrade" // from the consumer to the classic protocol
	MigrateNone Migration = "disabled"
)

func (p Migration) upgrades() bool   { return p == MigrateBoth || p == MigrateUp }
func (p Migration) downgrades() bool { return p == MigrateBoth || p == MigrateDown }

// set takes over a policy by its name.
func (p *Migration) set(name string) error {
	switch v := Migration(name); v {
	case MigrateBoth, MigrateUp, MigrateDown, MigrateNone:
		*p = v
		return nil
	}
	return fmt.Errorf("group.consumer.migration.policy: %q is none of %s, %s, %s, %s", name, MigrateBoth, MigrateUp, MigrateDown, MigrateNone)
}

// Times are those of the members of a group whose partitions the coordinator assigns.
type Times struct {
	Session   time.Duration // how long a member may be silent
	Heartbeat time.Duration // how often it is told to be heard of
}

// MemberLimits are those of groups whose partitions the coordinator assigns.
type MemberLimits struct {
	Times            // group.consumer.session.timeout.ms and heartbeat.interval.ms, and the same of group.share
	Least     Times  // group.consumer.min.session.timeout.ms and so on: the least that a group may set for itself
	Most      Times  // the most
	MaxSize   int    // group.consumer.max.size, group.share.max.size, in members
	Assignors string // group.consumer.assignors, by commas; the first is the one of groups whose members do not care
}

// check holds the times against each other, as Kafka does when it starts. prefix begins the names of the settings.
func (l *MemberLimits) check(prefix string) error {
	for _, c := range []struct {
		name             string
		least, own, most time.Duration
	}{
		{"session.timeout.ms", l.Least.Session, l.Session, l.Most.Session},
		{"heartbeat.interval.ms", l.Least.Heartbeat, l.Heartbeat, l.Most.Heartbeat},
	} {
		if c.own < c.least || c.own > c.most {
			return fmt.Errorf("%s%s: %d is not between %smin.%s, which is %d, and %smax.%s, which is %d", prefix, c.name, c.own.Milliseconds(),
				prefix, c.name, c.least.Milliseconds(), prefix, c.name, c.most.Milliseconds())
		}
	}
	if l.Session <= l.Heartbeat {
		return fmt.Errorf("%ssession.timeout.ms must be longer than %sheartbeat.interval.ms", prefix, prefix)
	}
	return nil
}

func (l *Limits) member(share bool) *MemberLimits {
	if share {
		return &l.Share
	}
	return &l.Consumer
}

func (l *Limits) size(share bool) int { return l.member(share).MaxSize }

// times are what holds for a group that has set nothing itself.
func (l *Limits) times(_ string, share bool) Times { return l.member(share).Times }

func (l *Limits) preferredAssignor() string {
	first, _, _ := strings.Cut(l.Consumer.Assignors, ",")
	return strings.TrimSpace(first)
}

func (l *Limits) hasAssignor(name string) bool {
	for a := range strings.SplitSeq(l.Consumer.Assignors, ",") {
		if strings.TrimSpace(a) == name {
			return true
		}
	}
	return false
}

// DefaultLimits are Kafka's defaults where Kafka has the setting, but for the initial delay: it only serves large groups
// that start at once, and costs everybody else three seconds.
func DefaultLimits() Limits {
	return Limits{
		MinSessionTimeout:     6 * time.Second,
		MaxSessionTimeout:     30 * time.Minute,
		InitialRebalanceDelay: 0,
		NewMemberJoinTimeout:  5 * time.Minute,
		MaxSize:               10_000,
		OffsetMetadataBytes:   4096,
		OffsetsRetention:      7 * 24 * time.Hour,
		RetentionCheck:        10 * time.Minute,
		MaxGroups:             100_000,
		MaxPendingMembers:     10_000,
		MaxProtocols:          64,
		MaxGroupBytes:         8 << 20,
		MaxGroupIDBytes:       4096,
		MaxCalls:              100_000,
		MaxQueuedBytes:        64 << 20,
		MaxBatchBytes:         1 << 20,
		MaxOffsetsPerGroup:    1_000_000,
		MaxRegexBytes:         4096,
		MaxRegexes:            100,
		Consumer:              defaultMembers(10_000, AssignorUniform+","+AssignorRange),
		Share:                 defaultMembers(200, ""),
		Migration:             MigrateBoth,
	}
}

func defaultMembers(size int, assignors string) MemberLimits {
	least := Times{Session: 45 * time.Second, Heartbeat: 5 * time.Second}
	return MemberLimits{Times: least, Least: least, Most: Times{Session: time.Minute, Heartbeat: 15 * time.Second}, MaxSize: size, Assignors: assignors}
}

// runtime is the part that bounds the coordinator's runtime.
func (l *Limits) runtime() coordinator.Limits {
	return coordinator.Limits{MaxKeys: l.MaxGroups, MaxCalls: l.MaxCalls, MaxQueuedBytes: l.MaxQueuedBytes, MaxBatchBytes: l.MaxBatchBytes}
}

// LimitsOf takes the defaults and then those settings of a broker that are about groups, by their Kafka names. Others are
// passed over.
func LimitsOf(settings map[string]string) (Limits, error) {
	l := DefaultLimits()
	type duration struct {
		to   *time.Duration
		unit time.Duration
	}
	durations := map[string]duration{
		"group.min.session.timeout.ms":        {&l.MinSessionTimeout, time.Millisecond},
		"group.max.session.timeout.ms":        {&l.MaxSessionTimeout, time.Millisecond},
		"group.initial.rebalance.delay.ms":    {&l.InitialRebalanceDelay, time.Millisecond},
		"offsets.retention.minutes":           {&l.OffsetsRetention, time.Minute},
		"offsets.retention.check.interval.ms": {&l.RetentionCheck, time.Millisecond},
	}
	members := map[string]*MemberLimits{"group.consumer.": &l.Consumer, "group.share.": &l.Share}
	for prefix, m := range members {
		for bound, t := range map[string]*Times{"": &m.Times, "min.": &m.Least, "max.": &m.Most} {
			durations[prefix+bound+"session.timeout.ms"] = duration{&t.Session, time.Millisecond}
			durations[prefix+bound+"heartbeat.interval.ms"] = duration{&t.Heartbeat, time.Millisecond}
		}
	}
	numbers := map[string]struct {
		to   *int
		most int
	}{
		// Kafka's default of group.max.size is no limit at all; here it is one on memory, whatever is asked for.
		"group.max.size":            {&l.MaxSize, l.MaxSize},
		"group.consumer.max.size":   {&l.Consumer.MaxSize, l.Consumer.MaxSize},
		"group.share.max.size":      {&l.Share.MaxSize, 1000},
		"offset.metadata.max.bytes": {&l.OffsetMetadataBytes, maxOffsetMetadata},
	}
	if a := settings["group.consumer.assignors"]; a != "" {
		l.Consumer.Assignors = a
		for name := range strings.SplitSeq(a, ",") {
			if name = strings.TrimSpace(name); name != AssignorUniform && name != AssignorRange {
				return Limits{}, fmt.Errorf("group.consumer.assignors: %q is none of %s, %s", name, AssignorUniform, AssignorRange)
			}
		}
	}
	if p := settings["group.consumer.migration.policy"]; p != "" {
		if err := l.Migration.set(p); err != nil {
			return Limits{}, err
		}
	}
	for name, value := range settings {
		d, isDuration := durations[name]
		number, isNumber := numbers[name]
		if !isDuration && !isNumber {
			continue
		}
		n, err := strconv.ParseInt(value, 10, 32)
		if err != nil || n < 0 {
			return Limits{}, fmt.Errorf("%s: %q is not a number that fits", name, value)
		}
		if isDuration {
			*d.to = time.Duration(n) * d.unit
		} else {
			*number.to = min(int(n), number.most)
		}
	}
	for prefix, m := range members {
		if err := m.check(prefix); err != nil {
			return Limits{}, err
		}
	}
	return l, nil
}

// maxOffsetMetadata is what a string of the record can hold, in bytes.
const maxOffsetMetadata = 1<<15 - 1
