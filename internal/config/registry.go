// Package config is the one place where settings are defined. A row of the registry gives a setting's name, type,
// default, range and meaning; flags, environment, file, validation, DescribeConfigs and docs/CONFIG.md all follow from it.
// Names and defaults are Kafka's where Kafka has the setting.
package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Scope is what a setting belongs to.
type Scope uint8

// The scopes.
const (
	// Broker settings hold for a node, or for all as cluster-wide defaults.
	Broker Scope = iota
	// Topic settings hold for a topic; most have a Broker setting as their default.
	Topic
	// Group settings hold for a group.
	Group
)

// Type is a setting's type; the numbers are those of DescribeConfigs (KIP-569).
type Type int8

// The types.
const (
	Boolean  Type = 1
	String   Type = 2
	Int      Type = 3
	Short    Type = 4
	Long     Type = 5
	Double   Type = 6
	List     Type = 7
	Class    Type = 8
	Password Type = 9
)

var typeNames = map[Type]string{Boolean: "boolean", String: "string", Int: "int", Short: "short", Long: "long", Double: "double", List: "list", Class: "class", Password: "password"}

// String is the type's name in the reference page.
func (t Type) String() string { return typeNames[t] }

// Source says where a value comes from; the numbers are those of DescribeConfigs (KIP-226).
type Source int8

// The sources, strongest first.
const (
	DynamicTopic         Source = 1
	DynamicBroker        Source = 2
	DynamicBrokerDefault Source = 3
	StaticBroker         Source = 4
	Default              Source = 5
	DynamicBrokerLogger  Source = 6 // a logger's level, which is no setting of the registry (KIP-412)
	DynamicGroup         Source = 8
)

// Setting is a row of the registry.
type Setting struct {
	Name      string
	Scope     Scope
	Type      Type
	Default   string
	Doc       string
	Range     string    // in words, for the reference page and for errors
	Synonyms  []string  // broker settings that give this one its default, strongest first
	Bounds    [2]string // of a group's setting: the broker settings that it must be between; empty: none
	Dynamic   bool      // may be changed while the node runs
	Sensitive bool      // never shown
	Hidden    bool      // not listed by All: for tests
	// Inert settings are accepted so that configurations written for Kafka can be used, but change nothing.
	Inert bool
	check func(string) error
}

// clean is the form in which a value is checked and used: Kafka too takes spaces around it, and True.
func (s *Setting) clean(value string) string {
	value = strings.TrimSpace(value)
	if s.Type == Boolean {
		value = strings.ToLower(value)
	}
	return value
}

// Validate checks a value by type and range. The error says what is allowed.
func (s *Setting) Validate(value string) error {
	if err := s.check(s.clean(value)); err != nil {
		return fmt.Errorf("invalid value %q for %s: %w", value, s.Name, err)
	}
	return nil
}

var registry = build()

func build() map[Scope]map[string]*Setting {
	out := map[Scope]map[string]*Setting{Broker: {}, Topic: {}, Group: {}}
	for _, rows := range [][]Setting{topicRows(), brokerRows(), memberRows(), saslRows(), metricRows(), shareRows()} {
		for _, row := range rows {
			out[row.Scope][row.Name] = &row
		}
	}
	for _, row := range topicRows() {
		for i, name := range row.Synonyms {
			if out[Broker][name] == nil {
				out[Broker][name] = brokerDefault(row, i)
			}
		}
	}
	return out
}

// brokerDefault is the broker setting by which a topic setting gets its default: the i-th synonym of the row. The first has
// the same type and range. The others are the same in other units, weaker, and not for changing a running node.
func brokerDefault(row Setting, i int) *Setting {
	s, first := row, row.Synonyms[0]
	s.Name, s.Scope, s.Synonyms = row.Synonyms[i], Broker, row.Synonyms[1:]
	s.Doc = "Default of the topic setting " + row.Name + ". " + row.Doc
	if i == 0 {
		return &s
	}
	u, _ := unitOf(s.Name)
	s.Type, s.Default, s.Synonyms, s.Dynamic = Int, "", nil, false
	s.Range = "as " + first + ", in " + u.name
	s.Doc = "The same as " + first + " in " + u.name + ", and weaker."
	s.check = optional(func(v string) error {
		if err := integer(-maxInt, maxInt)(v); err != nil {
			return err
		}
		return row.check(converted(Value{Name: s.Name, Value: v}))
	})
	return &s
}

// unit is what a synonym counts in.
type unit struct {
	name string
	ms   int64
}

// unitOf knows the settings that count in something else than the setting that they stand for.
func unitOf(name string) (unit, bool) {
	switch {
	case strings.HasSuffix(name, ".hours"):
		return unit{"hours", 3_600_000}, true
	case name == "log.retention.minutes":
		return unit{"minutes", 60_000}, true
	}
	return unit{}, false
}

// Lookup finds a setting.
func Lookup(scope Scope, name string) (*Setting, bool) {
	s, ok := registry[scope][name]
	return s, ok
}

// All lists a scope's settings by name.
func All(scope Scope) []*Setting {
	var out []*Setting
	for _, name := range slices.Sorted(maps.Keys(registry[scope])) {
		if s := registry[scope][name]; !s.Hidden {
			out = append(out, s)
		}
	}
	return out
}

var scopeNames = map[Scope]string{Broker: "broker", Topic: "topic", Group: "group"}

// UnknownError is an unknown name. Hint is the most alike known one, if any is alike.
type UnknownError struct{ Scope, Name, Hint string }

// Error says what is unknown and what may have been meant.
func (e *UnknownError) Error() string {
	text := fmt.Sprintf("Unknown %s config name: %s", e.Scope, e.Name)
	if e.Hint != "" {
		text += fmt.Sprintf(" (did you mean %s?)", e.Hint)
	}
	return text
}

// Validate checks a name and its value.
func Validate(scope Scope, name, value string) error {
	s, ok := Lookup(scope, name)
	if !ok {
		return &UnknownError{scopeNames[scope], name, hint(scope, name)}
	}
	return s.Validate(value)
}

// hint guesses what was meant: the setting of the other scope that does the same, or a name that looks alike.
func hint(scope Scope, name string) string {
	if t := registry[Topic][name]; t != nil && scope == Broker && len(t.Synonyms) > 0 {
		return t.Synonyms[0]
	}
	if scope == Topic {
		for _, t := range registry[Topic] {
			if slices.Contains(t.Synonyms, name) {
				return t.Name
			}
		}
	}
	return nearest(name, maps.Keys(registry[scope]))
}

// nearest finds the most alike name, if a typing error can explain the difference.
func nearest(name string, known func(yield func(string) bool)) string {
	best, bestDistance := "", max(2, len(name)/4)+1
	for candidate := range known {
		if d := distance(name, candidate); d < bestDistance || d == bestDistance && candidate < best {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
