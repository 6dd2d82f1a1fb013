package config

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// given is a value with where it stands, for errors, and how strong that place is.
type given struct {
	value, where string
	strength     strength
}

// strength orders the places: a stronger one beats a weaker one.
type strength int

const (
	fromFile strength = iota
	fromEnv
	fromFlag
)

// gathered is what the places say, before anything is resolved.
type gathered struct {
	own      map[string]given // by the names of NodeSettings
	kafka    map[string]given // by Kafka's names
	auths    map[string]given // see clientAuths
	problems []error
}

func newGathered() *gathered {
	return &gathered{own: map[string]given{}, kafka: map[string]given{}}
}

func (g *gathered) fail(where string, err error) {
	g.problems = append(g.problems, fmt.Errorf("%s: %w", where, err))
}

// flags takes the command line, the strongest place.
func (g *gathered) flags(own map[string]string, set []string) {
	for name, value := range own {
		g.own[name] = given{value, "--" + name, fromFlag}
	}
	for _, pair := range set {
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			g.problems = append(g.problems, fmt.Errorf("--set %s: expected name=value", pair))
			continue
		}
		g.kafka[name] = given{value, "--set " + name, fromFlag}
	}
}

func isNodeSetting(name string) bool {
	return slices.ContainsFunc(nodeSettings, func(r NodeSetting) bool { return r.Name == name })
}

// file takes a YAML file: own settings at the top, Kafka's under "kafka".
func (g *gathered) file(path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		g.problems = append(g.problems, err)
		return
	}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		g.fail(path, err)
		return
	}
	if len(root.Content) == 0 {
		return // an empty file
	}
	g.pairs(path, root.Content[0], func(where string, key, value *yaml.Node) {
		switch {
		case key.Value == "kafka":
			g.pairs(path, value, func(where string, key, value *yaml.Node) { g.put(g.kafka, where, key, value) })
		case isNodeSetting(key.Value):
			if text, ok := g.listenerList(path, value); ok && key.Value == "listeners" {
				g.own[key.Value] = given{text, where, fromFile}
				return
			}
			g.put(g.own, where, key, value)
		default:
			g.problems = append(g.problems, unknownSetting(where, key.Value))
		}
	})
}

// pairs goes through a mapping, and refuses anything else and a key that stands there twice.
func (g *gathered) pairs(path string, mapping *yaml.Node, do func(where string, key, value *yaml.Node)) {
	mapping = resolved(mapping)
	if mapping.Kind == yaml.ScalarNode && mapping.Tag == "!!null" {
		return
	}
	if mapping.Kind != yaml.MappingNode {
		g.problems = append(g.problems, fmt.Errorf("%s:%d: expected name: value lines", path, mapping.Line))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		key, value := resolved(mapping.Content[i]), resolved(mapping.Content[i+1])
		where := fmt.Sprintf("%s:%d:%d", path, mapping.Content[i].Line, mapping.Content[i].Column)
		if seen[key.Value] {
			g.problems = append(g.problems, fmt.Errorf("%s: %s is set twice", where, key.Value))
			continue
		}
		seen[key.Value] = true
		do(where, key, value)
	}
}

// resolved follows a YAML alias.
func resolved(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func (g *gathered) put(to map[string]given, where string, key, value *yaml.Node) {
	text, ok := flat(value)
	if !ok {
		g.problems = append(g.problems, fmt.Errorf("%s: %s: expected a value or a list of values", where, key.Value))
		return
	}
	to[key.Value] = given{text, where, fromFile}
}

// flat is a value as text; a list's elements are joined with commas, as Kafka writes lists.
func flat(n *yaml.Node) (string, bool) {
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return "", true
	case n.Kind == yaml.ScalarNode:
		return n.Value, true
	case n.Kind != yaml.SequenceNode:
		return "", false
	}
	parts := make([]string, len(n.Content))
	for i, c := range n.Content {
		if c = resolved(c); c.Kind != yaml.ScalarNode {
			return "", false
		}
		parts[i] = c.Value
	}
	return strings.Join(parts, ","), true
}

func unknownSetting(where, name string) error {
	known := func(yield func(string) bool) {
		for _, row := range nodeSettings {
			if !yield(row.Name) {
				return
			}
		}
	}
	if registry[Broker][name] != nil {
		return fmt.Errorf("%s: unknown setting %s (Kafka's settings stand under kafka:)", where, name)
	}
	if hint := nearest(name, known); hint != "" {
		return fmt.Errorf("%s: unknown setting %s (did you mean %s?)", where, name, hint)
	}
	return fmt.Errorf("%s: unknown setting %s", where, name)
}

// notSettings are variables of ours that other parts of the program read.
var notSettings = []string{
	"QUORLOG_BROKERS", "QUORLOG_CONFIG", "QUORLOG_USER", "QUORLOG_PASSWORD_FILE", "QUORLOG_SASL_MECHANISM",
	"QUORLOG_BINARY", "QUORLOG_PYTHON", "QUORLOG_REQUIRE_CLIENTS", "QUORLOG_HELM", "QUORLOG_HELM3", "QUORLOG_HELM4",
}

// environment takes QUORLOG_DATA_DIR and the like, and KAFKA_NUM_PARTITIONS for Kafka's names. An empty variable counts as
// not set: that is how compose files and charts say "no value".
func (g *gathered) environment(env []string) {
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		if value == "" || slices.Contains(notSettings, name) || ofService(name) {
			continue
		}
		if rest, ok := strings.CutPrefix(name, "QUORLOG_"); ok {
			key := strings.ToLower(strings.ReplaceAll(rest, "_", "-"))
			if !isNodeSetting(key) {
				g.problems = append(g.problems, unknownVariable(name, key))
				continue
			}
			g.own[key] = given{value, name, fromEnv}
		} else if rest, ok := strings.CutPrefix(name, "KAFKA_"); ok {
			// The environment of a container may hold KAFKA_ variables of other programs: only known names count, and those that
			// are about security. If one of these were passed over, the node would be more open than it was to be.
			if key := kafkaName(rest); registry[Broker][key] != nil || secures(key) {
				g.kafka[key] = given{value, name, fromEnv}
			}
		}
	}
}

// ofService recognises the variables that Kubernetes gives to every container for a service with our name, such as
// QUORLOG_SERVICE_HOST, QUORLOG_PORT and QUORLOG_PORT_9092_TCP_ADDR.
func ofService(name string) bool {
	rest, ok := strings.CutPrefix(name, "QUORLOG_")
	if !ok {
		return false
	}
	parts := strings.Split(rest, "_")
	for i, p := range parts {
		switch {
		case p == "SERVICE" && i+1 < len(parts) && (parts[i+1] == "HOST" || parts[i+1] == "PORT"):
			return true
		case p == "PORT" && (i+1 == len(parts) || strings.Trim(parts[i+1], "0123456789") == ""):
			return true
		}
	}
	return false
}

func unknownVariable(name, key string) error {
	for _, row := range nodeSettings {
		if row.Name == nearest(key, func(yield func(string) bool) { yield(row.Name) }) {
			return fmt.Errorf("environment: unknown setting %s (did you mean %s?)", name, row.Env())
		}
	}
	return fmt.Errorf("environment: unknown setting %s", name)
}
