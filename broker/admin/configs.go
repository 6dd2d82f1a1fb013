package admin

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/quorlog/quorlog/internal/config"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
)

// ResourceKind is what a setting belongs to; the numbers are Kafka's.
type ResourceKind int8

// The kinds that can be described and altered.
const (
	TopicResource  ResourceKind = 2
	BrokerResource ResourceKind = 4
	LoggerResource ResourceKind = 8 // the levels of a node's loggers (KIP-412)
	GroupResource  ResourceKind = 32
)

// Resource names a topic, a group, this node (also its loggers) by its id, or with an empty name and BrokerResource all nodes together.
type Resource struct {
	Kind ResourceKind
	Name string
}

// Setting is a setting with its effective value.
type Setting struct {
	Name      string
	Value     string
	Source    config.Source
	Type      config.Type
	Doc       string
	ReadOnly  bool // can't be changed while the node runs
	Sensitive bool // the value is not for clients
	// Synonyms are all places where the value could have come from and is set, strongest first.
	Synonyms []config.Value
}

// layers are the values that are set for a topic (nil for none) and for this node.
func layers(im *controller.Image, t *controller.Topic) config.Layers {
	l := im.Layers()
	if t != nil {
		l.Topic = t.Config
	}
	return l
}

func autoCreate(im *controller.Image) bool {
	return im.Layers().Bool("auto.create.topics.enable")
}

// TopicSettings returns the effective settings of a topic.
func (s *Service) TopicSettings(t *controller.Topic) []Setting {
	return describe(layers(s.images.Image(), t), config.Topic, func(string) bool { return true })
}

// DescribeConfigs returns the effective settings of a resource: those named, or all if none is. Names that do not
// exist are left out.
func (s *Service) DescribeConfigs(r Resource, names []string) ([]Setting, error) {
	im := s.images.Image()
	asked := func(name string) bool { return len(names) == 0 || slices.Contains(names, name) }
	switch r.Kind {
	case TopicResource:
		info := s.describeRef(im, TopicRef{Name: r.Name})
		if info.Err != nil {
			return nil, info.Err
		}
		return describe(layers(im, im.Topics[r.Name]), config.Topic, asked), nil
	case BrokerResource:
		if err := s.checkBroker(r.Name); err != nil {
			return nil, err
		}
		if r.Name == "" {
			// What is not set for the cluster is each node's own business.
			return describe(config.Layers{BrokerDefault: im.BrokerConfig}, config.Broker, func(name string) bool {
				_, set := im.BrokerConfig[name]
				return set && asked(name)
			}), nil
		}
		return describe(layers(im, nil), config.Broker, asked), nil
	case LoggerResource:
		return s.loggers.describe(r.Name, asked)
	case GroupResource:
		// As in Kafka a group need not exist.
		if r.Name == "" {
			return nil, errNoGroupID
		}
		l := im.Layers()
		l.Group = im.GroupConfig[r.Name]
		return describe(l, config.Group, asked), nil
	}
	return nil, unknownKind(r.Kind)
}

var errNoGroupID = fmt.Errorf("%w: a group's settings need its id", replication.ErrInvalidRequest)

// ConfigResources lists what settings were changed of (KIP-1142): all topics and registered nodes, which always have some, and the
// groups that have settings of their own; of the kinds asked for, sorted.
func (s *Service) ConfigResources(kinds []ResourceKind) ([]Resource, error) {
	im := s.images.Image()
	var out []Resource
	for _, kind := range kinds {
		var names []string
		switch kind {
		case TopicResource:
			names = slices.Collect(maps.Keys(im.Topics))
		case BrokerResource, LoggerResource:
			for id := range im.Nodes {
				names = append(names, strconv.Itoa(int(id)))
			}
		case GroupResource:
			names = slices.Collect(maps.Keys(im.GroupConfig))
		default:
			return nil, unknownKind(kind)
		}
		slices.Sort(names)
		for _, name := range names {
			out = append(out, Resource{Kind: kind, Name: name})
		}
	}
	return out, nil
}

func unknownKind(k ResourceKind) error {
	return fmt.Errorf("%w: resources of kind %d have no settings here", replication.ErrInvalidRequest, k)
}

// checkBroker accepts this node's id, and the empty name of all nodes: what is set in another node's file, only that one
// knows.
func (s *Service) checkBroker(name string) error {
	if name == "" {
		return nil
	}
	if id, err := strconv.ParseInt(name, 10, 32); err != nil || replication.NodeID(id) != s.node {
		return fmt.Errorf("%w: broker %q: this is broker %d; ask that one, or all with an empty name",
			replication.ErrInvalidRequest, name, s.node)
	}
	return nil
}

