package lint

import (
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strings"
)

// exception lets a file do what a rule bans.
type exception struct {
	path string // the file, or a prefix that ends in a slash or a star
	why  string
}

func excepted(list []exception, file string) bool {
	return slices.ContainsFunc(list, func(e exception) bool {
		if prefix, ok := strings.CutSuffix(e.path, "*"); ok {
			return strings.HasPrefix(file, prefix)
		}
		return file == e.path || strings.HasSuffix(e.path, "/") && strings.HasPrefix(file, e.path)
	})
}

// rule bans something in some files. find reports each place.
type rule struct {
	name   string
	why    string
	holds  func(f *file) bool
	except []exception
	find   func(f *file, report func(n ast.Node, what string))
}

// The bans. Each is a way in which a system of this kind has gone wrong before.
var rules = []rule{
	{
		name:  "sleep",
		why:   "a test that sleeps is slow when it passes and wrong when the machine is busy: wait for the condition, or run in testing/synctest, where time is not real",
		holds: func(f *file) bool { return f.test },
		except: []exception{
			{"compat/faults/setup_test.go", "how long a fault lasts is what a test of it is about"},
			{"replication/raftgroup/idle_test.go", "a measurement, run by hand: of what nothing costs while time passes"},
		},
		find: findSleep,
	},
	{
		name:  "panic",
		why:   "bytes from outside get an error; a broken invariant of ours goes through internal/invariant, so that all can be found",
		holds: func(f *file) bool { return !f.generated },
		except: []exception{
			{"internal/invariant/", "it is the one place"},
			{"replication/raftgroup/meta_test.go", "a state machine has no way to fail a test from Raft's goroutine"},
		},
		find: func(f *file, report func(ast.Node, string)) {
			eachCall(f, func(c *ast.CallExpr) {
				if isIdent(c.Fun, "panic") {
					report(c, "panic")
				}
			})
		},
	},
	{
		name:  "error text",
		why:   "errors are told apart by errors.Is and errors.As: a text is for people and changes",
		holds: func(f *file) bool { return !f.generated },
		except: []exception{
			{"internal/config/config_test.go", "that a message helps whoever mistyped a setting is what is tested"},
			{"internal/config/cluster_test.go", "as for config_test.go"},
			{"internal/config/listeners_test.go", "as for config_test.go"},
			{"internal/config/expand_test.go", "as for config_test.go"},
			{"internal/invariant/invariant_test.go", "the formula in the message is what is tested"},
			{"replication/raftlog/votes_test.go", "hashicorp/raft knows an absent key by its text alone"},
			{"replication/transport/mem_test.go", "Error is a method of Raft's futures there, not a text"},
			{"log/damage_test.go", "that a message names the damaged file is tested, beside its type"},
		},
		find: findErrorText,
	},
	{
		name:  "clock",
		why:   "time comes through an injected clock, or tests can't hold it and skew it",
		holds: func(f *file) bool { return !f.test && f.under("log/", "replication/") },
		except: []exception{
			{"log/vfs/", "a watchdog measures real time"},
			{"replication/raftgroup/calm.go", "how long a leader was not heard of is compared with Raft's own timers, which run on real time: ticks"},
			{"replication/transport/", "deadlines of connections are the operating system's; Raft wants the start of an append"},
		},
		find: func(f *file, report func(ast.Node, string)) {
			eachCall(f, func(c *ast.CallExpr) {
				for _, name := range []string{"Now", "Since", "Until"} {
					if isCall(c, "time", name) {
						report(c, "time."+name)
					}
				}
			})
		},
	},
	{
		name:  "files",
		why:   "what is durable goes through log/vfs, where crashes and faults are tested, counted and watched",
		holds: func(f *file) bool { return !f.test && f.under("log/", "replication/") },
		except: []exception{
			{"log/vfs/", "it is the door"},
			{"replication/raftgroup/", "raft-boltdb and Raft's file snapshots open their own files"},
			{"replication/raftlog/", "bbolt opens its own file, for votes"},
		},
		find: findFileCalls,
	},
	{
		name:   "print",
		why:    "a node logs with log/slog; only commands write to the terminal",
		holds:  func(f *file) bool { return !f.generated && !f.under("cmd/", "compat/", "deploy/") },
		except: []exception{{"replication/raftgroup/hclog.go", "Raft's logger interface hands out a *log.Logger"}},
		find:   findPrint,
	},
	{
		name:  "log key",
		why:   "an error stands under \"error\" in every line, so that one query finds all",
		holds: func(f *file) bool { return !f.generated },
		find: func(f *file, report func(ast.Node, string)) {
			eachCall(f, func(c *ast.CallExpr) {
				sel, ok := c.Fun.(*ast.SelectorExpr)
				if ok && logMethod.MatchString(sel.Sel.Name) && slices.ContainsFunc(c.Args, isErrKey) {
					report(c, `"err"`)
				}
			})
		},
	},
	{
		name:  "left over",
		why:   "what is not done belongs into an issue, where it is seen",
		holds: func(f *file) bool { return !f.generated },
		find: func(f *file, report func(ast.Node, string)) {
			for _, group := range f.ast.Comments {
				for _, c := range group.List {
					if m := leftOver.FindString(c.Text); m != "" {
						report(c, m)
					}
				}
			}
		},
	},
}

