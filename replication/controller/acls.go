package controller

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller/metapb"
)

// PatternType says which resources the name of a rule stands for, in Kafka's codes (KIP-290).
type PatternType int8

// The types of patterns of rules; filters know more.
const (
	LiteralPattern  PatternType = 3 // the resource of this name, or all of them by the name "*"
	PrefixedPattern PatternType = 4 // all whose names begin so
)

// Permission says what a rule is for, in Kafka's codes.
type Permission int8

// The permissions of rules.
const (
	Deny  Permission = 2
	Allow Permission = 3
)

// ACL is one rule of access control. The codes of resource types and operations are Kafka's; package broker names them.
type ACL struct {
	ResourceType int8
	Name         string
	Pattern      PatternType
	Principal    string // "type:name"; "User:*" is everybody
	Host         string // an address, or "*"
	Operation    int8
	Permission   Permission
}

// ACLs are all rules of access control at one point, sorted, each once. Two images with the same rules share them, so that
// whoever compiles them can tell by the pointer that they did not change.
type ACLs struct{ Rules []ACL }

// Codes of rules: there are no rules on "any" resource or operation, and none on what no version knows.
const (
	firstResourceType, lastResourceType = 2, 7
	firstOperation, lastOperation       = 2, 15
	clusterResourceType                 = 4
	clusterResourceName                 = "kafka-cluster"
)

// Limits on rules.
const (
	// DefaultMaxACLs bounds the rules of a cluster: each change writes a list of this length, and each node keeps it.
	DefaultMaxACLs = 100_000
	// MaxACLsPerChange keeps a command small.
	MaxACLsPerChange = 10_000
	// maxACLText is the longest name, principal or host of a rule, in bytes; the longest legal ones are distinguished names.
	maxACLText = 2 << 10
)

// ValidateACL says whether a rule can be kept. The error is replication.ErrInvalidRequest.
func ValidateACL(a ACL) error {
	kind, name, typed := strings.Cut(a.Principal, ":")
	switch {
	case a.ResourceType < firstResourceType || a.ResourceType > lastResourceType:
		return failf(replication.ErrInvalidRequest, "resource type %d", a.ResourceType)
	case a.Name == "":
		return failf(replication.ErrInvalidRequest, "a rule needs the name of a resource")
	case a.Pattern != LiteralPattern && a.Pattern != PrefixedPattern:
		return failf(replication.ErrInvalidRequest, "pattern type %d", a.Pattern)
	case a.ResourceType == clusterResourceType && a.Name != clusterResourceName:
		return failf(replication.ErrInvalidRequest, "the only name of the cluster as a resource is %s", clusterResourceName)
	case !typed || kind == "" || name == "":
		return failf(replication.ErrInvalidRequest, "%q is not a principal: type:name is expected", a.Principal)
	case a.Host == "":
		return failf(replication.ErrInvalidRequest, "a rule needs a host, or * for all")
	case a.Operation < firstOperation || a.Operation > lastOperation:
		return failf(replication.ErrInvalidRequest, "operation %d", a.Operation)
	case a.Permission != Allow && a.Permission != Deny:
		return failf(replication.ErrInvalidRequest, "permission type %d", a.Permission)
	}
	if _, err := netip.ParseAddr(a.Host); err != nil && a.Host != "*" {
		return failf(replication.ErrInvalidRequest, "the host %q is no address: names of hosts are not looked up", a.Host)
	}
	for _, text := range []string{a.Name, a.Principal, a.Host} {
		if len(text) > maxACLText {
			return failf(replication.ErrInvalidRequest, "names, principals and hosts of rules have at most %d bytes", maxACLText)
		}
	}
	return nil
}

func checkACLs(c *metapb.ChangeACLs) error {
	if n := len(c.GetAdd()) + len(c.GetRemove()); n > MaxACLsPerChange {
		return failf(replication.ErrInvalidRequest, "%d rules at once are more than %d", n, MaxACLsPerChange)
	}
	for _, a := range c.GetAdd() {
		if err := ValidateACL(toACL(a)); err != nil {
			return err
		}
	}
	return nil
}

// ChangeACLs adds rules and removes others, all or nothing. One that is to come and is there already stays, and one that is to
// go and is not there is no error. More than 10,000 at once are replication.ErrInvalidRequest, and more than DefaultMaxACLs
// altogether replication.ErrPolicyViolation.
func (c *Controller) ChangeACLs(ctx context.Context, add, remove []ACL) error {
	r, err := c.submitRepeatable(ctx, changeACLsCommand(add, remove))
	if err != nil {
		return err
	}
	return r.Err
}

func changeACLsCommand(add, remove []ACL) *metapb.Command {
	change := &metapb.ChangeACLs{Add: fromACLs(add), Remove: fromACLs(remove), MaxRules: DefaultMaxACLs}
	return &metapb.Command{Kind: &metapb.Command_ChangeAcls{ChangeAcls: change}}
}

func (s *stepper) changeACLs(c *metapb.ChangeACLs) {
	old := s.draft.next.ACLs.rules()
	gone := sortedACLs(c.GetRemove())
	next := make([]ACL, 0, len(old)+len(c.GetAdd()))
	for _, a := range old {
		if _, goes := slices.BinarySearchFunc(gone, a, compareACLs); !goes {
			next = append(next, a)
		}
	}
	for _, a := range c.GetAdd() {
		next = append(next, toACL(a))
	}
	slices.SortFunc(next, compareACLs)
	next = slices.Compact(next)
	if most := int(c.GetMaxRules()); len(next) > len(old) && len(next) > most {
		s.refuse(failf(replication.ErrPolicyViolation, "%d rules are more than %d", len(next), most))
		return
	}
	if s.changed = !slices.Equal(old, next); s.changed {
		s.draft.next.ACLs = newACLs(next)
	}
}

// rules are the rules of a set that may be nil.
func (l *ACLs) rules() []ACL {
	if l == nil {
		return nil
	}
	return l.Rules
}

// newACLs has one form for "no rules".
func newACLs(rules []ACL) *ACLs {
	if len(rules) == 0 {
		return nil
	}
	return &ACLs{rules}
}

func sortedACLs(in []*metapb.ACL) []ACL {
	out := make([]ACL, len(in))
	for i, a := range in {
		out[i] = toACL(a)
	}
	slices.SortFunc(out, compareACLs)
	return out
}

func compareACLs(a, b ACL) int {
	return cmp.Or(
		cmp.Compare(a.ResourceType, b.ResourceType), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Pattern, b.Pattern),
		cmp.Compare(a.Principal, b.Principal), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Operation, b.Operation),
		cmp.Compare(a.Permission, b.Permission),
	)
}

// small is a code of one byte; what does not fit is no code of ours.
func small(n int32) int8 {
	if n < 0 || n > 127 {
		return 0
	}
	return int8(n)
}

func toACL(a *metapb.ACL) ACL {
	return ACL{
		ResourceType: small(a.GetResourceType()), Name: a.GetName(), Pattern: PatternType(small(a.GetPatternType())),
		Principal: a.GetPrincipal(), Host: a.GetHost(), Operation: small(a.GetOperation()), Permission: Permission(small(a.GetPermission())),
	}
}

func fromACLs(rules []ACL) []*metapb.ACL {
	out := make([]*metapb.ACL, len(rules))
	for i, a := range rules {
		out[i] = &metapb.ACL{
			ResourceType: int32(a.ResourceType), Name: a.Name, PatternType: int32(a.Pattern), Principal: a.Principal,
			Host: a.Host, Operation: int32(a.Operation), Permission: int32(a.Permission),
		}
	}
	return out
}
