// Package lint holds the project's own rules about its source, as tests: who may import whom and why not, how large
// things may grow, what must be documented, and calls that are banned. The rules of the language and of style that
// everybody has are left to gofmt, go vet and staticcheck.
//
// Each rule names its reason in what it reports. There is no comment that switches a rule off: an exception is a row in
// the rule's table, with a reason, or a number in testdata/ratchet.txt, which may only go down.
//
// The rules look at the syntax alone, without types, so that they run in a second and on code that does not compile.
package lint

import (
	"cmp"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// file is one Go file of the module.
type file struct {
	path      string // slash-separated, from the module's root
	pkg       string // its directory, "." for the root
	test      bool
	generated bool
	lines     int
	ast       *ast.File
}

// name is the file's name in its directory.
func (f *file) name() string { return path.Base(f.path) }

// tree is the module's source.
type tree struct {
	module string // the module path
	fset   *token.FileSet
	files  []*file // by path
}

// finding is a place where a rule is broken.
type finding struct {
	at   string // file:line, or a file, or a package
	text string // what is wrong and why that is bad
}

func (f finding) String() string { return f.at + ": " + f.text }

// sorted orders findings for a stable report.
func sorted(list []finding) []finding {
	slices.SortFunc(list, func(a, b finding) int {
		return cmp.Or(strings.Compare(a.at, b.at), strings.Compare(a.text, b.text))
	})
	return list
}

// at makes a finding.
func (t *tree) at(n ast.Node, format string, args ...any) finding {
	p := t.fset.Position(n.Pos())
	return finding{fmt.Sprintf("%s:%d", p.Filename, p.Line), fmt.Sprintf(format, args...)}
}

// errNoModule means that the root holds no go.mod.
var errNoModule = errors.New("go.mod names no module")

// load parses all Go files of the module at the root of fsys: not those of modules inside it, of testdata, or of
// directories that git ignores by a rooted line.
func load(fsys fs.FS) (*tree, error) {
	mod, err := fs.ReadFile(fsys, "go.mod")
	if err != nil {
		return nil, err
	}
	t := &tree{fset: token.NewFileSet()}
	for line := range strings.Lines(string(mod)) {
		if name, ok := strings.CutPrefix(line, "module "); ok {
			t.module = strings.TrimSpace(name)
		}
	}
	if t.module == "" {
		return nil, errNoModule
	}
	ignored := ignoredDirs(fsys)
	err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return skipDir(fsys, name, ignored)
		case strings.HasSuffix(name, ".go"):
			return t.parse(fsys, name)
		}
		return nil
	})
	return t, err
}

func ignoredDirs(fsys fs.FS) (dirs []string) {
	text, err := fs.ReadFile(fsys, ".gitignore")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "/") {
			dirs = append(dirs, strings.Trim(line, "/"))
		}
	}
	return dirs
}

func skipDir(fsys fs.FS, name string, ignored []string) error {
	base := path.Base(name)
	if name == "." {
		return nil
	}
	if base == "testdata" || base[0] == '.' || base[0] == '_' || slices.Contains(ignored, name) {
		return fs.SkipDir
	}
	if _, err := fs.Stat(fsys, path.Join(name, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

func (t *tree) parse(fsys fs.FS, name string) error {
	src, err := fs.ReadFile(fsys, name)
	if err != nil {
		return err
	}
	parsed, err := parser.ParseFile(t.fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	t.files = append(t.files, &file{
		path:      name,
		pkg:       path.Dir(name),
		test:      strings.HasSuffix(name, "_test.go"),
		generated: ast.IsGenerated(parsed),
		lines:     strings.Count(string(src), "\n"),
		ast:       parsed,
	})
	return nil
}

// packages groups the files by directory.
func (t *tree) packages() map[string][]*file {
	out := map[string][]*file{}
	for _, f := range t.files {
		out[f.pkg] = append(out[f.pkg], f)
	}
	return out
}

// production are the files that people write and users run.
func (t *tree) production() []*file {
	return slices.DeleteFunc(slices.Clone(t.files), func(f *file) bool { return f.test || f.generated })
}

// importsOf maps the names under which a file knows its imports to their paths.
func importsOf(f *ast.File) map[string]string {
	out := map[string]string{}
	for _, spec := range f.Imports {
		p := importPath(spec)
		name := path.Base(p)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		out[name] = p
	}
	return out
}

func importPath(spec *ast.ImportSpec) string { return strings.Trim(spec.Path.Value, "`\"") }

// covers tells whether a pattern, "a/b" or "a/b/..." for a/b and all below it, holds for a package.
func covers(pattern, pkg string) bool {
	if root, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == root || strings.HasPrefix(pkg, root+"/")
	}
	return pkg == pattern
}

func anyCovers(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return covers(p, pkg) })
}
