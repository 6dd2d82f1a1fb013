package coordinator

import (
	"fmt"
	"regexp"
	"regexp/syntax"
)

// CompilePattern compiles a client's regular expression, of so many bytes at most, for matching whole names. RE2 takes no longer than
// the expression's program is times the name; but counted repetitions are written out, and four kilobytes of them would be a
// program of a hundred megabytes. So what the program will be is counted first. Without such repetitions none is too long.
func CompilePattern(text string, most int) (*regexp.Regexp, error) {
	if len(text) > most {
		return nil, fmt.Errorf("%d bytes, at most %d are allowed", len(text), most)
	}
	tree, err := syntax.Parse(text, syntax.Perl) // not between brackets, which its own could close
	if err != nil {
		return nil, err
	}
	if n := instructions(tree); n > 2*most {
		return nil, fmt.Errorf("too many repetitions: it stands for %d steps, at most %d are allowed", n, 2*most)
	}
	return regexp.Compile("^(?:" + text + ")$")
}

// instructions is about the length of an expression's program. It can't overflow: the parser allows a thousand repetitions, those
// within each other multiplied.
func instructions(re *syntax.Regexp) int {
	n := 1
	for _, sub := range re.Sub {
		n += instructions(sub)
	}
	switch re.Op {
	case syntax.OpLiteral:
		n = len(re.Rune)
	case syntax.OpRepeat:
		n *= max(re.Min, re.Max, 1)
	}
	return n
}
