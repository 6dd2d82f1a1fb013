package admin

import (
	"fmt"
	"strconv"

	"github.com/quorlog/quorlog/internal/config"
	"github.com/quorlog/quorlog/internal/logging"
	"github.com/quorlog/quorlog/replication"
)

// Levels of loggers belong to a process: they are asked of the node itself, and forgotten when it ends (KIP-412).

// loggers are those of this node; levels is nil where nobody may change them.
type loggers struct {
	node   replication.NodeID
	levels *logging.Levels
}

// checkOwn accepts this node's id only.
func (s loggers) checkOwn(name string) error {
	if id, err := strconv.ParseInt(name, 10, 32); err != nil || replication.NodeID(id) != s.node || s.levels == nil {
		return fmt.Errorf("%w: the loggers of broker %q: this is broker %d; each has its own", replication.ErrInvalidRequest, name, s.node)
	}
	return nil
}

func (s loggers) describe(name string, asked func(string) bool) ([]Setting, error) {
	if err := s.checkOwn(name); err != nil {
		return nil, err
	}
	var out []Setting
	for _, l := range s.levels.All() {
		if asked(l.Name) {
			out = append(out, Setting{Name: l.Name, Value: string(l.Level), Source: config.DynamicBrokerLogger, Type: config.String, Doc: loggerDoc})
		}
	}
	return out, nil
}

const loggerDoc = "The level of the node's logger of this name: FATAL, ERROR, WARN, INFO, DEBUG or TRACE. Without one of its own it is root's."

// alter sets levels, or gives loggers that of the root again. Nothing is changed if anything is wrong.
func (s loggers) alter(c *ConfigChange, validateOnly bool) error {
	if err := s.checkOwn(c.Name); err != nil {
		return err
	}
	if c.Replace {
		return fmt.Errorf("%w: the levels of loggers are changed by IncrementalAlterConfigs only", replication.ErrInvalidRequest)
	}
	if _, err := controllerOps(c.Ops); err != nil { // each name once, and with a value
		return err
	}
	for _, op := range c.Ops {
		if err := s.checkLevel(op); err != nil {
			return err
		}
	}
	if validateOnly {
		return nil
	}
	for _, op := range c.Ops {
		if err := s.setLevel(op); err != nil {
			return err
		}
	}
	return nil
}

func (s loggers) checkLevel(op ConfigOp) error {
	if op.Kind != OpSet && op.Kind != OpDelete {
		return fmt.Errorf("%w: levels are no lists", replication.ErrInvalidRequest)
	}
	if !s.levels.Known(op.Name) {
		return fmt.Errorf("%w: %w: %s", replication.ErrInvalidConfig, logging.ErrUnknownLogger, op.Name)
	}
	if op.Kind == OpSet {
		if _, err := logging.ParseLevel(*op.Value); err != nil {
			return fmt.Errorf("%w: %w", replication.ErrInvalidConfig, err)
		}
	} else if op.Name == logging.Root {
		return fmt.Errorf("%w: the root logger always has a level", replication.ErrInvalidRequest)
	}
	return nil
}

// setLevel makes a change that was checked.
func (s loggers) setLevel(op ConfigOp) error {
	if op.Kind == OpDelete {
		return s.levels.Unset(op.Name)
	}
	level, err := logging.ParseLevel(*op.Value)
	if err != nil {
		return err
	}
	return s.levels.Set(op.Name, level)
}
