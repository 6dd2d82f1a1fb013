package figures

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// server is a Prometheus that scrapes nodes each second.
type server struct {
	t      *testing.T
	addr   string
	client *http.Client
}

func startPrometheus(t *testing.T, nodes []string) *server {
	t.Helper()
	tool := rig.Tool(t, "prometheus")
	targets, err := json.Marshal(nodes) // JSON is YAML
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("scrape_configs: [{job_name: quorlog, scrape_interval: 1s, scrape_timeout: 1s, static_configs: [{targets: %s}]}]\n", targets)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, addr: testcluster.FreeAddr(t), client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: rig.Patience}}
	p, err := rig.Run([]string{
		tool, "--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + s.addr,
	}, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	rig.Await(t, func() string {
		if gone := p.Gone(); gone != "" {
			t.Fatal(gone)
		}
		resp, err := s.get("/-/ready", nil)
		if err != nil {
			return err.Error()
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return resp.Status
		}
		return ""
	})
	return s
}

func (s *server) get(path string, query url.Values) (*http.Response, error) {
	u := url.URL{Scheme: "http", Host: s.addr, Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	return s.client.Do(req)
}

// query evaluates an expression now; the values are by what name makes of their labels.
func (s *server) query(expression string, name func(labels map[string]string) string) (map[string]float64, error) {
	resp, err := s.get("/api/v1/query", url.Values{"query": {expression}})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error string
		Data  struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any // when, and what as text
			}
		}
	}
	if err := errors.Join(json.NewDecoder(resp.Body).Decode(&answer), resp.Body.Close()); err != nil || answer.Error != "" {
		return nil, fmt.Errorf("%s: %s: %w", expression, answer.Error, err)
	}
	values := map[string]float64{}
	for _, r := range answer.Data.Result {
		text, _ := r.Value[1].(string)
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, err
		}
		values[name(r.Metric)] += v
	}
	return values, nil
}

// await waits until an expression has the values.
func (s *server) await(expression string, name func(labels map[string]string) string, want map[string]float64) {
	s.t.Helper()
	rig.Await(s.t, func() string {
		got, err := s.query(expression, name)
		if err != nil || !maps.Equal(got, want) {
			return fmt.Sprintf("%s is %v, want %v (%v)", expression, got, want, err)
		}
		return ""
	})
}

// TestPrometheus: a real Prometheus scrapes three nodes, and its sums over them are the cluster's, also when another node had to
// become a group's coordinator.
func TestPrometheus(t *testing.T) {
	rig.Tool(t, "prometheus") // before nodes are started
	c := testcluster.StartCluster(t, testcluster.ClusterOptions{})
	groups, lags := lagging(t, c)
	s := startPrometheus(t, c.Addrs())
	up := map[string]float64{}
	for _, addr := range c.Addrs() {
		up[addr] = 1
	}
	instance := func(l map[string]string) string { return l["instance"] }
	lag := func() {
		t.Helper()
		s.await("sum by (consumergroup, topic, partition) (kafka_consumergroup_lag)", lagName, lags)
	}
	s.await("up", instance, up)
	lag()
	s.await(`sum by (topic) (kafka_server_brokertopicmetrics_messagesin_total{topic="`+topic+`"})`,
		func(l map[string]string) string { return l["topic"] }, map[string]float64{topic: records})

	dead := rig.Coordinator(t, c, groups[0])
	c.Node(dead).Kill()
	up[c.Addrs()[dead-1]] = 0
	s.await("up", instance, up)
	lag()
}
