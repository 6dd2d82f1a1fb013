package agent

import (
	"errors"
	"fmt"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/api"
	"github.com/quorlog/quorlog/broker/auth"
	"github.com/quorlog/quorlog/internal/config"
	"github.com/quorlog/quorlog/replication/controller"
)

// ErrAuthorizer means that what should decide who may do what can't: the node does not start.
var ErrAuthorizer = errors.New("the authorizer can't be used")

// openAuthorizer makes what decides who may do what, and the rules by which it does, if requests may change them.
func openAuthorizer(a *Agent) (broker.Authorizer, api.Rules, error) {
	get := func(name string) string { return a.layers.Get(config.Broker, name) }
	var super []broker.Principal
	for _, p := range config.Principals(get("super.users")) {
		super = append(super, broker.Principal(p))
	}
	logger := a.levels.Logger("auth")
	switch kind := get("authorizer"); kind {
	case config.AuthorizerNone:
		if len(super) > 0 {
			a.logger.Warn("super.users are given, but access control is off: everybody may do everything (authorizer)")
		}
		return broker.Everyone{}, nil, nil
	case config.AuthorizerACL:
		if len(super) == 0 {
			a.logger.Warn("super.users is empty: unless a rule lets somebody alter the cluster, nobody can make rules")
		}
		rules := func() (*controller.ACLs, bool) {
			im := a.controller.Image()
			return im.ACLs, im.ClusterID != "" // a cluster has a name before it has anything else
		}
		open := a.layers.Bool("allow.everyone.if.no.acl.found")
		return auth.NewACLs(auth.ACLOptions{Rules: rules, SuperUsers: super, OpenByDefault: open, Logger: logger}), a.controller, nil
	case config.AuthorizerCasbin:
		o := auth.CasbinOptions{Model: get("authorizer.casbin.model"), Policy: get("authorizer.casbin.policy"), SuperUsers: super, Logger: logger}
		if o.Model == "" || o.Policy == "" {
			return nil, nil, fmt.Errorf("%w: authorizer=casbin needs authorizer.casbin.model and authorizer.casbin.policy", ErrAuthorizer)
		}
		decider, err := auth.OpenCasbin(o)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrAuthorizer, err)
		}
		return decider, nil, nil
	default:
		return nil, nil, fmt.Errorf("%w: there is no %q", ErrAuthorizer, kind)
	}
}
