package coordinator

import (
	"strings"
	"testing"
)

// Expressions that stand for more than they look like are refused before they are compiled.
func TestPatternBombs(t *testing.T) {
	const most = 4096
	for name, c := range map[string]struct {
		text string
		ok   bool
	}{
		"a few topics":          {`orders-(eu|us)-[0-9]{1,4}|pay.*`, true},
		"as long as may be":     {strings.Repeat("a|", most/2), true},
		"a literal":             {strings.Repeat("a", most), true},
		"nested stars":          {strings.Repeat("(", 300) + "a" + strings.Repeat(")*", 300), true},
		"too long":              {strings.Repeat("a", most+1), false},
		"repetitions in a row":  {strings.Repeat("a{1000}", 500), false},
		"repeated classes":      {strings.Repeat(`[\pL\d]{999,}`, 200), false},
		"repetitions, nested":   {"((a{10}){10}){10}" + strings.Repeat("(c{30}){30}", 20), false},
		"optional repetitions":  {strings.Repeat("(a?){0,1000}", 100), false},
		"repeated alternatives": {"(one|two|three|four|five){1000}", false},
		"not one expression":    {`a)|(b`, false},
		"not of RE2":            {`(a)\1`, false},
	} {
		if _, err := CompilePattern(c.text, most); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	re, err := CompilePattern(`a|bc`, most)
	if err != nil || !re.MatchString("bc") || re.MatchString("abc") {
		t.Errorf("alternatives must match the whole name: %v", err)
	}
}
