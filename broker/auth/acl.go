package auth

import (
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/replication/controller"
)

// ACLOptions configure an ACLs.
type ACLOptions struct {
	// Rules gives the rules that hold now, and whether they are known: a node that has not read the cluster's metadata knows
	// nothing, which is not the same as no rules. It is called for each question and must be fast. While the pointer stays the
	// same, so do the rules.
	Rules func() (rules *controller.ACLs, known bool)
	// SuperUsers may do everything, whatever the rules say (super.users).
	SuperUsers []broker.Principal
	// OpenByDefault lets everybody do everything to resources that no rule is about (allow.everyone.if.no.acl.found).
	OpenByDefault bool
	Logger        *slog.Logger // of denials, at debug level; nil for none
}

// ACLs decides by the cluster's rules, as Kafka's StandardAuthorizer does: super users may do everything; else any rule that
// denies wins over all that allow, however narrow or wide either is; what no rule allows is denied. It is a broker.Authorizer.
type ACLs struct {
	options ACLOptions
	super   superUsers
	policy  atomic.Pointer[policy]
	compile sync.Mutex // held while rules are compiled, so that a change is compiled once
}

// policy is the rules of one moment, and what was decided by them.
type policy struct {
	rules *controller.ACLs
	index *index
	cache cache
}

// NewACLs returns an authorizer by rules.
func NewACLs(o ACLOptions) *ACLs {
	return &ACLs{options: o, super: newSuperUsers(o.SuperUsers)}
}

// Allowed tells whether the caller may do op to the resource.
func (a *ACLs) Allowed(c broker.Caller, op broker.Operation, r broker.Resource) bool {
	if a.super.has(c.Principal) {
		return true
	}
	p := a.current()
	q := newQuestion(c, op, r)
	allowed := p != nil && p.cache.decide(q, func() bool { return p.index.allows(q, a.options.OpenByDefault) })
	if !allowed {
		logDenial(a.options.Logger, q)
	}
	return allowed
}

// AllowedSome tells whether the caller may do op to some resource of a type (KIP-679).
func (a *ACLs) AllowedSome(c broker.Caller, op broker.Operation, t broker.ResourceType) bool {
	if a.super.has(c.Principal) {
		return true
	}
	p := a.current()
	q := newQuestion(c, op, broker.Resource{Type: t})
	q.some = true
	return p != nil && p.cache.decide(q, func() bool { return p.index.allowsSome(q, a.options.OpenByDefault) })
}

// current is the policy of now; nil if the rules are not known.
func (a *ACLs) current() *policy {
	rules, known := a.options.Rules()
	if !known {
		return nil
	}
	if p := a.policy.Load(); p != nil && p.rules == rules {
		return p
	}
	a.compile.Lock()
	defer a.compile.Unlock()
	if rules, known = a.options.Rules(); !known {
		return nil // it has changed while this waited
	}
	p := a.policy.Load()
	if p == nil || p.rules != rules {
		p = &policy{rules: rules, index: newIndex(rules)}
		a.policy.Store(p)
	}
	return p
}

// logDenial tells of a denial where somebody looks for them.
func logDenial(l *slog.Logger, q question) {
	if l != nil {
		l.Debug("denied", "principal", q.who.principal, "host", q.who.host, "operation", q.op, "type", q.resource.Type, "name", q.resource.Name)
	}
}

// superUsers are never denied anything.
type superUsers map[broker.Principal]struct{}

func newSuperUsers(names []broker.Principal) superUsers {
	s := make(superUsers, len(names))
	for _, n := range names {
		s[n] = struct{}{}
	}
	return s
}

func (s superUsers) has(p broker.Principal) bool {
	_, ok := s[p]
	return ok
}
