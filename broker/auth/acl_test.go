package auth

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/casbin/casbin/v2"
	"github.com/casbin/casbin/v2/model"
	"pgregory.net/rapid"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/replication/controller"
)

var home = netip.MustParseAddr("10.0.0.1")

func caller(name string) broker.Caller {
	return broker.Caller{Principal: broker.Principal("User:" + name), Host: home}
}

// rule reads "allow alice read topic orders", with "10.0.0.9" or "*" after it, and a resource like "orders*" for a prefix.
func rule(t testing.TB, text string) controller.ACL {
	t.Helper()
	w := strings.Fields(text)
	if len(w) == 5 {
		w = append(w, "*")
	}
	a := controller.ACL{Principal: "User:" + w[1], Name: w[4], Host: w[5], Pattern: controller.LiteralPattern, Permission: controller.Allow}
	if w[0] == "deny" {
		a.Permission = controller.Deny
	}
	for op, name := range operationNames {
		if name == w[2] {
			a.Operation = int8(op)
		}
	}
	for kind, name := range typeNames {
		if name == w[3] {
			a.ResourceType = int8(kind)
		}
	}
	if len(a.Name) > 1 && strings.HasSuffix(a.Name, "*") {
		a.Name, a.Pattern = strings.TrimSuffix(a.Name, "*"), controller.PrefixedPattern
	}
	if err := controller.ValidateACL(a); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return a
}

func byRules(t testing.TB, o ACLOptions, texts ...string) *ACLs {
	set := &controller.ACLs{}
	for _, text := range texts {
		set.Rules = append(set.Rules, rule(t, text))
	}
	o.Rules = func() (*controller.ACLs, bool) { return set, true }
	return NewACLs(o)
}

func TestACLs(t *testing.T) {
	orders := broker.Topic("orders")
	for name, tc := range map[string]struct {
		rules []string
		open  bool
		op    broker.Operation
		on    broker.Resource
		want  bool
	}{
		"no rules":                         {nil, false, broker.Read, orders, false},
		"no rules, open":                   {nil, true, broker.Read, orders, true},
		"open, but a rule is about it":     {[]string{"allow bob read topic orders"}, true, broker.Read, orders, false},
		"open, and a rule about another":   {[]string{"deny alice read topic bills"}, true, broker.Read, orders, true},
		"open, a prefix is about it":       {[]string{"allow bob read topic or*"}, true, broker.Read, orders, false},
		"literal":                          {[]string{"allow alice read topic orders"}, false, broker.Read, orders, true},
		"another type":                     {[]string{"allow alice read group orders"}, false, broker.Read, orders, false},
		"another operation":                {[]string{"allow alice read topic orders"}, false, broker.Write, orders, false},
		"another user":                     {[]string{"allow bob read topic orders"}, false, broker.Read, orders, false},
		"everybody":                        {[]string{"allow * read topic orders"}, false, broker.Read, orders, true},
		"all topics":                       {[]string{"allow alice read topic *"}, false, broker.Read, orders, true},
		"prefix":                           {[]string{"allow alice read topic ord*"}, false, broker.Read, orders, true},
		"the whole name as prefix":         {[]string{"allow alice read topic orders*"}, false, broker.Read, orders, true},
		"longer prefix":                    {[]string{"allow alice read topic orders-*"}, false, broker.Read, orders, false},
		"other host":                       {[]string{"allow alice read topic orders 10.0.0.9"}, false, broker.Read, orders, false},
		"this host":                        {[]string{"allow alice read topic orders 10.0.0.1"}, false, broker.Read, orders, true},
		"this host as IPv6":                {[]string{"allow alice read topic orders ::ffff:10.0.0.1"}, false, broker.Read, orders, true},
		"all operations":                   {[]string{"allow alice all topic orders"}, false, broker.AlterConfigs, orders, true},
		"read implies describe":            {[]string{"allow alice read topic orders"}, false, broker.Describe, orders, true},
		"alter implies describe":           {[]string{"allow alice alter topic orders"}, false, broker.Describe, orders, true},
		"create does not imply describe":   {[]string{"allow alice create topic orders"}, false, broker.Describe, orders, false},
		"alter configs implies describe":   {[]string{"allow alice alter-configs topic orders"}, false, broker.DescribeConfigs, orders, true},
		"deny read leaves describe":        {[]string{"deny alice read topic orders", "allow alice write topic orders"}, false, broker.Describe, orders, true},
		"deny wins over a literal allow":   {[]string{"allow alice read topic orders", "deny * all topic * *"}, false, broker.Read, orders, false},
		"deny by prefix wins":              {[]string{"allow alice read topic orders", "deny alice read topic o*"}, false, broker.Read, orders, false},
		"deny of another host":             {[]string{"allow alice read topic orders", "deny alice read topic orders 10.0.0.9"}, false, broker.Read, orders, true},
		"deny describe leaves no describe": {[]string{"allow alice read topic orders", "deny alice describe topic orders"}, false, broker.Describe, orders, false},
		"cluster":                          {[]string{"allow alice alter cluster kafka-cluster"}, false, broker.Alter, broker.Cluster, true},
		"no type":                          {[]string{"allow alice all topic *"}, true, broker.Alter, broker.Resource{Type: 99, Name: "x"}, false},
	} {
		a := byRules(t, ACLOptions{OpenByDefault: tc.open}, tc.rules...)
		for _, how := range []string{"", " from memory"} {
			if got := a.Allowed(caller("alice"), tc.op, tc.on); got != tc.want {
				t.Errorf("%s%s: %v", name, how, got)
			}
		}
	}
}

