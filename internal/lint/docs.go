package lint

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// checkDocs wants a doc of each package, a comment on each exported name, and the goroutines named in the doc of each
// package that starts some.
func checkDocs(t *tree) (out []finding) {
	for pkg, files := range t.packages() {
		doc := packageDoc(files)
		if doc == "" && slices.ContainsFunc(files, func(f *file) bool { return !f.generated }) {
			out = append(out, finding{pkg, "has no package doc: say what its one job is"})
		}
		for _, f := range files {
			if f.test || f.generated {
				continue
			}
			for _, decl := range f.ast.Decls {
				out = append(out, undocumented(t, decl)...)
			}
			if start := startsGoroutine(f.ast); start != nil && !strings.Contains(strings.ToLower(doc), "goroutine") {
				out = append(out, t.at(start, "package %s starts goroutines, and its doc does not list them: name, owner, what wakes it, what stops it", pkg))
			}
		}
	}
	return out
}

func packageDoc(files []*file) string {
	var doc strings.Builder
	for _, f := range files {
		if f.ast.Doc != nil && !f.generated {
			doc.WriteString(f.ast.Doc.Text())
		}
	}
	return doc.String()
}

// undocumented finds exported names of a declaration that have no comment. A comment on a group counts for all in it; so
// does one behind the name, for constants.
func undocumented(t *tree, decl ast.Decl) (out []finding) {
	const want = "%s is exported and has no comment: say what it means, its unit, its errors"
	switch d := decl.(type) {
	case *ast.FuncDecl:
		recv := strings.TrimPrefix(receiver(d), "*")
		if d.Name.IsExported() && (d.Recv == nil || ast.IsExported(recv)) && d.Doc == nil {
			out = append(out, t.at(d, want, d.Name.Name))
		}
	case *ast.GenDecl:
		if d.Doc != nil {
			return nil
		}
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && s.Doc == nil && s.Comment == nil {
					out = append(out, t.at(s, want, s.Name.Name))
				}
			case *ast.ValueSpec:
				for _, name := range s.Names {
					if name.IsExported() && s.Doc == nil && s.Comment == nil {
						out = append(out, t.at(name, want, name.Name))
					}
				}
			}
		}
	}
	return out
}

// startsGoroutine finds the first go statement, timer with a function, or WaitGroup.Go of a file.
func startsGoroutine(f *ast.File) (found ast.Node) {
	ast.Inspect(f, func(n ast.Node) bool {
		if found != nil {
			return false
		}
		switch n := n.(type) {
		case *ast.GoStmt:
			found = n
		case *ast.CallExpr:
			if isCall(n, "time", "AfterFunc") {
				found = n
			}
		}
		return true
	})
	return found
}

// isCall tells whether a call is pkg.name(...), by the names that stand there.
func isCall(c *ast.CallExpr, pkg, name string) bool {
	sel, ok := c.Fun.(*ast.SelectorExpr)
	return ok && sel.Sel.Name == name && isIdent(sel.X, pkg)
}

func isIdent(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

// purePatterns name the files whose code must be a function of its arguments: coordinators and the controller's image.
var purePatterns = []string{
	"broker/group/machine", "broker/txn/machine", "broker/share/machine",
	"replication/controller/image", "replication/controller/place", "replication/controller/rules", "replication/controller/step",
}

// checkPure wants no clock, goroutine, channel or I/O in such files: they are tested by scripts, event by event, and a
// replica that computes something else from the same events is a bug that no test of one node shows.
func checkPure(t *tree) (out []finding) {
	for _, f := range t.production() {
		if !slices.ContainsFunc(purePatterns, func(p string) bool { return strings.HasPrefix(f.path, p) }) {
			continue
		}
		for _, spec := range f.ast.Imports {
			switch p := importPath(spec); p {
			case "os", "net", "context", "sync", "sync/atomic", "math/rand", "math/rand/v2", "crypto/rand":
				out = append(out, t.at(spec, "a pure file imports %s: what it needs from there must come as an argument", p))
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt, *ast.SelectStmt, *ast.SendStmt, *ast.ChanType:
				out = append(out, t.at(n, "a pure file starts a goroutine or uses a channel: its driver does that"))
			case *ast.UnaryExpr:
				if n.Op == token.ARROW {
					out = append(out, t.at(n, "a pure file waits on a channel: its driver does that"))
				}
			case *ast.CallExpr:
				if isCall(n, "time", "Now") || isCall(n, "time", "Since") || isCall(n, "time", "AfterFunc") {
					out = append(out, t.at(n, "a pure file reads the clock: the time comes with the event"))
				}
			}
			return true
		})
	}
	return out
}
