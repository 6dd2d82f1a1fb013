package controller

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/quorlog/quorlog/replication"
)

func topicRule(name string, op int8) ACL {
	return ACL{2, name, LiteralPattern, "User:alice", "*", op, Allow}
}

func TestACLs(t *testing.T) {
	c, g := newTestController(t, nil)
	read, write, deny := topicRule("a", 3), topicRule("a", 4), ACL{4, "kafka-cluster", LiteralPattern, "User:*", "10.0.0.1", 2, Deny}
	for _, rules := range [][]ACL{{write, read, deny, write}, {read}} {
		if err := c.ChangeACLs(t.Context(), rules, nil); err != nil {
			t.Fatal(err)
		}
	}
	set := c.Image().ACLs
	if want := []ACL{read, write, deny}; !slices.Equal(set.Rules, want) {
		t.Fatalf("rules %v, want %v", set.Rules, want)
	}
	if err := c.ChangeACLs(t.Context(), nil, []ACL{topicRule("b", 3)}); err != nil || c.Image().ACLs != set {
		t.Errorf("deleting what is not there: %v, or the rules were copied", err)
	}
	if err := c.ChangeACLs(t.Context(), nil, []ACL{deny, write}); err != nil || !slices.Equal(c.Image().ACLs.Rules, []ACL{read}) {
		t.Errorf("%v, left %v", err, c.Image().ACLs)
	}
	if !slices.Equal(set.Rules, []ACL{read, write, deny}) {
		t.Error("an old image has changed")
	}
	if err := c.ChangeACLs(t.Context(), nil, []ACL{read}); err != nil || c.Image().ACLs != nil {
		t.Errorf("%v, left %v", err, c.Image().ACLs)
	}
	if len(g.log) == 0 {
		t.Error("nothing was proposed")
	}
}

func TestACLsRefused(t *testing.T) {
	long := strings.Repeat("x", maxACLText+1)
	for name, spoil := range map[string]func(*ACL){
		"any resource":   func(a *ACL) { a.ResourceType = 1 },
		"no resource":    func(a *ACL) { a.ResourceType = 8 },
		"no name":        func(a *ACL) { a.Name = "" },
		"long name":      func(a *ACL) { a.Name = long },
		"match":          func(a *ACL) { a.Pattern = 2 },
		"no type":        func(a *ACL) { a.Principal = "alice" },
		"no principal":   func(a *ACL) { a.Principal = "User:" },
		"long principal": func(a *ACL) { a.Principal = "User:" + long },
		"host by name":   func(a *ACL) { a.Host = "example.org" },
		"no host":        func(a *ACL) { a.Host = "" },
		"any operation":  func(a *ACL) { a.Operation = 1 },
		"no operation":   func(a *ACL) { a.Operation = 16 },
		"any permission": func(a *ACL) { a.Permission = 1 },
		"other cluster":  func(a *ACL) { a.ResourceType = clusterResourceType },
	} {
		c, _ := newTestController(t, nil)
		bad := topicRule("a", 3)
		spoil(&bad)
		if err := c.ChangeACLs(t.Context(), []ACL{topicRule("b", 3), bad}, nil); !errors.Is(err, replication.ErrInvalidRequest) || c.Image().ACLs != nil {
			t.Errorf("%s: %v, rules %v", name, err, c.Image().ACLs)
		}
	}
}

func TestACLsAreBounded(t *testing.T) {
	c, _ := newTestController(t, nil)
	many := make([]ACL, MaxACLsPerChange+1)
	if err := c.ChangeACLs(t.Context(), many, nil); !errors.Is(err, replication.ErrInvalidRequest) {
		t.Errorf("%d rules at once: %v", len(many), err)
	}
	step := func(rules []ACL, most int32) error {
		cmd := changeACLsCommand(rules, nil)
		cmd.GetChangeAcls().MaxRules = most
		_, r := step(c.Image(), 100, cmd)
		return r.Err
	}
	if err := step([]ACL{topicRule("a", 3), topicRule("b", 3)}, 1); !errors.Is(err, replication.ErrPolicyViolation) {
		t.Errorf("two rules where one may be: %v", err)
	}
	if err := step([]ACL{topicRule("a", 3)}, 1); err != nil {
		t.Errorf("one rule: %v", err)
	}
}
