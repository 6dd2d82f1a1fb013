package controller

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/quorlog/quorlog/internal/config"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller/metapb"
)

// ResourceType says what has settings.
type ResourceType uint8

// The types of resources.
const (
	TopicResource ResourceType = iota + 1
	// BrokerResource is a node by its id, or all of them by the empty name.
	BrokerResource
	GroupResource
)

// Resource is something that has settings.
type Resource struct {
	Type ResourceType
	Name string
}

// OpKind says what a ConfigOp does; the numbers are those of IncrementalAlterConfigs (KIP-339).
type OpKind uint8

// The operations.
const (
	OpSet      OpKind = 0
	OpDelete   OpKind = 1
	OpAppend   OpKind = 2 // to a list
	OpSubtract OpKind = 3 // from a list
)

// ConfigOp changes one setting.
type ConfigOp struct {
	Name  string
	Op    OpKind
	Value string // of OpDelete ignored
}

// AlterConfigs changes single settings of a resource, all or none of them.
func (c *Controller) AlterConfigs(ctx context.Context, r Resource, ops []ConfigOp, validateOnly bool) error {
	return c.change(ctx, r, validateOnly, func(im *Image, now map[string]string) (*metapb.ChangeConfigs, error) {
		changes := &metapb.ChangeConfigs{}
		for _, op := range ops {
			change, err := resolveOp(im, r, now, op)
			switch {
			case err != nil:
				return nil, err
			case change != nil:
				changes.Changes = append(changes.Changes, change)
			}
		}
		return changes, nil
	})
}

// ReplaceConfigs replaces all that is set for a resource.
func (c *Controller) ReplaceConfigs(ctx context.Context, r Resource, values map[string]string, validateOnly bool) error {
	return c.change(ctx, r, validateOnly, func(*Image, map[string]string) (*metapb.ChangeConfigs, error) {
		changes := &metapb.ChangeConfigs{Replace: true}
		for name, value := range values {
			changes.Changes = append(changes.Changes, &metapb.ConfigChange{Name: name, Value: &value})
		}
		return changes, nil
	})
}

