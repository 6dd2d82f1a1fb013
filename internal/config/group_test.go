package config

import "testing"

// What a group sets must lie within what the nodes allow; what lies outside of it later counts as the bound.
func TestGroupTimes(t *testing.T) {
	nodes := map[string]string{"group.consumer.min.session.timeout.ms": "10000", "group.consumer.session.timeout.ms": "50000"}
	for _, c := range []struct {
		name, value string
		wrong       bool
		want        int64
	}{
		{"consumer.session.timeout.ms", "", false, 50_000},
		{"consumer.session.timeout.ms", "10000", false, 10_000},
		{"consumer.session.timeout.ms", "9999", true, 10_000},
		{"consumer.session.timeout.ms", "60001", true, 60_000},
		{"consumer.heartbeat.interval.ms", " 15000 ", false, 15_000},
		{"share.session.timeout.ms", "44999", true, 45_000},
		{"share.heartbeat.interval.ms", "5001", false, 5001},
		{"share.record.lock.duration.ms", "14999", true, 15_000},
		{"share.delivery.count.limit", "10", false, 10},
		{"share.partition.max.record.locks", "4001", true, 4000},
	} {
		l := Layers{Static: nodes, Group: map[string]string{}}
		if c.value != "" {
			l.Group[c.name] = c.value
		}
		err := l.CheckGroup()
		if (err == nil) == c.wrong {
			t.Errorf("%s=%s: %v", c.name, c.value, err)
		}
		if got := l.GroupInt(c.name); got != c.want {
			t.Errorf("%s=%s counts as %d, expected %d", c.name, c.value, got, c.want)
		}
	}
	l := Layers{Static: nodes, Group: map[string]string{"consumer.session.timeout.ms": "10000", "consumer.heartbeat.interval.ms": "10000"}}
	if err := l.CheckGroup(); err == nil {
		t.Error("a session that is no longer than an interval is taken")
	}
}
