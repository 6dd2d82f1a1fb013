package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/quorlog/quorlog/internal/logging"
)

// describeLogger asks for the level of a logger, or of all; name is the broker's.
func describeLogger(ctx context.Context, t *testing.T, cl *kgo.Client, broker, name string) (map[string]string, error) {
	t.Helper()
	q := kmsg.NewPtrDescribeConfigsRequest()
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeBrokerLogger, broker
	if name != "" {
		r.ConfigNames = []string{name}
	}
	q.Resources = append(q.Resources, r)
	resp, err := q.RequestWith(ctx, cl)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, c := range resp.Resources[0].Configs {
		out[c.Name] = *c.Value
		if c.Source != kmsg.ConfigSourceDynamicBrokerLoggerConfig || c.ReadOnly || c.IsSensitive {
			t.Errorf("%+v", c)
		}
	}
	return out, kerr.ErrorForCode(resp.Resources[0].ErrorCode)
}

// TestLogLevelsAtStart: what is configured holds from the first line on, and the loggers that can be configured are all that there are.
func TestLogLevelsAtStart(t *testing.T) {
	var log syncedLog
	a := loggedNode(t, log.logger(), map[string]string{"log-levels": "root=ERROR, partition=trace"}, nil)
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range a.levels.All() {
		want := logging.Error
		if s.Name == "partition" {
			want = logging.Trace
		}
		if s.Level != want {
			t.Errorf("%s is at %s", s.Name, s.Level)
		}
		if s.Name != logging.Root {
			names = append(names, s.Name)
		}
	}
	if !slices.Equal(names, logging.Names()) {
		t.Errorf("there are %v, configured can be %v", names, logging.Names())
	}
	if text := log.String(); strings.Contains(text, "level=INFO") || strings.Contains(text, "level=WARN") {
		t.Errorf("the log says %s", text)
	}
}

// TestLogLevels: levels are described and changed as Kafka's, on the node that they are of, all of a request or nothing.
func TestLogLevels(t *testing.T) {
	a := testNode(t, nil, nil)
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cl := newClient(t, kgo.SeedBrokers(a.Addr()))
	all, err := describeLogger(ctx, t, cl, "1", "")
	if err != nil || all[logging.Root] != "INFO" || all["partition"] != "INFO" || all["conn"] != "INFO" || len(all) < 8 {
		t.Errorf("%v, %v", all, err)
	}
	set, del, add, sub := kmsg.IncrementalAlterConfigOpSet, kmsg.IncrementalAlterConfigOpDelete, kmsg.IncrementalAlterConfigOpAppend, kmsg.IncrementalAlterConfigOpSubtract
	type op struct {
		name  string
		op    kmsg.IncrementalAlterConfigOp
		value string
	}
	for _, c := range []struct {
		what     string
		broker   string
		validate bool
		ops      []op
		want     error
		then     string // level of "partition"
	}{
		{"only check", "1", true, []op{{"partition", set, "DEBUG"}}, nil, "INFO"},
		{"set", "1", false, []op{{"partition", set, "DEBUG"}}, nil, "DEBUG"},
		{"in any case", "1", false, []op{{"partition", set, "trace"}}, nil, "TRACE"},
		{"no level", "1", false, []op{{"partition", set, "LOUD"}}, kerr.InvalidConfig, "TRACE"},
		{"no logger", "1", false, []op{{"no.such", set, "INFO"}}, kerr.InvalidConfig, "TRACE"},
		{"delete of no logger", "1", false, []op{{"no.such", del, ""}}, kerr.InvalidConfig, "TRACE"},
		{"one of two is wrong", "1", false, []op{{"partition", set, "WARN"}, {"no.such", set, "INFO"}}, kerr.InvalidConfig, "TRACE"},
		{"twice", "1", false, []op{{"partition", set, "WARN"}, {"partition", del, ""}}, kerr.InvalidRequest, "TRACE"},
		{"append", "1", false, []op{{"partition", add, "WARN"}}, kerr.InvalidRequest, "TRACE"},
		{"subtract", "1", false, []op{{"partition", sub, "WARN"}}, kerr.InvalidRequest, "TRACE"},
		{"the root's can't be deleted", "1", false, []op{{logging.Root, del, ""}}, kerr.InvalidRequest, "TRACE"},
		{"another broker", "2", false, []op{{"partition", set, "WARN"}}, kerr.InvalidRequest, "TRACE"},
		{"no broker", "", false, []op{{"partition", set, "WARN"}}, kerr.InvalidRequest, "TRACE"},
		{"the root has no say yet", "1", false, []op{{logging.Root, set, "ERROR"}}, nil, "TRACE"},
		{"delete", "1", false, []op{{"partition", del, ""}}, nil, "ERROR"},
		{"back", "1", false, []op{{logging.Root, set, "INFO"}}, nil, "INFO"},
	} {
		q := kmsg.NewPtrIncrementalAlterConfigsRequest()
		q.ValidateOnly = c.validate
		r := kmsg.NewIncrementalAlterConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeBrokerLogger, c.broker
		for _, o := range c.ops {
			rc := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
			rc.Name, rc.Op = o.name, o.op
			if o.op != del {
				rc.Value = &o.value
			}
			r.Configs = append(r.Configs, rc)
		}
		q.Resources = append(q.Resources, r)
		shards := cl.RequestSharded(ctx, q) // a client sends it to the broker that it names; here there is only one
		resp, err := shards[0].Resp, shards[0].Err
		if c.broker != "1" {
			resp, err = cl.Broker(1).Request(ctx, q)
		}
		if err != nil {
			t.Fatal(c.what, err)
		}
		if got := kerr.ErrorForCode(resp.(*kmsg.IncrementalAlterConfigsResponse).Resources[0].ErrorCode); !errors.Is(got, c.want) {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
		if got, err := describeLogger(ctx, t, cl, "1", "partition"); err != nil || len(got) != 1 || got["partition"] != c.then {
			t.Errorf("%s: %v, %v; want %s", c.what, got, err, c.then)
		}
	}
	old := kmsg.NewPtrAlterConfigsRequest()
	or := kmsg.NewAlterConfigsRequestResource()
	or.ResourceType, or.ResourceName = kmsg.ConfigResourceTypeBrokerLogger, "1"
	old.Resources = append(old.Resources, or)
	resp, err := cl.Broker(1).Request(ctx, old)
	if err != nil {
		t.Fatal(err)
	}
	if got := kerr.ErrorForCode(resp.(*kmsg.AlterConfigsResponse).Resources[0].ErrorCode); !errors.Is(got, kerr.InvalidRequest) {
		t.Errorf("AlterConfigs: %v", got)
	}
}