// change checks and proposes what make returns for the present settings of a resource.
func (c *Controller) change(ctx context.Context, r Resource, validateOnly bool,
	make func(im *Image, now map[string]string) (*metapb.ChangeConfigs, error)) error {
	select {
	case c.configuring <- struct{}{}:
		defer func() { <-c.configuring }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return settle(ctx, func() error {
		im := c.Image()
		target, err := im.target(r)
		if err != nil {
			return err
		}
		now, err := configOf(im, target)
		if err != nil {
			return err
		}
		changes, err := make(im, now)
		if err != nil || len(changes.Changes) == 0 && !changes.Replace {
			return err
		}
		changes.Kind, changes.TopicId, changes.Node, changes.Group = target.Kind, target.TopicId, target.Node, target.Group
		slices.SortStableFunc(changes.Changes, func(a, b *metapb.ConfigChange) int { return strings.Compare(a.GetName(), b.GetName()) })
		cmd := &metapb.Command{Kind: &metapb.Command_ChangeConfigs{ChangeConfigs: changes}}
		if err := c.checkChange(im, r, cmd, now); err != nil || validateOnly {
			return err
		}
		_, err = c.propose(ctx, cmd)
		if r.Type == TopicResource {
			err = unknownAs(TopicRef{Name: r.Name}, err)
		}
		return err
	})
}

// checkChange checks the command alone, and the settings as they will be together.
func (c *Controller) checkChange(im *Image, r Resource, cmd *metapb.Command, now map[string]string) error {
	if result := c.check(im, cmd); result.Err != nil {
		return result.Err
	}
	if r.Type == BrokerResource {
		return nil
	}
	changes, then := cmd.GetChangeConfigs(), map[string]string{}
	if !changes.GetReplace() {
		maps.Copy(then, now)
	}
	for _, change := range changes.GetChanges() {
		if delete(then, change.GetName()); change.Value != nil {
			then[change.GetName()] = change.GetValue()
		}
	}
	if r.Type == GroupResource {
		return im.checkGroupConfig(now, then)
	}
	if _, err := (config.Layers{Topic: then}).TopicConfig(); err != nil {
		return invalidConfig(err)
	}
	return nil
}

// checkGroupConfig checks what a group would have set for itself, and that not too many groups have.
func (im *Image) checkGroupConfig(now, then map[string]string) error {
	if len(now) == 0 && len(then) > 0 && len(im.GroupConfig) >= maxOwnGroups {
		return failf(replication.ErrPolicyViolation, "%d groups have settings of their own", maxOwnGroups)
	}
	for name, value := range then {
		if len(value) > maxGroupValue {
			return failf(replication.ErrInvalidConfig, "the value of %s has more than %d bytes", name, maxGroupValue)
		}
	}
	l := im.Layers()
	l.Group = then
	if err := l.CheckGroup(); err != nil {
		return invalidConfig(err)
	}
	return nil
}

// target names a resource in a command.
func (im *Image) target(r Resource) (*metapb.ChangeConfigs, error) {
	switch {
	case r.Type == TopicResource:
		if err := ValidateTopicName(r.Name); err != nil {
			return nil, err
		}
		t, err := im.find(TopicRef{Name: r.Name})
		if err != nil {
			return nil, err
		}
		return &metapb.ChangeConfigs{Kind: metapb.ChangeConfigs_KIND_TOPIC, TopicId: slices.Clone(t.ID[:])}, nil
	case r.Type == BrokerResource && r.Name == "":
		return &metapb.ChangeConfigs{Kind: metapb.ChangeConfigs_KIND_CLUSTER}, nil
	case r.Type == BrokerResource:
		id, err := strconv.ParseInt(r.Name, 10, 32)
		if err != nil || id < 0 {
			return nil, failf(replication.ErrInvalidRequest, "%q is not a node id", r.Name)
		}
		return &metapb.ChangeConfigs{Kind: metapb.ChangeConfigs_KIND_NODE, Node: int32(id)}, nil
	case r.Type == GroupResource && r.Name != "":
		return &metapb.ChangeConfigs{Kind: metapb.ChangeConfigs_KIND_GROUP, Group: r.Name}, nil
	}
	return nil, failf(replication.ErrInvalidRequest, "resource %q of type %d has no settings", r.Name, r.Type)
}

// resolveOp turns an operation into the value that it leads to. An operation on a list depends on what the list is now, so
// its change says what that was. nil: nothing changes.
func resolveOp(im *Image, r Resource, now map[string]string, op ConfigOp) (*metapb.ConfigChange, error) {
	change := &metapb.ConfigChange{Name: op.Name}
	row, known := config.Lookup(resourceScopes[r.Type], op.Name)
	switch op.Op {
	case OpSet:
		change.Value = &op.Value
		return change, nil
	case OpDelete:
		// What nobody knows is not set, which is what is wanted: a mirror takes away whatever its source has at the default.
		if _, set := now[op.Name]; !known && !set {
			return nil, nil
		}
		return change, nil
	case OpAppend, OpSubtract:
	default:
		return nil, failf(replication.ErrInvalidRequest, "unknown operation %d on %s", op.Op, op.Name)
	}
	if !known {
		return nil, invalidConfig(config.Validate(resourceScopes[r.Type], op.Name, op.Value))
	}
	if row.Type != config.List {
		return nil, failf(replication.ErrInvalidConfig, "%s is no list, so nothing can be appended to it or taken from it", op.Name)
	}
	value, set := now[op.Name]
	change.Expected = &metapb.Expected{}
	if set {
		change.Expected.Value = &value
	} else {
		value = im.inherited(r, op.Name)
	}
	result := combine(config.Elements(value), op)
	change.Value = &result
	return change, nil
}

// inherited is the value of a setting that is not set for the resource itself.
func (im *Image) inherited(r Resource, name string) string {
	return im.topicLayers(r.Name).Get(resourceScopes[r.Type], name)
}

// combine appends to a list what it lacks, or takes from it.
func combine(list []string, op ConfigOp) string {
	for _, e := range config.Elements(op.Value) {
		if op.Op == OpSubtract {
			list = slices.DeleteFunc(list, func(have string) bool { return have == e })
		} else if !slices.Contains(list, e) {
			list = append(list, e)
		}
	}
	return strings.Join(list, ",")
}
