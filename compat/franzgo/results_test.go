package franzgo

import (
	"slices"
	"strings"
	"testing"
)

const output = "\x16=== RUN   TestA\n\x16=== RUN   TestA/one\n\x16=== RUN   TestA/two\nsome text\x16--- PASS: TestA (0.10s)\n" +
	"    \x16--- PASS: TestA/one (0.10s)\n    \x16--- SKIP: TestA/two (0.00s)\n" +
	"\x16=== RUN   TestB\n\x16=== RUN   TestB/x\n\x16--- FAIL: TestB (1.00s)\n    \x16--- FAIL: TestB/x (1.00s)\n" +
	"--- PASS: TestC (0.00s)\n\x16=== RUN   TestD\n"

// TestCompare plants each kind of difference.
func TestCompare(t *testing.T) {
	results, err := parse(strings.NewReader(output))
	if err != nil || len(results) != 6 {
		t.Fatal(err, results)
	}
	for _, c := range []struct {
		name       string
		exceptions map[string]exception
		want       []string
	}{
		{"none", nil, []string{"SKIP: TestA/two", "FAIL: TestB", "FAIL: TestB/x", "never ended: TestD"}},
		{"exact", map[string]exception{"TestA/two": {outcome: skipped}, "TestB/x": {outcome: failed}, "TestD": {outcome: running},
			"TestE": {outcome: absent}, "TestE/x": {outcome: skipped}}, nil},
		{"too many", map[string]exception{"TestA/two": {outcome: skipped}, "TestB": {outcome: failed}, "TestD": {outcome: running},
			"TestA/one": {outcome: skipped, why: "reason"}, "TestF": {outcome: failed, why: "gone"}},
			[]string{"PASS: TestA/one, expected SKIP: reason", "not run: TestF, expected FAIL: gone"}},
	} {
		if got := compare(results, c.exceptions); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	old := map[string]exception{"TestX": {until: need{1, 2}}, "TestY": {until: need{2, 0}}, "TestZ": {}}
	if got := outlived(old, func(n need) bool { return n == need{1, 2} }); !slices.Equal(got, []string{"TestX"}) {
		t.Errorf("outlived: %q", got)
	}
}

// TestRaceLost: only the failure that was foreseen makes a test run again.
func TestRaceLost(t *testing.T) {
	ours := race{test: "TestB", leaf: "/x", says: "too early"}
	results := map[string]outcome{"TestA": failed, "TestB": failed, "TestB/x": failed, "TestB/y": passed}
	if !ours.lost(results, []byte("it came too early")) {
		t.Error("the race that was foreseen is none")
	}
	if ours.lost(results, []byte("it came too late")) {
		t.Error("another message passes for it")
	}
	results["TestB/y"] = failed
	if ours.lost(results, []byte("it came too early")) {
		t.Error("another subtest passes for it")
	}
	if ours.lost(map[string]outcome{"TestB": passed, "TestB/x": passed}, []byte("too early")) {
		t.Error("a test that passed is run again")
	}
}