func TestSuperUsers(t *testing.T) {
	a := byRules(t, ACLOptions{SuperUsers: []broker.Principal{"User:root"}}, "deny * all topic *", "deny root all topic x")
	if !a.Allowed(caller("root"), broker.Write, broker.Topic("x")) || !a.AllowedSome(caller("root"), broker.Write, broker.TopicResource) {
		t.Error("a super user was denied")
	}
	if a.Allowed(caller("toor"), broker.Write, broker.Topic("x")) {
		t.Error("somebody else was not")
	}
}

// TestUnknownRulesAllowNothing: a node that has not read the metadata must not take that for no rules.
func TestUnknownRulesAllowNothing(t *testing.T) {
	a := NewACLs(ACLOptions{Rules: func() (*controller.ACLs, bool) { return nil, false }, OpenByDefault: true, SuperUsers: []broker.Principal{"User:root"}})
	if a.Allowed(caller("alice"), broker.Read, broker.Topic("x")) || a.AllowedSome(caller("alice"), broker.Write, broker.TopicResource) {
		t.Error("allowed without rules")
	}
	if !a.Allowed(caller("root"), broker.Read, broker.Topic("x")) {
		t.Error("a super user was denied")
	}
}

// TestRulesOfAnotherVersion: what this version can't match allows nothing, and denies no less than was meant.
func TestRulesOfAnotherVersion(t *testing.T) {
	net, unknown := rule(t, "deny alice read topic orders"), rule(t, "allow alice read topic orders")
	net.Host, unknown.Host = "10.1.0.0/16", "10.0.0.0/16"
	set := &controller.ACLs{Rules: []controller.ACL{rule(t, "allow * all topic *"), unknown}}
	a := NewACLs(ACLOptions{Rules: func() (*controller.ACLs, bool) { return set, true }})
	if !a.Allowed(caller("alice"), broker.Read, broker.Topic("orders")) {
		t.Error("denied by a rule that allows")
	}
	set = &controller.ACLs{Rules: []controller.ACL{unknown}}
	if a.Allowed(caller("alice"), broker.Read, broker.Topic("orders")) {
		t.Error("allowed at a host that is no address")
	}
	set = &controller.ACLs{Rules: []controller.ACL{rule(t, "allow * all topic *"), net}}
	if a.Allowed(caller("alice"), broker.Read, broker.Topic("orders")) || !a.Allowed(caller("bob"), broker.Read, broker.Topic("orders")) {
		t.Error("a denial at a host that is no address holds everywhere, for alice")
	}
}

// TestAChangeOfRulesHoldsAtOnce: nothing that was decided by old rules outlives them.
func TestAChangeOfRulesHoldsAtOnce(t *testing.T) {
	allow := &controller.ACLs{Rules: []controller.ACL{rule(t, "allow alice read topic orders")}}
	now := allow
	a := NewACLs(ACLOptions{Rules: func() (*controller.ACLs, bool) { return now, true }})
	for i := range 4 {
		if now = allow; i%2 == 1 {
			now = nil
		}
		for range 2 {
			if got := a.Allowed(caller("alice"), broker.Read, broker.Topic("orders")); got != (now != nil) {
				t.Errorf("step %d: %v", i, got)
			}
		}
	}
}

