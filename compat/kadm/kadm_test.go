package kadm

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// callPatience bounds one call.
const callPatience = 20 * time.Second

func allSteps() []step {
	return slices.Concat(topicSteps, configSteps, groupSteps, shareSteps, txnSteps, securitySteps, lastSteps)
}

// TestNoneLeftOut proves by reflection that each exported method of the client is called.
func TestNoneLeftOut(t *testing.T) {
	called := map[string]bool{}
	for _, s := range allSteps() {
		name, _, _ := strings.Cut(s.method, " ")
		called[name] = true
	}
	client := reflect.TypeFor[*kadm.Client]()
	for m := range client.Methods() {
		if !called[m.Name] {
			t.Errorf("%s is never called", m.Name)
		}
	}
}

// TestDifferencesSayWhatComes holds the table to its purpose: an answer that nobody knows may be any.
func TestDifferencesSayWhatComes(t *testing.T) {
	called := map[string]bool{}
	for _, s := range allSteps() {
		called[s.method] = true
	}
	for method, d := range differences {
		if !called[method] {
			t.Errorf("%s is not called", method)
		}
		if d.ours == "" && d.until == 0 || d.why == "" {
			t.Errorf("%s: neither what we answer nor until when it is to be otherwise, or no reason", method)
		}
	}
}

// TestAgainstKfake makes all calls on both sides and compares.
func TestAgainstKfake(t *testing.T) {
	c := testcluster.StartCluster(t, testcluster.ClusterOptions{Args: []string{
		"--set", "authorizer=acl", "--set", "super.users=User:ANONYMOUS",
		"--set", "quorlog.election.timeout.ms=10000", // each leader is to stay the one that it was to be from the start
	}})
	fake, err := kfake.NewCluster(kfake.NumBrokers(3))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	ours, theirs := newTarget(t, c.Addrs()), newTarget(t, fake.ListenAddrs())
	versions, err := ours.ApiVersions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range allSteps() {
		want := outcome(t, s, theirs)
		d, known := differences[s.method]
		if known && d.until != 0 && has(versions, d.until) {
			t.Errorf("%s: we have by now what the difference waits for: remove it from the table", s.method)
			known = false
		}
		expected := want
		if known {
			expected = d.ours
		}
		got := awaited(t, s, ours, expected)
		switch {
		case got == want && known:
			t.Errorf("%s: no difference any more: remove it from the table", s.method)
		case got == want:
		case !known:
			t.Errorf("%s:\n  ours  %s\n  kfake %s", s.method, got, want)
		case d.ours != "" && got != d.ours:
			t.Errorf("%s:\n  ours     %s\n  expected %s", s.method, got, d.ours)
		}
	}
}

func newTarget(t *testing.T, addrs []string) *target {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RetryTimeout(callPatience/2))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return &target{Client: kadm.NewClient(cl), cl: cl}
}

// awaited makes a call of ours. One that only reads is made again until it tells what is expected: a change is answered when all nodes
// have applied it or the time for that is over, so the node that is asked may be behind.
func awaited(t *testing.T, s step, ours *target, expected string) (got string) {
	t.Helper()
	for began := time.Now(); ; rig.Idle(50*time.Millisecond, nil) {
		got = outcome(t, s, ours)
		if got == expected || expected == "" || !s.reads() || time.Since(began) > callPatience {
			return got
		}
	}
}

func outcome(t *testing.T, s step, on *target) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callPatience)
	defer cancel()
	result, err := s.call(ctx, on)
	if err != nil {
		return code(err)
	}
	return canonical(result)
}

func has(versions kadm.BrokersApiVersions, key int16) bool {
	for _, v := range versions {
		if _, ok := v.KeyMaxVersion(key); ok {
			return true
		}
	}
	return false
}
