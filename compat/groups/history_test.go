package groups

import (
	"strings"
	"testing"
)

// TestPlanted shows the checks histories that are wrong in one way each, and one that is right.
func TestPlanted(t *testing.T) {
	for _, c := range []struct {
		name   string
		lines  []string // "MEMBER LINE"
		commit []int64
		want   string
	}{
		{"right", []string{"1 assigned 1 0,1", "1 record 0 0 a", "2 assigned 2 1", "1 assigned 2 0", "2 record 1 0 b", "2 record 0 0 a"}, []int64{1, 1, 2}, ""},
		{"unknown generation", []string{"1 assigned -1 0", "2 assigned -1 0", "1 record 0 0 a", "1 record 1 0 b", "2 assigned 3 "}, nil, ""},
		{"two owners", []string{"1 assigned 5 0,1", "2 assigned 5 1", "1 record 0 0 a", "1 record 0 1 b"}, nil, "two owners"},
		{"missed", []string{"1 record 0 0 a"}, nil, `"b" was never processed`},
		{"back", []string{"1 record 0 0 a", "1 record 0 1 b"}, []int64{5, 4}, "went back from 5 to 4"},
		{"other content", []string{"1 record 0 0 a", "2 record 0 0 b"}, nil, `held "a" before`},
		{"nonsense", []string{"1 record 0 0 a", "1 record 0 1 b", "1 record x"}, nil, "a record has"},
	} {
		h := newHistory()
		for _, l := range c.lines {
			h.line(int(l[0]-'0'), l[2:])
		}
		for _, at := range c.commit {
			h.commit(0, at)
		}
		wrong, _ := h.verdict([]string{"a", "b"})
		if got := strings.Join(wrong, "; "); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
