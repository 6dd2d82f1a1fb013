// Package helm holds the chart. What its templates render is tested in the nested module test, which has Kubernetes' types, and by
// compat/kubelet, which runs it; here is what needs no Helm.
package helm

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/quorlog/quorlog/internal/config"
)

// byChart are the broker settings that the chart makes from values of its own.
var byChart = []string{
	"node.id", "broker.id", "listeners", "advertised.listeners", "listener.security.protocol.map", "log.dir", "log.dirs", "broker.rack",
	"authorizer", "super.users", "ssl.client.auth",
}

type schema struct {
	Properties           map[string]*schema `json:"properties"`
	AdditionalProperties any                `json:"additionalProperties"`
	PropertyNames        struct {
		Enum []string `json:"enum"`
	} `json:"propertyNames"`
}

// The chart's schema knows the broker settings that a node has, so that a wrong name is found before anything is installed.
func TestSchemaKnowsTheSettings(t *testing.T) {
	s := readSchema(t)
	var want []string
	for _, setting := range config.All(config.Broker) {
		if !slices.Contains(byChart, setting.Name) {
			want = append(want, setting.Name)
		}
	}
	have := s.Properties["config"].PropertyNames.Enum
	for _, name := range want {
		if !slices.Contains(have, name) {
			t.Errorf("values.schema.json: config lacks %s", name)
		}
	}
	for _, name := range have {
		if !slices.Contains(want, name) {
			t.Errorf("values.schema.json: config has %s, which is no setting, or one that the chart makes", name)
		}
	}
	helpers, err := os.ReadFile(filepath.Join("quorlog", "templates", "_helpers.tpl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range byChart {
		if !strings.Contains(string(helpers), `"`+name+`"`) {
			t.Errorf("the chart does not refuse config.%s", name)
		}
	}
}

// Every value has a line in the schema, and every line of the schema a value.
func TestSchemaAndValuesAgree(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("quorlog", "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := yaml.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	s := readSchema(t)
	delete(s.Properties, "global") // Helm's own
	agree(t, "", s, values)
}

func agree(t *testing.T, path string, s *schema, values map[string]any) {
	t.Helper()
	if !reflect.DeepEqual(s.AdditionalProperties, false) {
		return // its names are the user's
	}
	for name, value := range values {
		below, known := s.Properties[name]
		if !known {
			t.Errorf("values.yaml: %s%s is not in the schema", path, name)
			continue
		}
		if m, ok := value.(map[string]any); ok {
			agree(t, path+name+".", below, m)
		}
	}
	for name := range s.Properties {
		if _, known := values[name]; !known && !strings.HasPrefix(path, "probes.") {
			t.Errorf("values.schema.json: %s%s has no default", path, name)
		}
	}
}

func readSchema(t *testing.T) *schema {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("quorlog", "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	s := &schema{}
	if err := json.Unmarshal(text, s); err != nil {
		t.Fatal(err)
	}
	return s
}
