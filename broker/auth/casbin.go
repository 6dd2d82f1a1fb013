package auth

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/casbin/casbin/v2"

	"github.com/quorlog/quorlog/broker"
)

// CasbinOptions configure a Casbin.
type CasbinOptions struct {
	Model, Policy string // paths of the files
	SuperUsers    []broker.Principal
	Logger        *slog.Logger // of denials, at debug level, and of rules that fail; nil for slog.Default
}

// Casbin decides by a Casbin model and policy, read from files when the node starts. The rules of the controller do not count
// beside it. It is a broker.Authorizer.
//
// What a model's request definition may name, in any order:
//
//	sub    the principal, "User:alice"
//	host   the client's address
//	type   topic, group, cluster, transactional-id, delegation-token or user
//	name   the resource's name; of the cluster kafka-cluster
//	obj    both: "topic:orders"
//	act    the operation: read, write, create, delete, alter, describe, cluster-action, describe-configs, alter-configs,
//	       idempotent-write, create-tokens, describe-tokens, two-phase-commit
//
// Beside Casbin's own functions a matcher may use implies(p.act, r.act), which is true if a rule that allows p.act allows r.act
// in Kafka: "all" implies every operation, and read, write, delete and alter imply describe.
type Casbin struct {
	fields []string
	super  superUsers
	logger *slog.Logger
	cache  cache
	rules  int
	said   atomic.Int64 // the second in which a failure was last told of
	mu     struct {
		sync.Mutex // an evaluation may write to the enforcer's own caches
		enforcer   *casbin.Enforcer
		remembered int // bytes, at most, that these hold
	}
}

// mostRemembered bounds what Casbin remembers of evaluations, in bytes: it keeps for ever which of the names that it was asked
// about has which role, and clients choose names.
const mostRemembered = 16 << 20

// OpenCasbin reads the files. An error names the file, the line where it can, and the reason. It never returns an authorizer
// that allows what the files do not.
func OpenCasbin(o CasbinOptions) (*Casbin, error) {
	files, err := readCasbin(o.Model, o.Policy)
	if err != nil {
		return nil, err
	}
	enforcer, err := files.enforcer()
	if err != nil {
		return nil, err
	}
	c := &Casbin{fields: files.fields, rules: len(files.rules), super: newSuperUsers(o.SuperUsers), logger: o.Logger}
	c.mu.enforcer = enforcer
	if c.logger == nil {
		c.logger = slog.Default()
	}
	if err := files.tryRules(); err != nil {
		return nil, err
	}
	// A matcher that can't be evaluated at all is found now, not at the first request.
	if _, err := c.enforce(trial); err != nil {
		return nil, files.fail(o.Model, files.line("m"), "%s", strings.TrimPrefix(err.Error(), ErrCasbin.Error()+": "))
	}
	return c, nil
}

// Allowed tells whether the caller may do op to the resource.
func (c *Casbin) Allowed(by broker.Caller, op broker.Operation, r broker.Resource) bool {
	if c.super.has(by.Principal) {
		return true
	}
	q := newQuestion(by, op, r)
	allowed := c.cache.decide(q, func() bool {
		allowed, err := c.enforce(q)
		if now := time.Now().Unix(); err != nil && c.said.Swap(now) != now {
			c.logger.Error("denied, because the Casbin model or policy can't be evaluated", "principal", q.who.principal, "error", err)
		}
		return err == nil && allowed
	})
	if !allowed {
		logDenial(c.logger, q)
	}
	return allowed
}

// AllowedSome tells whether the caller may do op to a topic, or other resource, of any name: the files can't be searched for a
// name that they allow.
func (c *Casbin) AllowedSome(by broker.Caller, op broker.Operation, t broker.ResourceType) bool {
	return c.Allowed(by, op, broker.Resource{Type: t, Name: anyName})
}

// enforce asks Casbin. It recovers from panics of Casbin's functions itself; they are errors.
func (c *Casbin) enforce(q question) (bool, error) {
	const entry = 128 // bytes of a map's entry, about
	values, size := make([]any, len(c.fields)), entry
	for i, f := range c.fields {
		v := casbinFields[f](q)
		values[i], size = v, size+len(v)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.remembered += c.rules * size; c.mu.remembered > mostRemembered {
		c.mu.remembered = c.rules * size
		if err := c.mu.enforcer.BuildRoleLinks(); err != nil { // begins with an empty memory
			return false, err
		}
	}
	allowed, err := c.mu.enforcer.Enforce(values...)
	if err != nil {
		return false, fmt.Errorf("%w: %s", ErrCasbin, reason(err))
	}
	return allowed, nil
}

// reason is what an evaluation failed of, without the stack that Casbin puts behind a panic of its functions.
func reason(err error) string {
	return strings.TrimPrefix(strings.SplitN(err.Error(), "\n", 2)[0], "panic: ")
}

var casbinFields = map[string]func(question) string{
	"sub":  func(q question) string { return string(q.who.principal) },
	"host": func(q question) string { return q.who.host.String() },
	"type": func(q question) string { return typeNames[q.resource.Type] },
	"name": func(q question) string { return q.resource.Name },
	"obj":  func(q question) string { return typeNames[q.resource.Type] + ":" + q.resource.Name },
	"act":  func(q question) string { return operationNames[q.op] },
}

var typeNames = map[broker.ResourceType]string{
	broker.TopicResource: "topic", broker.GroupResource: "group", broker.ClusterResource: "cluster",
	broker.TransactionalIDResource: "transactional-id", broker.DelegationTokenResource: "delegation-token", broker.UserResource: "user",
}

var operationNames = map[broker.Operation]string{
	broker.AllOperations: "all", broker.Read: "read", broker.Write: "write", broker.Create: "create", broker.Delete: "delete",
	broker.Alter: "alter", broker.Describe: "describe", broker.ClusterAction: "cluster-action",
	broker.DescribeConfigs: "describe-configs", broker.AlterConfigs: "alter-configs", broker.IdempotentWrite: "idempotent-write",
	broker.CreateTokens: "create-tokens", broker.DescribeTokens: "describe-tokens", broker.TwoPhaseCommit: "two-phase-commit",
}

// implies is the function of that name in matchers.
func implies(args ...any) (any, error) {
	if len(args) != 2 {
		return false, fmt.Errorf("implies takes two operations, not %d", len(args))
	}
	rule, okRule := args[0].(string)
	asked, okAsked := args[1].(string)
	if !okRule || !okAsked {
		return false, fmt.Errorf("implies takes two operations, not %v", args)
	}
	for op, name := range operationNames {
		if strings.EqualFold(name, rule) {
			return allowedBy(op)&operationNamed(asked) != 0, nil
		}
	}
	return false, fmt.Errorf("%q is no operation", rule)
}

func operationNamed(name string) operations {
	for op, n := range operationNames {
		if n == name {
			return setOf(op)
		}
	}
	return 0
}
