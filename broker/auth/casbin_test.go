package auth

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/quorlog/quorlog/broker"
)

//go:embed testdata/model.conf
var goodModel string

const goodPolicy = `# who may do what
p, writers, topic:orders*, write, allow
p, User:alice, group:*, read, allow
p, User:eve, topic:*, all, deny
g, User:alice, writers
g, User:eve, writers
`

func openCasbin(t *testing.T, model, policy string) (*Casbin, error) {
	dir := t.TempDir()
	o := CasbinOptions{Model: filepath.Join(dir, "model.conf"), Policy: filepath.Join(dir, "policy.csv"), SuperUsers: []broker.Principal{"User:root"}}
	for path, text := range map[string]string{o.Model: model, o.Policy: policy} {
		if text == "missing" {
			continue
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return OpenCasbin(o)
}

func TestCasbin(t *testing.T) {
	c, err := openCasbin(t, goodModel, goodPolicy)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		user string
		op   broker.Operation
		on   broker.Resource
		want bool
	}{
		{"alice", broker.Write, broker.Topic("orders-eu"), true},
		{"alice", broker.Describe, broker.Topic("orders"), true},
		{"alice", broker.Read, broker.Topic("orders"), false},
		{"alice", broker.Write, broker.Topic("bills"), false},
		{"alice", broker.Read, broker.Group("g"), true},
		{"eve", broker.Write, broker.Topic("orders"), false},
		{"bob", broker.Write, broker.Topic("orders"), false},
		{"root", broker.Alter, broker.Cluster, true},
		{"alice", broker.Alter, broker.Cluster, false},
	} {
		for range 2 {
			if got := c.Allowed(caller(tc.user), tc.op, tc.on); got != tc.want {
				t.Errorf("%s %s %v: %v", tc.user, operationNames[tc.op], tc.on, got)
			}
		}
	}
	if c.AllowedSome(caller("bob"), broker.Write, broker.TopicResource) || !c.AllowedSome(caller("root"), broker.Write, broker.TopicResource) {
		t.Error("some")
	}
}

// TestCasbinFilesThatStopTheStart: nothing that is damaged may be taken for a policy, least of all for one that allows. The error
// says in which file, on which line if it is one line's fault, and why.
func TestCasbinFilesThatStopTheStart(t *testing.T) {
	const noSection = `is neither a [section] nor a definition, name = value`
	for name, tc := range map[string]struct{ model, policy, says string }{
		"no model":                {"missing", goodPolicy, "open model.conf: no such file or directory"},
		"no policy":               {goodModel, "missing", "open policy.csv: no such file or directory"},
		"empty model":             {" \n", goodPolicy, "model.conf is empty"},
		"empty policy":            {goodModel, "", "policy.csv is empty"},
		"comments only":           {goodModel, "# p, a, b, read, allow\n", "policy.csv:1: there is no rule"},
		"roles only":              {goodModel, "g, User:alice, writers\n", "policy.csv:1: there is no rule"},
		"garbage model":           {"hello\n", goodPolicy, `model.conf:1: "hello" ` + noSection},
		"garbage in a model":      {strings.Replace(goodModel, "m = ", "# all\n; in\nr2 = \\\n a\nlet in\nm = ", 1), goodPolicy, `model.conf:18: "let in" ` + noSection},
		"model without a matcher": {goodModel[:strings.Index(goodModel, "[matchers]")], goodPolicy, "model.conf: missing required sections: matchers"},
		"matcher cut off":         {strings.TrimSuffix(goodModel, "implies(p.act, r.act)\n"), goodPolicy, "model.conf:14: Unexpected end of expression"},
		"matcher of no truth":     {strings.Replace(goodModel, "m = g", "m = p.sub # g", 1), goodPolicy, "model.conf:14: matcher result should be bool, int or float"},
		"matcher of nothing":      {strings.Replace(goodModel, "g(r.sub", "g(r.user", 1), "p, writers, topic:orders*, write, allow\n", "model.conf:14: No parameter 'r_user' found."},
		"unknown function":        {strings.Replace(goodModel, "implies", "implied", 1), goodPolicy, "model.conf:14: Undefined function implied"},
		"unknown field":           {strings.Replace(goodModel, "r = sub", "r = subject", 1), goodPolicy, `model.conf:2: a request has no "subject": there are sub, host, type, name, obj and act`},
		"unknown effect": {strings.Replace(goodModel, "e = some(", "e = most(", 1), goodPolicy,
			"model.conf:11: Casbin has no such effect: most(where (p.eft == allow)) && !some(where (p.eft == deny))"},
		"roles of one":           {strings.Replace(goodModel, "g = _, _", "g = _", 1), "p, a, b, read, allow\ng, a\n", "model.conf:8: roles are defined by _, _ or, in domains, by _, _, _ and not by _"},
		"roles of one long mark": {strings.Replace(goodModel, "g = _, _", "g = _, __", 1), goodPolicy, "model.conf:8: roles are defined by _, _ or, in domains, by _, _, _ and not by _, __"},
		"effect misspelt":        {goodModel, goodPolicy + "p, User:bob, topic:*, all, Deny\n", `policy.csv:7: the effect is "Deny", neither allow nor deny`},
		"too few values":         {goodModel, goodPolicy + "\np, User:bob, topic:*, all\n", "policy.csv:8: 3 values where the model defines 4"},
		"too many values":        {goodModel, goodPolicy + "p, User:bob, topic:*, all, deny, x\n", "policy.csv:7: 5 values where the model defines 4"},
		"undefined kind":         {goodModel, goodPolicy + "q, User:bob\n", `policy.csv:7: the model does not define "q"`},
		"undefined second kind":  {goodModel, goodPolicy + "p2, User:bob, topic:*, all, deny\n", `policy.csv:7: the model does not define "p2"`},
		"bad quotes":             {goodModel, goodPolicy + "p, \"User:bob, topic:*, all, deny\np, a, b, read, allow\n", `policy.csv:7: extraneous or missing " in quoted-field`},
		"unknown operation":      {goodModel, goodPolicy + "p, *, topic:topic, reed, allow\ng, User:, *\n", `policy.csv:7: "reed" is no operation`},
		"one rule, and no such":  {goodModel, "p, User:, topic:topic, reed, allow\n", `policy.csv:1: "reed" is no operation`},
		"denies what is nothing": {goodModel, goodPolicy + "p, User:bob, topic:secret, reed, deny\n", `policy.csv:7: "reed" is no operation`},
		"bad regular expression": {strings.Replace(goodModel, "keyMatch", "regexMatch", 1), goodPolicy + "p, User:bob, topic:[, read, deny\n",
			"policy.csv:7: error parsing regexp: missing closing ]: `[`"},
	} {
		c, err := openCasbin(t, tc.model, tc.policy)
		if err == nil || c != nil {
			t.Errorf("%s: opened", name)
			continue
		}
		// It is for whoever must mend the file.
		if text := folders.ReplaceAllString(err.Error(), ""); !errors.Is(err, ErrCasbin) || text != "not a usable Casbin file: "+tc.says {
			t.Errorf("%s: %s", name, text)
		}
	}
}

// folders are what paths begin with.
var folders = regexp.MustCompile(`/\S*/`)

// TestCasbinForgets: clients choose the names that Casbin is asked about, and it must not keep them all.
func TestCasbinForgets(t *testing.T) {
	model := strings.NewReplacer("g = _, _\n", "g = _, _\ng2 = _, _\n", "keyMatch(r.obj, p.obj)", "g2(r.obj, p.obj)").Replace(goodModel)
	c, err := openCasbin(t, model, "p, User:alice, secret, read, allow\ng2, group:mine, secret\n")
	if err != nil {
		t.Fatal(err)
	}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	for i := range 4000 {
		if c.Allowed(caller("alice"), broker.Read, broker.Group(fmt.Sprint(i, strings.Repeat("x", 20<<10)))) {
			t.Fatal("allowed")
		}
	}
	if grown := heap() - before; grown > 2*mostRemembered {
		t.Errorf("it keeps %d MiB", grown>>20)
	}
	if !c.Allowed(caller("alice"), broker.Read, broker.Group("mine")) {
		t.Error("roles are forgotten, too")
	}
}

// TestCasbinFailuresDeny: a rule that can't be evaluated for a request denies it.
func TestCasbinFailuresDeny(t *testing.T) {
	model := strings.Replace(goodModel, "keyMatch(r.obj, p.obj)", `(r.obj != "topic:a" || ipMatch(r.obj, "10.0.0.0/8"))`, 1)
	c, err := openCasbin(t, model, "p, User:alice, topic:*, read, allow\ng, x, y\n")
	if err != nil {
		t.Fatal(err)
	}
	if !c.Allowed(caller("alice"), broker.Read, broker.Topic("b")) || c.Allowed(caller("alice"), broker.Read, broker.Topic("a")) {
		t.Error("not the one that can be decided")
	}
}
