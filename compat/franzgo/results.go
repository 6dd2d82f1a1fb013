package franzgo

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// outcome is how a test ended.
type outcome string

const (
	passed  outcome = "PASS"
	failed  outcome = "FAIL"
	skipped outcome = "SKIP"
	running outcome = "never ended"
	absent  outcome = "not run"
)

// marker precedes each line of the test framework's own in the output of -test.v=test2json, wherever in a line of a test's
// output it comes.
const marker = "\x16"

// parse reads the output of a test binary run with -test.v=test2json: each test's and subtest's outcome by its full name.
func parse(r io.Reader) (map[string]outcome, error) {
	results := map[string]outcome{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		_, line, found := strings.Cut(lines.Text(), marker)
		fields := strings.Fields(line)
		if !found || len(fields) < 3 {
			continue
		}
		switch verb := fields[1]; {
		case fields[0] == "===" && verb == "RUN":
			results[fields[2]] = running
		case fields[0] == "---":
			results[fields[2]] = outcome(strings.TrimSuffix(verb, ":"))
		}
	}
	return results, lines.Err()
}

// exception is a test that does not pass and why that is right.
type exception struct {
	outcome outcome // absent: it is not even run
	until   need    // what ends the exception once the cluster advertises it; the zero need: nothing
	why     string
}

// need is a version of an API.
type need struct{ key, version int16 }

// compare tells every difference between the results and what is expected: a test that did not pass without being
// excepted, and an excepted one that ended otherwise. A test is excepted with all its subtests; a parent that fails only for
// an excepted subtest counts as passed.
func compare(results map[string]outcome, exceptions map[string]exception) (differences []string) {
	for _, name := range slices.Sorted(maps.Keys(results)) {
		got := results[name]
		if got == passed || excepted(name, exceptions) || got == failed && onlyFor(name, results, exceptions) {
			continue
		}
		differences = append(differences, fmt.Sprintf("%s: %s", got, name))
	}
	for _, name := range slices.Sorted(maps.Keys(exceptions)) {
		want, got := exceptions[name], absent
		if o, ran := results[name]; ran {
			got = o
		}
		if got != want.outcome && (got != absent || !excepted(parent(name), exceptions)) {
			differences = append(differences, fmt.Sprintf("%s: %s, expected %s: %s", got, name, want.outcome, want.why))
		}
	}
	return differences
}

// race is a test that may fail by its own fault. One that did is run again alone, and must pass then.
type race struct {
	test string // of the top level
	leaf string // what the names of its subtests that may fail end with
	says string // what is in the output then
	why  string
}

// lost tells whether the test failed, and in no other way than the one that is its own fault.
func (r race) lost(results map[string]outcome, output []byte) bool {
	for name, got := range results {
		if got != failed || name != r.test && !strings.HasPrefix(name, r.test+"/") || isParent(name, results) {
			continue
		}
		if !strings.HasSuffix(name, r.leaf) {
			return false
		}
	}
	return results[r.test] == failed && bytes.Contains(output, []byte(r.says))
}

// isParent tells whether a test has subtests.
func isParent(test string, results map[string]outcome) bool {
	for name := range results {
		if strings.HasPrefix(name, test+"/") {
			return true
		}
	}
	return false
}

// outlived are the exceptions whose need is advertised: they are to be removed.
func outlived(exceptions map[string]exception, advertised func(need) bool) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(exceptions)) {
		if until := exceptions[name].until; until != (need{}) && advertised(until) {
			names = append(names, name)
		}
	}
	return names
}

// absentOnes are the tests that are not to be run.
func absentOnes(exceptions map[string]exception) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(exceptions)) {
		if exceptions[name].outcome == absent {
			names = append(names, name)
		}
	}
	return names
}

// parent is the test of which a test is a subtest; "" has none.
func parent(name string) string { return name[:max(0, strings.LastIndexByte(name, '/'))] }

// excepted tells whether a test or one that it is a subtest of is an exception.
func excepted(name string, exceptions map[string]exception) bool {
	for ; name != ""; name = parent(name) {
		if _, ok := exceptions[name]; ok {
			return true
		}
	}
	return false
}

// onlyFor tells whether a parent's failure is explained: it has failed subtests, and all of those are excepted or explained
// in the same way.
func onlyFor(test string, results map[string]outcome, exceptions map[string]exception) bool {
	explained := false
	for name, got := range results {
		if got == passed || got == skipped || !strings.HasPrefix(name, test+"/") {
			continue
		}
		if !excepted(name, exceptions) && !onlyFor(name, results, exceptions) {
			return false
		}
		explained = true
	}
	return explained
}