// checkAnyBroker accepts the ids of all nodes, and the empty name: each may be changed through any node, so that one that is
// down can be told what holds when it comes back.
func (s *Service) checkAnyBroker(im *controller.Image, name string) error {
	if name == "" {
		return nil
	}
	id, err := strconv.ParseInt(name, 10, 32)
	if _, there := im.Nodes[replication.NodeID(id)]; err != nil || !there {
		return fmt.Errorf("%w: broker %q is not registered", replication.ErrInvalidRequest, name)
	}
	return nil
}

func describe(l config.Layers, scope config.Scope, asked func(string) bool) []Setting {
	var out []Setting
	for _, row := range config.All(scope) {
		if !asked(row.Name) {
			continue
		}
		d := l.Describe(row)
		out = append(out, Setting{
			Name: row.Name, Value: d.Value.Value, Source: d.Source, Type: row.Type, Doc: row.Doc,
			ReadOnly: scope == config.Broker && !row.Dynamic, Sensitive: row.Sensitive, Synonyms: d.Chain,
		})
	}
	return out
}

// OpKind is what is done to a setting; the numbers are Kafka's (KIP-339).
type OpKind int8

// The operations. Append and subtract are for lists.
const (
	OpSet OpKind = iota
	OpDelete
	OpAppend
	OpSubtract
)

// ConfigOp changes a setting. Value is nil for OpDelete only.
type ConfigOp struct {
	Name  string
	Kind  OpKind
	Value *string
}

// ConfigChange is what is to be changed of a resource.
type ConfigChange struct {
	Resource
	// Replace drops everything that is set and not among Ops, which all are OpSet then.
	Replace bool
	Ops     []ConfigOp
}

// AlterConfigs changes settings. The errors are in the order of the changes; each is made as a whole or not at all.
func (s *Service) AlterConfigs(ctx context.Context, changes []ConfigChange, validateOnly bool) []error {
	errs := make([]error, len(changes))
	times := make(map[Resource]int, len(changes))
	for i := range changes {
		times[changes[i].Resource]++
	}
	for i := range changes {
		c := &changes[i]
		if times[c.Resource] > 1 {
			errs[i] = fmt.Errorf("%w: the resource is named more than once", replication.ErrInvalidRequest)
			continue
		}
		errs[i] = s.alterConfig(ctx, c, validateOnly)
	}
	return errs
}

func (s *Service) alterConfig(ctx context.Context, c *ConfigChange, validateOnly bool) error {
	r := controller.Resource{Name: c.Name}
	switch c.Kind {
	case TopicResource:
		r.Type = controller.TopicResource
		if info := s.describeRef(s.images.Image(), TopicRef{Name: c.Name}); info.Err != nil {
			return info.Err
		}
	case BrokerResource:
		r.Type = controller.BrokerResource
		if err := s.checkAnyBroker(s.images.Image(), c.Name); err != nil {
			return err
		}
	case GroupResource:
		r.Type = controller.GroupResource
		if c.Name == "" {
			return errNoGroupID
		}
	case LoggerResource:
		return s.loggers.alter(c, validateOnly)
	default:
		return unknownKind(c.Kind)
	}
	ops, err := controllerOps(c.Ops)
	if err != nil {
		return err
	}
	if !c.Replace {
		return s.controller.AlterConfigs(ctx, r, ops, validateOnly)
	}
	values := make(map[string]string, len(ops))
	for _, op := range ops {
		values[op.Name] = op.Value
	}
	return s.controller.ReplaceConfigs(ctx, r, values, validateOnly)
}

func controllerOps(ops []ConfigOp) ([]controller.ConfigOp, error) {
	out := make([]controller.ConfigOp, len(ops))
	seen := make(map[string]struct{}, len(ops))
	for i, op := range ops {
		if _, twice := seen[op.Name]; twice {
			return nil, fmt.Errorf("%w: %s is named more than once", replication.ErrInvalidRequest, op.Name)
		}
		seen[op.Name] = struct{}{}
		if op.Kind < OpSet || op.Kind > OpSubtract {
			return nil, fmt.Errorf("%w: %s: unknown operation %d", replication.ErrInvalidRequest, op.Name, op.Kind)
		}
		if op.Value == nil && op.Kind != OpDelete {
			return nil, fmt.Errorf("%w: %s has no value", replication.ErrInvalidRequest, op.Name)
		}
		out[i] = controller.ConfigOp{Name: op.Name, Op: controllerOp[op.Kind]}
		if op.Value != nil {
			out[i].Value = *op.Value
		}
	}
	return out, nil
}

var controllerOp = [...]controller.OpKind{
	OpSet: controller.OpSet, OpDelete: controller.OpDelete, OpAppend: controller.OpAppend, OpSubtract: controller.OpSubtract,
}
