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
	DynamicGroup         Source = 8
)

// Setting is a row of the registry.
type Setting struct {
	Name      string
	Scope     Scope
	Type      Type
	Default   string
	Doc       string
	Range     string   // in words, for the reference page and for errors
	Synonyms  []string // broker settings that give this one its default, strongest first
	Dynamic   bool     // may be changed while the node runs
	Sensitive bool     // never shown
	check     func(string) error
}

// Validate checks a value by type and range. The error says what is allowed.
func (s *Setting) Validate(value string) error {
	if s.check == nil {
		return nil
	}
	if err := s.check(value); err != nil {
		return fmt.Errorf("invalid value %q for %s: %w", value, s.Name, err)
	}
	return nil
}

var registry = build()

func build() map[Scope]map[string]*Setting {
	out := map[Scope]map[string]*Setting{Broker: {}, Topic: {}, Group: {}}
	for _, rows := range [][]Setting{topicRows(), brokerRows(), groupRows()} {
		for _, row := range rows {
			out[row.Scope][row.Name] = &row
		}
	}
	// A topic setting's strongest synonym is a broker setting of the same type and range; the registry has it once.
	for _, t := range out[Topic] {
		for i, name := range t.Synonyms {
			if _, ok := out[Broker][name]; ok {
				continue
			}
			s := *t
			s.Name, s.Scope, s.Synonyms = name, Broker, nil
			s.Dynamic = true
			s.Doc = "Default of the topic setting " + t.Name + ". " + t.Doc
			if i > 0 {
				u := unitOf(name)
				s.Default, s.check, s.Range, s.Type = "", u.check, "same as "+t.Synonyms[0]+", in "+u.name, Int
				s.Doc = "The same as " + t.Synonyms[0] + ", in " + u.name + "; " + t.Synonyms[0] + " is stronger."
			}
			out[Broker][name] = &s
		}
	}
	return out
}

// unit is what a synonym counts in.
type unit struct {
	name  string
	ms    int64
	check func(string) error
}

func unitOf(name string) unit {
	switch {
	case strings.HasSuffix(name, ".hours"):
		return unit{"hours", 3_600_000, optional(integer(-1, 1<<31-1))}
	case strings.HasSuffix(name, ".minutes"):
		return unit{"minutes", 60_000, optional(integer(-1, 1<<31-1))}
	}
	return unit{"milliseconds", 1, integer(-1, 1<<62)}
}

// Lookup finds a setting.
func Lookup(scope Scope, name string) (*Setting, bool) {
	s, ok := registry[scope][name]
	return s, ok
}

// All lists a scope's settings by name.
func All(scope Scope) []*Setting {
	names := slices.Sorted(maps.Keys(registry[scope]))
	out := make([]*Setting, len(names))
	for i, name := range names {
		out[i] = registry[scope][name]
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
		return &UnknownError{scopeNames[scope], name, nearest(name, maps.Keys(registry[scope]))}
	}
	return s.Validate(value)
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
