package config

import (
	"slices"
	"strings"
	"testing"
)

// What is the same for all nodes is filled in where each of them runs.
func TestExpand(t *testing.T) {
	env := []string{"POD=quorlog-2", "SPACE=kafka", "IP=10.1.2.3", "IP6=fd00::7", "QUORLOG_NODE_ID=2"}
	file := writeFile(t, `gossip: "{env:IP}:9093"
gossip-advertise: "{env:IP6}:9093"
listeners:
  - {name: internal, bind: ":9092", advertise: "{env:POD}.headless.{env:SPACE}.svc:9092"}
  - {name: external, bind: ":9094", advertise: "broker-{node-id}.example.com:{31092+node-id}"}
`)
	n, err := Load(Sources{Env: env, File: file})
	if err != nil {
		t.Fatal(err)
	}
	if n.Gossip != "10.1.2.3:9093" || n.GossipAdvertise != "[fd00::7]:9093" {
		t.Errorf("gossip %s, told as %s", n.Gossip, n.GossipAdvertise)
	}
	want := []Listener{
		{Name: "INTERNAL", Bind: ":9092", Advertise: "quorlog-2.headless.kafka.svc:9092"},
		{Name: "EXTERNAL", Bind: ":9094", Advertise: "broker-2.example.com:31094"},
	}
	if !slices.Equal(n.Listeners, want) {
		t.Errorf("%+v", n.Listeners)
	}
	for name, from := range map[string]Sources{
		"flags":         {Flags: map[string]string{"listen": ":1", "advertise": "b{node-id}.{env:SPACE}:{100+node-id}"}, Env: env},
		"a list":        {Flags: map[string]string{"listeners": "A://:1?advertise=b{node-id}.{env:SPACE}:{100+node-id}"}, Env: env},
		"Kafka's names": {Env: append(env, "KAFKA_LISTENERS=PLAINTEXT://:1", "KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://b{node-id}.{env:SPACE}:{100+node-id}")},
		"Kafka's lists": {Env: append(env, "KAFKA_LISTENERS=A://:1", "KAFKA_ADVERTISED_LISTENERS=A://b{node-id}.{env:SPACE}:{100+node-id}", "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP=A:PLAINTEXT")},
	} {
		if n, err := Load(from); err != nil || n.Advertise != "b2.kafka:102" || n.Kafka["advertised.listeners"] == "" {
			t.Errorf("%s: %s, %v", name, n.Advertise, err)
		}
	}
	// The rack may be missing where the node runs: that is no error, but there is no variable for it then.
	if n, err := Load(Sources{Flags: map[string]string{"rack": "{env:SPACE}-{node-id}"}, Env: env}); err != nil || n.Rack != "kafka-2" {
		t.Errorf("rack %q, %v", n.Rack, err)
	}
}

// Nothing that is filled in can be more than a part of an address.
func TestBadExpand(t *testing.T) {
	env := []string{"ODD=a:1&tls=false,B://c", "SPACE=a b", "EMPTY="}
	for value, want := range map[string]string{
		"{env:ODD}:1":            "characters that no address has",
		"{env:SPACE}:1":          "characters that no address has",
		"{env:EMPTY}:1":          "EMPTY is not set",
		"{env:}:1":               "is not set",
		"{env:POD:1":             "not closed",
		"{pod}:1":                "there are {node-id}",
		"{}:1":                   "there are {node-id}",
		"a:{1-node-id}":          "there are {node-id}",
		"a:{x+node-id}":          "no number",
		"a:{+node-id}":           "no number",
		"a:{-1+node-id}":         "no number",
		"a:{65535+node-id}":      "no more than 65535",
		"a:{9999999999+node-id}": "no number",
	} {
		for name, flags := range map[string]map[string]string{
			"advertise": {"advertise": value, "node-id": "1"},
			"listeners": {"listeners": "A://b:1?advertise=" + value, "node-id": "1"},
		} {
			if _, err := Load(Sources{Flags: flags, Env: env}); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s %s: %v, want %q", name, value, err, want)
			}
		}
	}
}
