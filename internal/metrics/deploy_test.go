package metrics

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var (
	quoted   = regexp.MustCompile(`"[^"]*"`)
	grouping = regexp.MustCompile(`\b(by|without|on|ignoring)\s*\(([^)]*)\)`)
	selector = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^}]*\})?`)
	label    = regexp.MustCompile(`([a-z_]+)\s*(=~|!~|!=|=)`)
)

// words of the query language that the expressions use beside metrics.
var words = map[string]bool{
	"sum": true, "max": true, "rate": true, "deriv": true, "increase": true, "histogram_quantile": true, "or": true, "by": true, "m": true, "h": true, "time": true,
}

// checkExpr holds an expression against the table: its brackets match, each name is a word of the language or a metric in the form
// that its kind has, and labels are the metric's own or those that scraping adds.
func checkExpr(expr string, known map[string]*Metric) (wrong []string) {
	if !balanced(expr) {
		wrong = append(wrong, "brackets do not match")
	}
	labels := map[string]bool{"job": true, "instance": true, "le": true}
	rest := grouping.ReplaceAllString(expr, "")
	for _, m := range selector.FindAllStringSubmatch(quoted.ReplaceAllString(rest, `""`), -1) {
		if words[m[1]] {
			continue
		}
		metric := known[m[1]]
		if metric == nil {
			wrong = append(wrong, m[1]+" is no metric")
			continue
		}
		for _, l := range metric.Labels {
			labels[l] = true
		}
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			if !labels[l[1]] {
				wrong = append(wrong, m[1]+" has no label "+l[1])
			}
		}
		counted := metric.Kind != Gauge
		if inRate := regexp.MustCompile(`\b(rate|increase)\(` + regexp.QuoteMeta(m[1]) + `\b`).MatchString(rest); counted != inRate {
			wrong = append(wrong, m[1]+" is a "+metric.Kind.String()+", which wants a rate or does not")
		}
	}
	for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
		for l := range strings.SplitSeq(g[2], ",") {
			if !labels[strings.TrimSpace(l)] {
				wrong = append(wrong, "no metric has the label "+l)
			}
		}
	}
	return wrong
}

func balanced(s string) bool {
	var open []rune
	pairs := map[rune]rune{')': '(', ']': '[', '}': '{'}
	for _, r := range quoted.ReplaceAllString(s, "") {
		switch r {
		case '(', '[', '{':
			open = append(open, r)
		case ')', ']', '}':
			if len(open) == 0 || open[len(open)-1] != pairs[r] {
				return false
			}
			open = open[:len(open)-1]
		}
	}
	return len(open) == 0
}

// exposed are the series' names of all metrics; a histogram has three.
func exposed() map[string]*Metric {
	out := map[string]*Metric{"process_resident_memory_bytes": {Kind: Gauge}}
	for _, m := range All() {
		if m.Kind != Histogram {
			out[m.Name] = m
			continue
		}
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			out[m.Name+suffix] = m
		}
	}
	return out
}

func readDeploy(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDashboard(t *testing.T) {
	var board struct {
		Title  string
		Panels []struct {
			ID          int
			Type, Title string
			Targets     []struct{ Expr string }
			GridPos     struct{ X, W int }
		}
	}
	if err := json.Unmarshal(readDeploy(t, "grafana/quorlog.json"), &board); err != nil {
		t.Fatal(err)
	}
	known, ids := exposed(), map[int]bool{}
	for _, p := range board.Panels {
		if ids[p.ID] || p.GridPos.X+p.GridPos.W > 24 || p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%s: a bad id, place or no target", p.Title)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			for _, w := range checkExpr(target.Expr, known) {
				t.Errorf("%s: %s: %s", p.Title, target.Expr, w)
			}
		}
	}
	if len(board.Panels) < 20 {
		t.Errorf("%d panels", len(board.Panels))
	}
}

func TestAlerts(t *testing.T) {
	var file struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []struct {
				Alert       string            `yaml:"alert"`
				Expr        string            `yaml:"expr"`
				For         string            `yaml:"for"`
				Labels      map[string]string `yaml:"labels"`
				Annotations map[string]string `yaml:"annotations"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	d := yaml.NewDecoder(strings.NewReader(string(readDeploy(t, "prometheus/alerts.yaml"))))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil {
		t.Fatal(err)
	}
	known, seen := exposed(), map[string]bool{}
	for _, r := range file.Groups[0].Rules {
		if seen[r.Alert] || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%q: there twice, or without severity or text", r.Alert)
		}
		seen[r.Alert] = true
		for _, w := range checkExpr(r.Expr, known) {
			t.Errorf("%s: %s: %s", r.Alert, r.Expr, w)
		}
	}
	if len(seen) < 10 {
		t.Errorf("%d alerts", len(seen))
	}
}

// The check must find what it is for.
func TestCheckExpr(t *testing.T) {
	known := exposed()
	for _, bad := range []string{
		"kafka_no_such_metric", "sum(quorlog_ready", "sum by (color) (quorlog_ready)", `quorlog_ready{color="red"}`, "rate(quorlog_ready[5m])",
		"quorlog_raft_elections_won_total", "rate(quorlog_fsync_duration_seconds[5m])", "summ(quorlog_ready)", "quorlog_ready)(",
	} {
		if len(checkExpr(bad, known)) == 0 {
			t.Errorf("nothing is wrong with %s", bad)
		}
	}
}