func TestAllowedSome(t *testing.T) {
	for name, tc := range map[string]struct {
		rules []string
		want  bool
	}{
		"nothing":                         {nil, false},
		"one topic":                       {[]string{"allow alice write topic a"}, true},
		"all":                             {[]string{"allow alice all topic *"}, true},
		"another operation":               {[]string{"allow alice read topic a"}, false},
		"another host":                    {[]string{"allow alice write topic a 10.0.0.9"}, false},
		"denied literally":                {[]string{"allow alice write topic a", "deny alice write topic a"}, false},
		"denied by prefix":                {[]string{"allow alice write topic abc", "deny * write topic ab*"}, false},
		"one of two denied":               {[]string{"allow alice write topic abc", "allow alice write topic x", "deny * write topic ab*"}, true},
		"prefix in a denied prefix":       {[]string{"allow alice write topic abc*", "deny * write topic ab*"}, false},
		"prefix around a denied one":      {[]string{"allow alice write topic a*", "deny * write topic ab*"}, true},
		"all but what begins with h":      {[]string{"allow alice write topic *", "deny alice write topic h*"}, true},
		"everything denied":               {[]string{"allow alice write topic a", "deny alice all topic *"}, false},
		"a literal denied leaves a prefx": {[]string{"allow alice write topic a*", "deny alice write topic a"}, true},
	} {
		if got := byRules(t, ACLOptions{}, tc.rules...).AllowedSome(caller("alice"), broker.Write, broker.TopicResource); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// reference is the same rules as a Casbin model, in other words: the index is held against it.
const reference = `
[request_definition]
r = sub, host, type, name, act
[policy_definition]
p = sub, host, type, pattern, name, act, eft
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = (p.sub == "User:*" || p.sub == r.sub) && (p.host == "*" || p.host == r.host) && p.type == r.type && \
    (p.pattern == "literal" && (p.name == "*" || p.name == r.name) || p.pattern == "prefixed" && begins(r.name, p.name)) && \
    (p.act == "all" || p.act == r.act || p.eft == "allow" && r.act == "describe" && (p.act == "read" || p.act == "write" || p.act == "delete" || p.act == "alter") || \
     p.eft == "allow" && r.act == "describe-configs" && p.act == "alter-configs")
`

func TestIndexAgainstCasbin(t *testing.T) {
	users, names := []string{"User:alice", "User:bob", "User:*"}, []string{"a", "ab", "abc", "b", "*", "aba", "abb", "ac", "abcde"}
	hosts := []string{"10.0.0.1", "::1", "*"}
	rapid.Check(t, func(t *rapid.T) {
		pick := func(from []string, what string) string { return rapid.SampledFrom(from).Draw(t, what) }
		op := func() broker.Operation { return broker.Operation(rapid.IntRange(2, 15).Draw(t, "operation")) }
		set := &controller.ACLs{}
		for range rapid.IntRange(0, 12).Draw(t, "rules") {
			set.Rules = append(set.Rules, controller.ACL{
				ResourceType: int8(rapid.IntRange(2, 3).Draw(t, "type")), Name: pick(names, "name"), Pattern: rapid.SampledFrom([]controller.PatternType{3, 4}).Draw(t, "pattern"),
				Principal: pick(users, "principal"), Host: pick(hosts, "host"), Operation: int8(op()),
				Permission: rapid.SampledFrom([]controller.Permission{2, 3, 3}).Draw(t, "permission"),
			})
		}
		oracle := referenceFor(t, set.Rules)
		a := NewACLs(ACLOptions{Rules: func() (*controller.ACLs, bool) { return set, true }})
		for range 5 {
			c := broker.Caller{Principal: broker.Principal(pick(users[:2], "caller")), Host: netip.MustParseAddr(pick(hosts[:2], "from"))}
			asked, on := max(op(), broker.Read), broker.Resource{Type: broker.ResourceType(rapid.IntRange(2, 3).Draw(t, "asked type")), Name: pick(append(names[:4:4], "abcd", "abcdef", "abbc", "ad", "c"), "asked")}
			want, err := oracle.Enforce(string(c.Principal), c.Host.String(), typeNames[on.Type], on.Name, operationNames[asked])
			if err != nil {
				t.Fatal(err)
			}
			if got := a.Allowed(c, asked, on); got != want {
				t.Fatalf("%s by %s at %s on %v: %v, Casbin says %v; rules %+v", operationNames[asked], c.Principal, c.Host, on, got, want, set.Rules)
			}
		}
	})
}

// TestIndexAgainstEachRule: many rules whose prefixes lie within each other, held against looking at them one by one.
func TestIndexAgainstEachRule(t *testing.T) {
	name, principals := rapid.StringMatching(`[ab]{1,7}`), []string{"User:alice", "User:bob", everybody}
	matches := func(a *controller.ACL, topic string) bool {
		if a.Principal != "User:alice" && a.Principal != everybody {
			return false
		}
		if a.Pattern == controller.PrefixedPattern {
			return strings.HasPrefix(topic, a.Name)
		}
		return a.Name == topic
	}
	rapid.Check(t, func(t *rapid.T) {
		set := &controller.ACLs{}
		for range rapid.IntRange(0, 40).Draw(t, "rules") {
			set.Rules = append(set.Rules, controller.ACL{
				ResourceType: int8(broker.TopicResource), Name: name.Draw(t, "name"), Pattern: rapid.SampledFrom([]controller.PatternType{3, 4, 4}).Draw(t, "pattern"),
				Principal: rapid.SampledFrom(principals).Draw(t, "principal"), Host: wildcard, Operation: int8(broker.Read),
				Permission: rapid.SampledFrom([]controller.Permission{2, 3, 3}).Draw(t, "permission"),
			})
		}
		x := newIndex(set)
		for range 20 {
			topic, allowed, denied := name.Draw(t, "topic"), false, false
			for i := range set.Rules {
				if a := &set.Rules[i]; matches(a, topic) {
					allowed, denied = allowed || a.Permission == controller.Allow, denied || a.Permission == controller.Deny
				}
			}
			if got := x.allows(newQuestion(caller("alice"), broker.Read, broker.Topic(topic)), false); got != (allowed && !denied) {
				t.Fatalf("%s: %v; rules %+v", topic, got, set.Rules)
			}
		}
	})
}

// TestAllowedSomeAgainstAllowed: there is a name that is allowed exactly if AllowedSome says so. The names tried are enough: whatever
// else a pattern stands for is decided as one of them is.
func TestAllowedSomeAgainstAllowed(t *testing.T) {
	patterns := []string{"a", "ab", "abc", "b", "*"}
	var tried []string
	for _, p := range append(patterns, "c") {
		tried = append(tried, p, p+"z", "z")
	}
	rapid.Check(t, func(t *rapid.T) {
		set := &controller.ACLs{}
		for range rapid.IntRange(0, 8).Draw(t, "rules") {
			set.Rules = append(set.Rules, controller.ACL{
				ResourceType: 2, Name: rapid.SampledFrom(patterns).Draw(t, "name"), Pattern: rapid.SampledFrom([]controller.PatternType{3, 4}).Draw(t, "pattern"),
				Principal: rapid.SampledFrom([]string{"User:alice", "User:bob", "User:*"}).Draw(t, "principal"), Host: rapid.SampledFrom([]string{"10.0.0.1", "::1", "*"}).Draw(t, "host"),
				Operation: rapid.SampledFrom([]int8{2, 4, 3}).Draw(t, "operation"), Permission: rapid.SampledFrom([]controller.Permission{2, 3}).Draw(t, "permission"),
			})
		}
		a := NewACLs(ACLOptions{Rules: func() (*controller.ACLs, bool) { return set, true }})
		want := slices.ContainsFunc(tried, func(name string) bool {
			return name != "*" && a.Allowed(caller("alice"), broker.Write, broker.Topic(name))
		})
		if got := a.AllowedSome(caller("alice"), broker.Write, broker.TopicResource); got != want {
			t.Fatalf("%v, though a topic may be allowed: %v; rules %+v", got, want, set.Rules)
		}
	})
}

func referenceFor(t *rapid.T, rules []controller.ACL) *casbin.Enforcer {
	m, err := model.NewModelFromString(reference)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		pattern, effect := "literal", "allow"
		if r.Pattern == controller.PrefixedPattern {
			pattern = "prefixed"
		}
		if r.Permission == controller.Deny {
			effect = "deny"
		}
		values := []string{r.Principal, r.Host, typeNames[broker.ResourceType(r.ResourceType)], pattern, r.Name, operationNames[broker.Operation(r.Operation)], effect}
		if err := m.AddPolicy("p", "p", values); err != nil {
			t.Fatal(err)
		}
	}
	e, err := casbin.NewEnforcer(m)
	if err != nil {
		t.Fatal(err)
	}
	e.AddFunction("begins", func(args ...any) (any, error) { return strings.HasPrefix(args[0].(string), args[1].(string)), nil })
	return e
}

// TestCacheHoldsNoStrangers: decisions about other questions on the same slot are not taken for one's own, and long names
// are not kept.
func TestCacheHoldsNoStrangers(t *testing.T) {
	a := byRules(t, ACLOptions{}, "allow alice read topic a-1*")
	for i := range 5 * cacheSlots {
		name := fmt.Sprintf("a-%d", i)
		if got := a.Allowed(caller("alice"), broker.Read, broker.Topic(name)); got != strings.HasPrefix(name, "a-1") {
			t.Fatalf("%s: %v", name, got)
		}
	}
	p := a.current()
	long := newQuestion(caller("alice"), broker.Read, broker.Topic(strings.Repeat("x", mostCached+1)))
	p.cache.decide(long, func() bool { return true })
	for i := range p.cache.slots {
		if d := p.cache.slots[i].Load(); d != nil && d.question == long {
			t.Error("a long name was kept")
		}
	}
}

// thousands are rules of many kinds, many of which are about the topic that is asked for.
func thousands(n int) *controller.ACLs {
	set := &controller.ACLs{}
	for i := range n {
		a := controller.ACL{
			ResourceType: int8(broker.TopicResource), Name: fmt.Sprintf("topic-%d", i), Pattern: controller.LiteralPattern,
			Principal: fmt.Sprintf("User:user-%d", i%500), Host: "*", Operation: int8(broker.Read), Permission: controller.Allow,
		}
		switch i % 4 {
		case 0:
			a.Name = "*"
		case 1:
			a.Name, a.Pattern = strings.Repeat("p", 1+i/4%200), controller.PrefixedPattern
			if i%8 == 1 {
				a.Principal = everybody
			}
		case 2:
			a.Host = fmt.Sprintf("10.0.%d.%d", i/250%250, i%250)
		}
		set.Rules = append(set.Rules, a)
	}
	return set
}

func BenchmarkACLs(b *testing.B) {
	set := thousands(10_000)
	a := NewACLs(ACLOptions{Rules: func() (*controller.ACLs, bool) { return set, true }})
	worst, who := broker.Topic(strings.Repeat("p", 249)), caller("user-5")
	b.Run("cached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			a.Allowed(who, broker.Read, broker.Topic("topic-77"))
		}
	})
	b.Run("new", func(b *testing.B) { // so many names that a decision has left the cache when its name comes again
		names := make([]string, 16*cacheSlots)
		for i := range names {
			names[i] = fmt.Sprintf("topic-%d", i)
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			a.Allowed(who, broker.Read, broker.Topic(names[i%len(names)]))
		}
	})
	for name, r := range map[string]broker.Resource{"index alone": broker.Topic("topic-77"), "index alone, 200 prefixes match": worst} {
		b.Run(name, func(b *testing.B) {
			x, q := newIndex(set), newQuestion(who, broker.Read, r)
			b.ReportAllocs()
			for b.Loop() {
				x.allows(q, false)
			}
		})
	}
	b.Run("some", func(b *testing.B) {
		x := newIndex(set)
		for b.Loop() {
			x.allowsSome(newQuestion(who, broker.Write, broker.Resource{Type: broker.TopicResource}), false)
		}
	})
	b.Run("compile", func(b *testing.B) {
		for b.Loop() {
			newIndex(set)
		}
	})
}

func TestOperationNames(t *testing.T) {
	for op := broker.AllOperations; op <= broker.TwoPhaseCommit; op++ {
		if operationNames[op] == "" {
			t.Errorf("operation %d has no name", op)
		}
	}
	for kind := broker.TopicResource; kind < resourceKind; kind++ {
		if typeNames[kind] == "" {
			t.Errorf("type %d has no name", kind)
		}
	}
}
