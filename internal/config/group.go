package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// GroupInt returns a group's effective setting as a number. What the group has set itself counts as the nearest value that the nodes
// allow by now: their bounds may have changed since it was set, and differ from node to node. Kafka does the same.
func (l Layers) GroupInt(name string) int64 {
	row := l.Describe(registry[Group][name])
	n, _ := strconv.ParseInt(row.Value.Value, 10, 64) // Describe returns only what was checked
	if row.Source == DynamicGroup && row.Bounds[0] != "" {
		n = min(max(n, l.Int(row.Bounds[0])), l.Int(row.Bounds[1]))
	}
	return n
}

// CheckGroup holds what is set for a group against the bounds that the nodes set, and against each other. Each value was found to be
// one of its setting.
func (l Layers) CheckGroup() error {
	for _, name := range slices.Sorted(maps.Keys(l.Group)) {
		s, known := registry[Group][name]
		if !known || s.Bounds[0] == "" {
			continue
		}
		low, high := l.Int(s.Bounds[0]), l.Int(s.Bounds[1])
		if n, err := strconv.ParseInt(s.clean(l.Group[name]), 10, 64); err != nil || n < low || n > high {
			return fmt.Errorf("%s must be %s to %s, which are %d and %d, not %q", name, s.Bounds[0], s.Bounds[1], low, high, l.Group[name])
		}
	}
	for _, kind := range memberKinds {
		session, heartbeat := kind+sessionTimeout, kind+heartbeatInterval
		_, own := l.Group[session]
		if _, too := l.Group[heartbeat]; (own || too) && l.GroupInt(session) <= l.GroupInt(heartbeat) {
			return fmt.Errorf("%s must be longer than %s", session, heartbeat)
		}
	}
	return nil
}
