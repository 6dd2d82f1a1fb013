package lint

import (
	"bufio"
	"bytes"
	"fmt"
	"go/ast"
	"strconv"
	"strings"
)

// limits of production code, by kind. They mark the point where a reader loses the thread, not where code is good.
var limits = map[string]int{
	"file":      500, // lines
	"func":      70,  // lines, from func to the closing brace
	"struct":    30,  // fields
	"interface": 8,   // methods and embedded interfaces
	"type":      35,  // methods
}

// sizes measures production code: "kind name" -> size. Names are "log/append.go" for files and "log.(*Log).Append" for
// what is inside.
func sizes(t *tree) map[string]int {
	out := map[string]int{}
	for _, f := range t.production() {
		out["file "+f.path] = f.lines
		for _, decl := range f.ast.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				out["func "+funcName(f, d)] += t.fset.Position(d.End()).Line - t.fset.Position(d.Pos()).Line + 1
				if recv := receiver(d); recv != "" {
					out["type "+f.pkg+"."+strings.TrimPrefix(recv, "*")]++
				}
			case *ast.GenDecl:
				sizeTypes(f, d, out)
			}
		}
	}
	return out
}

func sizeTypes(f *file, d *ast.GenDecl, out map[string]int) {
	for _, spec := range d.Specs {
		ts, ok := spec.(*ast.TypeSpec)
		if !ok {
			continue
		}
		name := f.pkg + "." + ts.Name.Name
		switch typ := ts.Type.(type) {
		case *ast.StructType:
			out["struct "+name] = countFields(typ.Fields)
		case *ast.InterfaceType:
			out["interface "+name] = countFields(typ.Methods)
		}
	}
}

// countFields counts the names; a field that is itself a struct without a name (as in `mu struct{ ... }`) counts with all
// that is in it, or it would be the way around the limit.
func countFields(l *ast.FieldList) (n int) {
	for _, field := range l.List {
		n += max(1, len(field.Names))
		if inner, ok := field.Type.(*ast.StructType); ok {
			n += countFields(inner.Fields)
		}
	}
	return n
}

// receiver is "T" or "*T", empty for a function.
func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return ""
	}
	typ, star := d.Recv.List[0].Type, ""
	if p, ok := typ.(*ast.StarExpr); ok {
		typ, star = p.X, "*"
	}
	switch generic := typ.(type) {
	case *ast.IndexExpr:
		typ = generic.X
	case *ast.IndexListExpr:
		typ = generic.X
	}
	if id, ok := typ.(*ast.Ident); ok {
		return star + id.Name
	}
	return ""
}

func funcName(f *file, d *ast.FuncDecl) string {
	switch recv := receiver(d); {
	case recv == "" && (d.Name.Name == "init" || d.Name.Name == "_"):
		return f.path + "." + d.Name.Name // there may be one in each file
	case recv == "":
		return f.pkg + "." + d.Name.Name
	case recv[0] == '*':
		return fmt.Sprintf("%s.(%s).%s", f.pkg, recv, d.Name.Name)
	default:
		return fmt.Sprintf("%s.%s.%s", f.pkg, recv, d.Name.Name)
	}
}

// ratchet holds the exceptions from the limits: "kind name" -> the size that is allowed. A number may only go down.
type ratchet map[string]int

// parseRatchet reads lines of the form "kind name size", in order; # begins a comment.
func parseRatchet(text []byte) (ratchet, error) {
	out := ratchet{}
	last := ""
	scan := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; scan.Scan(); n++ {
		line, _, _ := strings.Cut(scan.Text(), "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if len(words) != 3 {
			return nil, fmt.Errorf("line %d: want kind, name and size", n)
		}
		limit, known := limits[words[0]]
		size, err := strconv.Atoi(words[2])
		key := words[0] + " " + words[1]
		switch {
		case !known:
			return nil, fmt.Errorf("line %d: there is no limit for a %s", n, words[0])
		case err != nil:
			return nil, fmt.Errorf("line %d: %w", n, err)
		case size <= limit:
			return nil, fmt.Errorf("line %d: %d is within the limit of %d", n, size, limit)
		case key <= last:
			return nil, fmt.Errorf("line %d: %q is out of order or comes twice", n, key)
		}
		last, out[key] = key, size
	}
	return out, scan.Err()
}

// checkSizes holds the sizes against the limits and the exceptions.
func checkSizes(sizes map[string]int, allowed ratchet) (out []finding) {
	for key, size := range sizes {
		kind, name, _ := strings.Cut(key, " ")
		limit := limits[kind]
		exception, excepted := allowed[key]
		switch {
		case excepted && size <= limit:
			out = append(out, finding{name, fmt.Sprintf("has %d, within the limit of %d: delete its line in the ratchet", size, limit)})
		case excepted && size > exception:
			out = append(out, finding{name, fmt.Sprintf("has grown to %d %s; the ratchet allows %d and may only go down", size, unit(kind), exception)})
		case excepted && size < exception:
			out = append(out, finding{name, fmt.Sprintf("has shrunk to %d: say so in the ratchet (now %d), so that it can't grow again", size, exception)})
		case !excepted && size > limit:
			out = append(out, finding{name, fmt.Sprintf("has %d %s, more than %d: split it where a part has a name of its own", size, unit(kind), limit)})
		}
	}
	for key := range allowed {
		if _, exists := sizes[key]; !exists {
			out = append(out, finding{key, "is in the ratchet but not in the source: delete its line"})
		}
	}
	return out
}

func unit(kind string) string {
	switch kind {
	case "file", "func":
		return "lines"
	case "struct":
		return "fields"
	}
	return "methods"
}

// tighten rewrites the ratchet for the present sizes: lower numbers and fewer lines, never a higher one or a new one.
// Comments stay, those behind a line with their line.
func tighten(text []byte, sizes map[string]int) []byte {
	var out strings.Builder
	for line := range strings.Lines(string(text)) {
		code, comment, commented := strings.Cut(line, "#")
		words := strings.Fields(code)
		if len(words) != 3 {
			out.WriteString(line)
			continue
		}
		allowed, err := strconv.Atoi(words[2])
		now := min(allowed, sizes[words[0]+" "+words[1]])
		if err != nil || now <= limits[words[0]] {
			continue
		}
		fmt.Fprintf(&out, "%s %s %d", words[0], words[1], now)
		if commented {
			out.WriteString(" #" + strings.TrimRight(comment, "\n"))
		}
		out.WriteString("\n")
	}
	return []byte(out.String())
}