var leftOver = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b`)

// logMethod are the methods of a slog.Logger that take keys, and the makers of attributes.
var logMethod = regexp.MustCompile(`^((Debug|Info|Warn|Error|Log)(Context)?|With|Any|String)$`)

func isErrKey(e ast.Expr) bool {
	lit, ok := e.(*ast.BasicLit)
	return ok && lit.Value == `"err"`
}

// under tells whether the file lies below one of the directories.
func (f *file) under(dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return strings.HasPrefix(f.path, d) })
}

// checkBanned applies the rules.
func checkBanned(t *tree, rules []rule) (out []finding) {
	for _, r := range rules {
		for _, f := range t.files {
			if !r.holds(f) || excepted(r.except, f.path) {
				continue
			}
			r.find(f, func(n ast.Node, what string) {
				out = append(out, t.at(n, "%s (%s): %s", what, r.name, r.why))
			})
		}
	}
	return out
}

// unusedExceptions finds exceptions for files that no longer exist, so that the tables stay true.
func unusedExceptions(t *tree, rules []rule) (out []finding) {
	for _, r := range rules {
		for _, e := range r.except {
			if !slices.ContainsFunc(t.files, func(f *file) bool { return excepted([]exception{e}, f.path) }) {
				out = append(out, finding{e.path, "is excepted from the rule " + r.name + " and does not exist"})
			}
		}
	}
	return out
}

func eachCall(f *file, fn func(c *ast.CallExpr)) {
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if c, ok := n.(*ast.CallExpr); ok {
			fn(c)
		}
		return true
	})
}

// findSleep finds time.Sleep, and what comes to the same, <-time.After alone, outside bubbles. In a bubble are: function literals that are passed to synctest.Test, the
// functions that are passed to it by name, and what such functions of the same file call, as far as nothing outside does.
// A file whose bubbles are made by a helper of another file says so in a comment: see bubbleDirective.
func findSleep(f *file, report func(ast.Node, string)) {
	if hasDirective(f, bubbleDirective) {
		return
	}
	bubbles, cases := bubbleFuncs(f), map[ast.Stmt]bool{}
	for _, decl := range f.ast.Decls {
		if d, ok := decl.(*ast.FuncDecl); ok && bubbles[d.Name.Name] {
			continue
		}
		ast.Inspect(decl, func(n ast.Node) bool {
			c, ok := n.(*ast.CallExpr)
			if ok && isCall(c, "synctest", "Test") {
				return false
			}
			if ok && isCall(c, "time", "Sleep") {
				report(c, "time.Sleep")
			}
			if clause, ok := n.(*ast.CommClause); ok {
				cases[clause.Comm] = true // it bounds a wait for something else
			}
			if s, ok := n.(*ast.ExprStmt); ok && isPause(s) && !cases[s] {
				report(n, "waiting for time.After alone")
			}
			return true
		})
	}
}

// isPause tells whether a statement is <-time.After(...).
func isPause(s *ast.ExprStmt) bool {
	u, ok := s.X.(*ast.UnaryExpr)
	if !ok || u.Op != token.ARROW {
		return false
	}
	c, ok := u.X.(*ast.CallExpr)
	return ok && isCall(c, "time", "After")
}

// bubbleDirective marks a test file in which every sleep runs in a bubble that a helper of another file makes.
const bubbleDirective = "//quorlog:bubble"

func hasDirective(f *file, directive string) bool {
	for _, group := range f.ast.Comments {
		for _, c := range group.List {
			if strings.HasPrefix(c.Text, directive) {
				return true
			}
		}
	}
	return false
}

// bubbleFuncs are the file's functions that are mentioned inside bubbles and nowhere else.
func bubbleFuncs(f *file) map[string]bool {
	declared := map[string]*ast.FuncDecl{}
	for _, decl := range f.ast.Decls {
		if d, ok := decl.(*ast.FuncDecl); ok {
			declared[d.Name.Name] = d
		}
	}
	inside := map[string]bool{}
	for changed := true; changed; {
		changed = false
		outside := mentionsOutside(f, declared, inside)
		for name := range mentionsInside(f, declared, inside) {
			if !inside[name] && !outside[name] {
				inside[name], changed = true, true
			}
		}
	}
	return inside
}

// mentionsOutside are the declared functions that are named in code that is in no bubble.
func mentionsOutside(f *file, declared map[string]*ast.FuncDecl, inside map[string]bool) map[string]bool {
	out := map[string]bool{}
	for _, decl := range f.ast.Decls {
		d, isFunc := decl.(*ast.FuncDecl)
		if isFunc && inside[d.Name.Name] {
			continue
		}
		ast.Inspect(decl, func(n ast.Node) bool {
			if c, ok := n.(*ast.CallExpr); ok && isCall(c, "synctest", "Test") {
				return false
			}
			// A function's own name, and its calls of itself, say nothing of where it is used.
			if id, ok := n.(*ast.Ident); ok && declared[id.Name] != nil && (!isFunc || id.Name != d.Name.Name) {
				out[id.Name] = true
			}
			return true
		})
	}
	return out
}

// mentionsInside are the declared functions that are named in bubbles.
func mentionsInside(f *file, declared map[string]*ast.FuncDecl, inside map[string]bool) map[string]bool {
	out := map[string]bool{}
	note := func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && declared[id.Name] != nil {
			out[id.Name] = true
		}
		return true
	}
	eachCall(f, func(c *ast.CallExpr) {
		if isCall(c, "synctest", "Test") {
			for _, arg := range c.Args {
				ast.Inspect(arg, note)
			}
		}
	})
	for name := range inside {
		ast.Inspect(declared[name].Body, note)
	}
	return out
}

// findErrorText finds x.Error() in comparisons, switches, and calls that search texts.
func findErrorText(f *file, report func(ast.Node, string)) {
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			if (n.Op == token.EQL || n.Op == token.NEQ) && (isErrorText(n.X) || isErrorText(n.Y)) {
				report(n, "comparing an error's text")
			}
		case *ast.SwitchStmt:
			if n.Tag != nil && isErrorText(n.Tag) {
				report(n, "switching on an error's text")
			}
		case *ast.CallExpr:
			sel, ok := n.Fun.(*ast.SelectorExpr)
			if !ok || !slices.ContainsFunc(n.Args, isErrorText) {
				return true
			}
			switch name := sel.Sel.Name; name {
			case "Contains", "HasPrefix", "HasSuffix", "EqualFold", "Index", "Cut", "CutPrefix", "CutSuffix", "MatchString", "FindString", "FindStringSubmatch":
				report(n, "searching an error's text")
			}
		}
		return true
	})
}

// isErrorText tells whether an expression is x.Error(), or a change of case of it.
func isErrorText(e ast.Expr) bool {
	c, ok := e.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := c.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	if sel.Sel.Name == "Error" && len(c.Args) == 0 {
		return true
	}
	return isIdent(sel.X, "strings") && len(c.Args) > 0 && isErrorText(c.Args[0])
}

// findFileCalls finds what touches files without asking log/vfs: anything of os but what only names errors and types, and
// anything of syscall and unix but error numbers.
func findFileCalls(f *file, report func(ast.Node, string)) {
	known := importsOf(f.ast)
	harmless := map[string]bool{"ErrNotExist": true, "ErrExist": true, "ErrClosed": true, "FileInfo": true, "FileMode": true, "PathError": true, "LinkError": true}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		id, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		name := sel.Sel.Name
		switch known[id.Name] {
		case "os", "io/ioutil":
			if !harmless[name] {
				report(sel, id.Name+"."+name)
			}
		case "syscall", "golang.org/x/sys/unix":
			if name != "Errno" && !errnoName.MatchString(name) {
				report(sel, id.Name+"."+name)
			}
		}
		return true
	})
}

var errnoName = regexp.MustCompile(`^E[A-Z0-9]+$`)

// findPrint finds what writes to the terminal, and the standard library's log.
func findPrint(f *file, report func(ast.Node, string)) {
	for _, spec := range f.ast.Imports {
		if importPath(spec) == "log" {
			report(spec, "package log")
		}
	}
	eachCall(f, func(c *ast.CallExpr) {
		for _, name := range []string{"Print", "Printf", "Println"} {
			if isCall(c, "fmt", name) {
				report(c, "fmt."+name)
			}
		}
		if isIdent(c.Fun, "print") || isIdent(c.Fun, "println") {
			report(c, "print")
		}
	})
}
