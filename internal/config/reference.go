package config

import (
	"fmt"
	"strings"
)

// Reference is docs/CONFIG.md, made from the registry.
func Reference() string {
	var b strings.Builder
	b.WriteString("# Settings\n\nGenerated from the registry in `internal/config`: `go test ./internal/config -update`.\n\n## A node\n\n" +
		"A flag beats its environment variable, that beats the file given with `--config` (YAML), that beats the default.\n\n" +
		"| flag, key of the file | variable | default | meaning |\n|---|---|---|---|\n")
	for _, s := range nodeSettings {
		fmt.Fprintf(&b, "| `--%s` | `%s` | %s | %s |\n", s.Name, s.Env(), code(s.Default), s.Doc)
	}
	b.WriteString("\nKafka's broker settings stand under `kafka:` in the file, in `KAFKA_...` variables as Kafka's images map them " +
		"(`KAFKA_NUM_PARTITIONS`), or in `--set name=value`.\n")
	b.WriteString("\nA broker setting is set, strongest first: for one broker while it runs, for all brokers while they run (both by " +
		"IncrementalAlterConfigs), or when the node starts. A topic's setting that is not set " +
		"falls back on the broker setting named with it.\n")
	for _, part := range []struct {
		scope Scope
		title string
	}{{Topic, "A topic"}, {Broker, "A broker"}, {Group, "A group"}} {
		fmt.Fprintf(&b, "\n## %s\n\n| name | type | default | range | changes live | falls back on | meaning |\n|---|---|---|---|---|---|---|\n", part.title)
		for _, s := range All(part.scope) {
			live := "no"
			if s.Dynamic {
				live = "yes"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s |\n", s.Name, s.Type, code(s.Default), s.Range, live, codes(s.Synonyms), s.Doc)
		}
	}
	return b.String()
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

func codes(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = code(name)
	}
	return strings.Join(quoted, ", ")
}
