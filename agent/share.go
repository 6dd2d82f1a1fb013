package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/broker/coordinator/replicated"
	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/broker/share"
	"github.com/quorlog/quorlog/broker/share/keeper"
	"github.com/quorlog/quorlog/internal/config"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
	"github.com/quorlog/quorlog/replication/transport"
)

// shares connects share groups with partitions and with other nodes. It is an api.ShareOffsets.
type shares struct {
	agent  *Agent
	topic  *replicated.Node // __share_group_state
	keeper *keeper.Service
	client *keeper.Client
	served *share.Service
}

func (a *Agent) openShares() error {
	s := &shares{agent: a}
	s.topic = replicated.New(replicated.Options{
		Partitions: a.partitions, Controller: a.controller, Leaders: a.table, Topic: broker.ShareStateTopic,
		Count:    int32(a.layers.Int("share.coordinator.state.topic.num.partitions")),
		Replicas: int16(a.layers.Int("share.coordinator.state.topic.replication.factor")),
		Config: map[string]string{
			"segment.bytes":       fmt.Sprint(a.layers.Int("share.coordinator.state.topic.segment.bytes")),
			"min.insync.replicas": fmt.Sprint(a.layers.Int("share.coordinator.state.topic.min.isr")),
		},
	})
	var err error
	s.keeper, err = keeper.New(keeper.Options{Logs: s.topic, Cluster: s.topic, Logger: a.levels.Logger("share")})
	s.client = &keeper.Client{Cluster: s.topic, Peers: s.call}
	a.shares = s
	a.keeper.Store(s.keeper)
	return err
}

// call reaches a node, this one too.
func (s *shares) call(ctx context.Context, to replication.NodeID, name string, body []byte) ([]byte, error) {
	if to == s.agent.node.NodeID {
		return s.keeper.Handle(ctx, name, body)
	}
	return s.agent.callPeer(ctx, to, name, body)
}

// handleShares answers the calls of other nodes. There are none before the partitions are open.
func (c *contacts) handleShares() {
	for _, name := range []string{keeper.CallName, keeper.ListCallName} {
		c.peers.Handle(name, func(ctx context.Context, _ transport.PeerInfo, body []byte) ([]byte, error) {
			k := c.keeper.Load()
			if k == nil {
				return nil, errStarting
			}
			return k.Handle(ctx, name, body)
		})
	}
}

// service makes the service of share groups.
func (s *shares) service(lookup *admin.Partitions) (*share.Service, error) {
	a := s.agent
	return share.New(share.Options{
		Logs: share.Local(lookup), Store: s.client, Now: a.config.Now, Settings: s.settings,
		Sessions: int(a.layers.Int("group.share.max.share.sessions")), MaxBytes: int(a.layers.Int("fetch.max.bytes")),
	})
}

// settings are a group's.
func (s *shares) settings(group string) share.GroupSettings {
	l := groupLayers(s.agent.controller, group)
	var out share.GroupSettings
	out.DeliveryLimit = int16(l.GroupInt("share.delivery.count.limit"))
	out.LockDuration = time.Duration(l.GroupInt("share.record.lock.duration.ms")) * time.Millisecond
	out.MaxInFlight = l.GroupInt("share.partition.max.record.locks")
	out.ReadCommitted = l.Get(config.Group, "share.isolation.level") == "read_committed"
	out.Reset.Earliest, out.Reset.Age = l.ShareReset()
	return out
}

// groupLayers are the settings that hold for a group on this node.
func groupLayers(c *controller.Controller, group string) config.Layers {
	im := c.Image()
	l := im.Layers()
	l.Group = im.GroupConfig[group]
	return l
}

// memberTimes tells those of a consumer group's members, or a share group's.
func memberTimes(c *controller.Controller) func(id string, share bool) group.Times {
	return func(id string, share bool) group.Times {
		l, kind := groupLayers(c, id), "consumer"
		if share {
			kind = "share"
		}
		return group.Times{
			Session:   time.Duration(l.GroupInt(kind+".session.timeout.ms")) * time.Millisecond,
			Heartbeat: time.Duration(l.GroupInt(kind+".heartbeat.interval.ms")) * time.Millisecond,
		}
	}
}

// close ends both services. It may be called before all is made.
func (s *shares) close() {
	if s == nil {
		return
	}
	if s.served != nil {
		s.served.Close()
	}
	if s.keeper != nil {
		s.keeper.Close()
	}
}

// Topic finds a topic.
func (s *shares) Topic(name string) (id replication.TopicID, partitions int32, ok bool) {
	t, ok := s.topic.Topic(name)
	return t.ID, t.Partitions, ok
}

// Name finds a topic's name.
func (s *shares) Name(id replication.TopicID) (string, bool) {
	t, ok := s.topic.TopicByID(id)
	return t.Name, ok
}

// List tells of all share-partitions of a group.
func (s *shares) List(ctx context.Context, group string) ([]keeper.Listed, error) {
	return s.client.List(ctx, group)
}

// Ask asks the keepers of many keys.
func (s *shares) Ask(ctx context.Context, all []*keeper.Request) []keeper.Result {
	return s.client.AskAll(ctx, all)
}

// Ends tells the high watermarks of partitions; those that are not known are left out.
func (s *shares) Ends(ctx context.Context, of []replication.PartitionID) map[replication.PartitionID]batch.Offset {
	return watermarks(ctx, s.agent, of)
}
