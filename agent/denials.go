package agent

import (
	"sync/atomic"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/api"
)

// openRights makes what decides who may do what, and has it counted how often it says no.
func openRights(a *Agent, services *api.Services) (err error) {
	if services.Authorizer, services.Rules, err = openAuthorizer(a); err != nil {
		return err
	}
	if _, all := services.Authorizer.(broker.Everyone); !all {
		a.denied = &denials{Authorizer: services.Authorizer}
		services.Authorizer = a.denied
	}
	a.web.allow(services.Authorizer)
	return nil
}

// denials is an authorizer that counts how often it says no, by the types of resources. Everybody's is never wrapped in one.
type denials struct {
	broker.Authorizer
	counts [len(resourceNames)]atomic.Int64
}

// resourceNames are the labels of the types of resources; those without a name count as the first.
var resourceNames = [...]string{
	0: "other", broker.TopicResource: "topic", broker.GroupResource: "group", broker.ClusterResource: "cluster",
	broker.TransactionalIDResource: "transactional_id", broker.DelegationTokenResource: "delegation_token", broker.UserResource: "user",
}

// Allowed implements broker.Authorizer.
func (d *denials) Allowed(c broker.Caller, op broker.Operation, r broker.Resource) bool {
	if d.Authorizer.Allowed(c, op, r) {
		return true
	}
	at := 0
	if i := int(r.Type); i > 0 && i < len(resourceNames) && resourceNames[i] != "" {
		at = i
	}
	d.counts[at].Add(1)
	return false
}

// each tells the counts by label.
func (d *denials) each(tell func(resource string, n int64)) {
	for i, name := range resourceNames {
		if name != "" {
			tell(name, d.counts[i].Load())
		}
	}
}
