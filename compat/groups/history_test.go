package groups

import (
	"strings"
	"testing"
	"time"
)

// answer is what the coordinator has told of the committed offsets.
type answer = map[int32]int64

// TestPlanted shows the checks histories that are wrong in one way each, and one that is right.
func TestPlanted(t *testing.T) {
	for _, c := range []struct {
		name   string
		lines  []string // "MEMBER LINE"
		commit []answer
		want   string
	}{
		{"right", []string{"1 assigned 1 0,1", "1 record 0 0 a", "2 assigned 2 1", "1 assigned 2 0", "2 record 1 0 b", "2 record 0 0 a"}, []answer{{0: 1}, {0: 1, 1: -1}, {0: 2, 1: 0}}, ""},
		{"unknown generation", []string{"1 assigned -1 0", "2 assigned -1 0", "1 record 0 0 a", "1 record 1 0 b", "2 assigned 3 "}, nil, ""},
		{"two owners", []string{"1 assigned 5 0,1", "2 assigned 5 1", "1 record 0 0 a", "1 record 0 1 b"}, nil, "two owners"},
		{"handed over", []string{"1 gained 10 0,1", "1 ceded 20 1", "2 gained 20 1", "2 ceded 25 1", "1 gained 30 1", "1 record 0 0 a", "1 record 0 1 b"}, nil, ""},
		{"handed over, heard late", []string{"2 gained 20 1", "1 gained 10 0,1", "1 ceded 20 1", "1 record 0 0 a", "1 record 0 1 b"}, nil, ""},
		{"too early", []string{"1 gained 10 0,1", "2 gained 20 1", "1 ceded 21 1", "1 record 0 0 a", "1 record 0 1 b"}, nil, "two owners, members 1 and 2"},
		{"never given up", []string{"1 gained 10 0", "2 gained 20 1", "2 ceded 22 1", "2 gained 30 0", "1 record 0 0 a", "1 record 0 1 b"}, nil, "two owners, members 1 and 2"},
		{"taken from a late one", []string{"1 gained 10 0", "2 gained 20 0", "1 lost 25 0", "1 record 0 0 a", "1 record 0 1 b"}, nil, ""},
		{"given to a late one", []string{"1 gained 10 0", "2 gained 20 0", "2 lost 25 0", "1 record 0 0 a", "1 record 0 1 b"}, nil, "two owners, members 1 and 2"},
		{"behind a short one", []string{"1 gained 10 0", "2 gained 11 1", "1 ceded 50 0", "2 gained 20 0", "2 ceded 21 0", "3 gained 30 0", "1 record 0 0 a", "1 record 0 1 b"},
			nil, "two owners, members 1 and 3"},
		{"missed", []string{"1 record 0 0 a"}, nil, `"b" was never processed`},
		{"back", []string{"1 record 0 0 a", "1 record 0 1 b"}, []answer{{0: 5}, {0: 4}}, "went back from 5 to 4"},
		{"forgotten", []string{"1 record 0 0 a", "1 record 0 1 b"}, []answer{{0: 5}, {}}, "partition 0 has no committed offset any more, it was 5"},
		{"forgotten and found again", []string{"1 record 0 0 a", "1 record 0 1 b"}, []answer{{0: 5}, {}, {0: 5}}, "partition 0 has no committed offset any more, it was 5"},
		{"one of two forgotten", []string{"1 record 0 0 a", "1 record 0 1 b"}, []answer{{0: 5, 1: 0}, {0: 6}}, "partition 1 has no committed offset any more, it was 0"},
		{"none", []string{"1 record 0 0 a", "1 record 0 1 b"}, []answer{{0: 0}, {0: -1}}, "partition 0 has no committed offset any more, it was 0"},
		{"other content", []string{"1 record 0 0 a", "2 record 0 0 b"}, nil, `held "a" before`},
		{"nonsense", []string{"1 record 0 0 a", "1 record 0 1 b", "1 record x"}, nil, "a record has"},
	} {
		h := newHistory()
		for _, l := range c.lines {
			h.line(int(l[0]-'0'), l[2:])
		}
		for _, all := range c.commit {
			h.answered(all)
		}
		wrong, _ := h.verdict([]string{"a", "b"})
		if got := strings.Join(wrong, "; "); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestPlantedDeath: what a member had is free when it is killed.
func TestPlantedDeath(t *testing.T) {
	for _, c := range []struct {
		line string
		want int
	}{{"gained 2000 0", 0}, {"gained 999 0", 1}} {
		h := newHistory()
		h.line(1, "gained 10 0")
		h.killed(1, time.Unix(0, 1000))
		h.line(2, c.line)
		if wrong, _ := h.verdict(nil); len(wrong) != c.want {
			t.Errorf("%s: %q", c.line, wrong)
		}
	}
}

// TestPlantedAnswers: in one answer of the coordinator nobody has what another has.
func TestPlantedAnswers(t *testing.T) {
	for want, shares := range [][][]int32{{{0, 1}, nil, {2}}, {{0, 1}, {1}}} {
		h := newHistory()
		h.described(shares)
		if wrong, _ := h.verdict(nil); len(wrong) != want {
			t.Errorf("%v: %q", shares, wrong)
		}
	}
}
