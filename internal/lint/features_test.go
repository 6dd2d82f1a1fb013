package lint

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// docs/FEATURES.md links each feature to its test, and says which versions of each key are served. Both are held against the
// source here: a page of promises is worth what keeps it true.

var (
	testLink    = regexp.MustCompile(`\[(\w+)\]\(\.\./([^)]+_test\.go)\)`)
	apiVersions = regexp.MustCompile(`Min: (\d+), Max: (\d+), AdvertisedMin: (\d+)`)
)

// featureRows are the cells of all table rows that begin with a number, by table.
func featureRows(t *testing.T, text string) (tables [][][]string) {
	t.Helper()
	inside := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "|---") {
			tables, inside = append(tables, nil), true
			continue
		}
		if inside = inside && strings.HasPrefix(line, "| "); !inside {
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		tables[len(tables)-1] = append(tables[len(tables)-1], cells)
	}
	return tables
}

func TestFeatures(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "docs", "FEATURES.md"))
	if err != nil {
		t.Fatal(err)
	}
	tables := featureRows(t, string(text))
	if len(tables) != 6 || len(tables[0]) != 95 {
		t.Fatalf("%d tables", len(tables))
	}
	for i, table := range tables {
		for _, row := range table {
			ours, shown := row[len(row)-2], row[len(row)-1]
			there := !strings.HasPrefix(ours, "N") && !strings.HasPrefix(ours, "–")
			if there && !testLink.MatchString(shown) && !strings.HasPrefix(ours, "P") {
				t.Errorf("table %d, row %s (%s): %q, but no test shows it", i+1, row[0], row[1], ours)
			}
		}
	}
	for _, m := range testLink.FindAllStringSubmatch(string(text), -1) {
		source, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(m[2])))
		if err != nil || !strings.Contains(string(source), "\nfunc "+m[1]+"(") {
			t.Errorf("FEATURES.md: there is no %s in %s", m[1], m[2])
		}
	}
	checkVersions(t, tables[0])
}

// checkVersions holds the first table against the rows of broker/api.
func checkVersions(t *testing.T, rows [][]string) {
	t.Helper()
	served := map[int]string{}
	for _, f := range module(t).files {
		name := apiFile.FindStringSubmatch(f.name())
		if f.pkg != apiPackage || name == nil {
			continue
		}
		source, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(f.path)))
		if err != nil {
			t.Fatal(err)
		}
		m := apiVersions.FindStringSubmatch(string(source))
		key, err := strconv.Atoi(name[1])
		if m == nil || err != nil {
			t.Errorf("%s: no versions", path.Base(f.path))
			continue
		}
		served[key] = m[1] + "-" + m[2]
		if m[3] != m[1] {
			served[key] += " (says " + m[3] + ")"
		}
	}
	for _, row := range rows {
		key, err := strconv.Atoi(row[0])
		if err != nil {
			t.Fatalf("a row of key %q", row[0])
		}
		want := "–"
		if v, ok := served[key]; ok {
			want = v
		}
		if ours := row[len(row)-2]; ours != want {
			t.Errorf("FEATURES.md: key %d (%s) is served in %s, not %s", key, row[1], want, ours)
		}
		delete(served, key)
	}
	for key := range served {
		t.Errorf("FEATURES.md lacks key %d", key)
	}
}
