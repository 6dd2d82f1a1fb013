package lint

import (
	"flag"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

var update = flag.Bool("update", false, "lower the numbers of testdata/ratchet.txt to what is")

const ratchetFile = "testdata/ratchet.txt"

// source is the module's source, parsed once.
var source = sync.OnceValues(func() (*tree, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return load(os.DirFS(dir))
		}
		if dir == filepath.Dir(dir) {
			return nil, errNoModule
		}
	}
	return nil, err
})

func module(t *testing.T) *tree {
	t.Helper()
	m, err := source()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func report(t *testing.T, list []finding) {
	t.Helper()
	for _, f := range sorted(list) {
		t.Error(f)
	}
}

func TestLayers(t *testing.T)   { report(t, checkLayers(module(t), layers)) }
func TestFences(t *testing.T)   { report(t, checkFences(module(t), fences)) }
func TestDocs(t *testing.T)     { report(t, checkDocs(module(t))) }
func TestPure(t *testing.T)     { report(t, checkPure(module(t))) }
func TestAPITable(t *testing.T) { report(t, checkAPITable(module(t))) }

func TestBanned(t *testing.T) {
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) { report(t, checkBanned(module(t), []rule{r})) })
	}
	report(t, unusedExceptions(module(t), rules))
}

func TestSizes(t *testing.T) {
	text, err := os.ReadFile(ratchetFile)
	if err != nil {
		t.Fatal(err)
	}
	now := sizes(module(t))
	if *update {
		text = tighten(text, now)
		if err := os.WriteFile(ratchetFile, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	allowed, err := parseRatchet(text)
	if err != nil {
		t.Fatal(err)
	}
	report(t, checkSizes(now, allowed))
}
