package api

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Rules are the rules of access control that the authorizer decides by. *controller.Controller has them.
type Rules interface {
	Image() *controller.Image
	ChangeACLs(ctx context.Context, add, remove []controller.ACL) error
}

// errNoRules: there is no access control, or it is not decided by rules that requests can change (SECURITY_DISABLED).
var errNoRules = errors.New("access control by rules is off: the setting authorizer is not acl")

// Codes that stand in filters beside those of rules.
const (
	anyCode       = 1 // of types, patterns, operations and permissions
	matchPattern  = 2 // any pattern that stands for the name
	lastPattern   = int8(controller.PrefixedPattern)
	lastType      = 7
	lastOperation = 15
	lastPermitted = int8(controller.Allow)
)

// ruleFilter chooses rules. A nil text is any.
type ruleFilter struct {
	kind, pattern, operation, permission int8
	name, principal, host                *string
}

func (f *ruleFilter) check() error {
	for _, c := range []struct {
		what       string
		code, last int8
	}{{"resource type", f.kind, lastType}, {"pattern type", f.pattern, lastPattern}, {"operation", f.operation, lastOperation}, {"permission type", f.permission, lastPermitted}} {
		if c.code < anyCode || c.code > c.last {
			return fmt.Errorf("%w: %s %d", replication.ErrInvalidRequest, c.what, c.code)
		}
	}
	return nil
}

func (f *ruleFilter) matches(a *controller.ACL) bool {
	return fits(f.kind, a.ResourceType) && fits(f.operation, a.Operation) && fits(f.permission, int8(a.Permission)) &&
		(f.principal == nil || *f.principal == a.Principal) && (f.host == nil || *f.host == a.Host) && f.matchesName(a)
}

func fits(filter, code int8) bool { return filter == anyCode || filter == code }

// matchesName is the filter of names and patterns (KIP-290).
func (f *ruleFilter) matchesName(a *controller.ACL) bool {
	switch {
	case f.pattern != matchPattern && !fits(f.pattern, int8(a.Pattern)):
		return false
	case f.name == nil || *f.name == a.Name:
		return true
	case f.pattern != matchPattern:
		return false
	case a.Pattern == controller.PrefixedPattern:
		return strings.HasPrefix(*f.name, a.Name)
	}
	return a.Name == "*"
}

// choose returns the rules that fit.
func (f *ruleFilter) choose(im *controller.Image) (out []controller.ACL) {
	if im.ACLs == nil {
		return nil
	}
	for i := range im.ACLs.Rules {
		if f.matches(&im.ACLs.Rules[i]) {
			out = append(out, im.ACLs.Rules[i])
		}
	}
	return out
}

// ruleCodes are a rule's codes in kmsg's types.
func ruleCodes(a *controller.ACL) (kmsg.ACLResourceType, kmsg.ACLResourcePatternType, kmsg.ACLOperation, kmsg.ACLPermissionType) {
	return kmsg.ACLResourceType(a.ResourceType), kmsg.ACLResourcePatternType(a.Pattern), kmsg.ACLOperation(a.Operation), kmsg.ACLPermissionType(a.Permission)
}
