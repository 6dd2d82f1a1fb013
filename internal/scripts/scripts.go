// Package scripts holds files that say what is expected against what is so. Scripts are such files: commands and what they say, for
// machines that turn events into effects and for all that is best told as a story. With `go test -update` the files are written anew, to be
// read in review.
package scripts

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the files that say what is expected")

// Golden holds a file against what should be in it. Otherwise says what to think of a difference.
func Golden(t *testing.T, file, got, otherwise string) {
	t.Helper()
	if *update {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(got), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: %s; -update writes it anew: %s", file, otherwise, difference(string(want), got))
	}
}

// Blocks plays each file that matches pattern in a world of its own, which start makes. A file is blocks that end with an empty line:
// commands, one a line, "----", and what all of them together say. Lines that begin with # are comments. What start returns plays the
// words of one command; what it says goes to out.
func Blocks(t *testing.T, pattern string, start func(t *testing.T, out *strings.Builder) (play func(words []string))) {
	each(t, pattern, func(t *testing.T, text string) string {
		var said, all strings.Builder
		play := start(t, &said)
		for i, block := range strings.Split(strings.TrimSpace(text), "\n\n") {
			commands, _, _ := strings.Cut(block, "\n----")
			said.Reset()
			for line := range strings.SplitSeq(commands, "\n") {
				if words := strings.Fields(line); isCommand(line) {
					play(words)
				}
			}
			if i > 0 {
				all.WriteString("\n")
			}
			all.WriteString(commands + "\n")
			if slices.ContainsFunc(strings.Split(commands, "\n"), isCommand) {
				all.WriteString("----\n" + said.String())
			}
		}
		return all.String()
	})
}

func isCommand(line string) bool {
	line = strings.TrimSpace(line)
	return line != "" && line[0] != '#'
}

// Lines plays each file that matches pattern in a world of its own, which start makes. A line that begins with "> " is a command; the
// indented lines up to the next are what it says, of which what start returns makes one each. Lines that begin with # are comments.
func Lines(t *testing.T, pattern string, start func(t *testing.T) (play func(words []string) []string)) {
	each(t, pattern, func(t *testing.T, text string) string {
		var all strings.Builder
		play := start(t)
		for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
			command, is := strings.CutPrefix(line, "> ")
			if !is && line != "" && line[0] != '#' {
				continue // what was said
			}
			fmt.Fprintln(&all, line)
			if is {
				for _, said := range play(strings.Fields(command)) {
					fmt.Fprintf(&all, "  %s\n", said)
				}
			}
		}
		return all.String()
	})
}

// each holds the files that match pattern against what they become when they are played.
func each(t *testing.T, pattern string, play func(t *testing.T, text string) string) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts at %s: %v", pattern, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			Golden(t, file, play(t, string(text)), "it says something else now")
		})
	}
}

// difference tells where two texts begin to differ, with the lines before.
func difference(want, got string) string {
	const before = 6
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Sprintf("line %d\n%s\n- %s\n+ %s", i+1, strings.Join(w[max(0, i-before):i], "\n"), w[i], g[i])
		}
	}
	return fmt.Sprintf("it has %d lines instead of %d", len(g), len(w))
}
