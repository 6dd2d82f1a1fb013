package lint

import (
	"fmt"
	"go/ast"
	"path"
	"regexp"
	"strconv"
	"strings"
)

const apiPackage = "broker/api"

// apiFile is the name of a key's file: its number and its name.
var apiFile = regexp.MustCompile(`^(\d\d)_([a-z_]+)\.go$`)

// apiRow is a row of the API table, as its source says it.
type apiRow struct {
	file *file
	name string // of the variable
	key  int    // -1: not found
	doc  string
	node ast.Node
}

// checkAPITable wants the directory listing of broker/api to be the support matrix: each NN_name.go declares exactly one
// Row variable, named like the file, of that key, with a head comment; Table lists each of them once, by key.
func checkAPITable(t *tree) (out []finding) {
	numbers := keyNumbers(t)
	rows := map[string]apiRow{}
	var listed []*ast.Ident
	for _, f := range t.production() {
		if f.pkg != apiPackage {
			continue
		}
		found := rowsOf(f, numbers)
		for _, r := range found {
			rows[r.name] = r
			out = append(out, checkRow(t, r)...)
		}
		if apiFile.MatchString(f.name()) && len(found) != 1 {
			out = append(out, finding{f.path, fmt.Sprintf("has %d rows of the API table, want exactly one", len(found))})
		}
		listed = append(listed, tableEntries(f)...)
	}
	last := -1
	for _, id := range listed {
		r, known := rows[id.Name]
		switch {
		case !known:
			out = append(out, t.at(id, "Table lists %s, which is no row of a file NN_name.go, or lists it twice", id.Name))
		case r.key <= last:
			out = append(out, t.at(id, "Table lists %s out of order: by key, so that ApiVersions and readers find it", id.Name))
		}
		last = max(last, r.key)
		delete(rows, id.Name)
	}
	for _, r := range rows {
		out = append(out, t.at(r.node, "%s is not in Table: the key has a file but is not served", r.name))
	}
	return out
}

func checkRow(t *tree, r apiRow) (out []finding) {
	m := apiFile.FindStringSubmatch(r.file.name())
	if m == nil {
		return []finding{t.at(r.node, "%s stands in %s: a row belongs to the file NN_name.go of its key", r.name, r.file.name())}
	}
	if n, _ := strconv.Atoi(m[1]); n != r.key {
		out = append(out, t.at(r.node, "%s is of key %d, its file says %s", r.name, r.key, m[1]))
	}
	if want := strings.ReplaceAll(m[2], "_", "") + "row"; strings.ToLower(r.name) != want {
		out = append(out, t.at(r.node, "%s is not named like its file, %s", r.name, r.file.name()))
	}
	if !strings.Contains(r.doc, fmt.Sprintf("key %d,", r.key)) || !strings.Contains(r.doc, "version") {
		out = append(out, t.at(r.node, "%s has no head comment with its key, its versions and how they behave", r.name))
	}
	return out
}

// rowsOf finds the variables of type Row that a file declares.
func rowsOf(f *file, numbers map[string]int) (out []apiRow) {
	for _, decl := range f.ast.Decls {
		d, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range d.Specs {
			vs, ok := spec.(*ast.ValueSpec)
			if !ok || len(vs.Names) != 1 || len(vs.Values) != 1 {
				continue
			}
			lit, ok := vs.Values[0].(*ast.CompositeLit)
			if !ok || !isIdent(lit.Type, "Row") {
				continue
			}
			doc := d.Doc.Text() + vs.Doc.Text()
			out = append(out, apiRow{f, vs.Names[0].Name, rowKey(lit, numbers), doc, vs})
		}
	}
	return out
}

func rowKey(lit *ast.CompositeLit, numbers map[string]int) int {
	for _, e := range lit.Elts {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok || !isIdent(kv.Key, "Key") {
			continue
		}
		if sel, ok := kv.Value.(*ast.SelectorExpr); ok {
			if n, ok := numbers[sel.Sel.Name]; ok {
				return n
			}
		}
	}
	return -1
}

// tableEntries are the elements of the slice that func Table returns.
func tableEntries(f *file) (out []*ast.Ident) {
	for _, decl := range f.ast.Decls {
		d, ok := decl.(*ast.FuncDecl)
		if !ok || d.Recv != nil || d.Name.Name != "Table" {
			continue
		}
		ast.Inspect(d.Body, func(n ast.Node) bool {
			if lit, ok := n.(*ast.CompositeLit); ok {
				for _, e := range lit.Elts {
					if id, ok := e.(*ast.Ident); ok {
						out = append(out, id)
					}
				}
			}
			return true
		})
	}
	return out
}

// keyNumbers are the constants of kafkaproto whose type is Key.
func keyNumbers(t *tree) map[string]int {
	out := map[string]int{}
	for _, f := range t.files {
		if path.Base(f.pkg) != "kafkaproto" || f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			vs, ok := n.(*ast.ValueSpec)
			if !ok || !isIdent(vs.Type, "Key") || len(vs.Names) != 1 || len(vs.Values) != 1 {
				return true
			}
			if lit, ok := vs.Values[0].(*ast.BasicLit); ok {
				if number, err := strconv.Atoi(lit.Value); err == nil {
					out[vs.Names[0].Name] = number
				}
			}
			return true
		})
	}
	return out
}
