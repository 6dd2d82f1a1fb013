package agent

import (
	"log/slog"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/broker"
)

// A coordinator's topic is what the coordinator makes it, also if a client asks for it before there is any group: by the default settings it
// would have other partitions and lose what is in it after a week.
func TestInternalTopicsByMetadata(t *testing.T) {
	c, err := NewCluster(ClusterConfig{
		Nodes: 1, Dir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), OnFatal: func(err error) { t.Errorf("fatal: %v", err) },
		Settings: map[string]string{
			"offsets.topic.num.partitions": "3", "transaction.state.log.num.partitions": "3", "share.coordinator.state.topic.num.partitions": "3",
			"offsets.topic.segment.bytes": "2097152", "transaction.state.log.segment.bytes": "2097152", "share.coordinator.state.topic.segment.bytes": "2097152",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	adm := kadm.NewClient(newClient(t, seeds(c), kgo.AllowAutoTopicCreation()))
	for _, name := range []string{broker.OffsetsTopic, broker.TransactionTopic, broker.ShareStateTopic} {
		if _, err := adm.Metadata(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		topics, err := adm.ListTopicsWithInternal(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if got := topics[name]; got.Err != nil || len(got.Partitions) != 3 || !got.IsInternal {
			t.Errorf("%s: %v, %d partitions, internal %t", name, got.Err, len(got.Partitions), got.IsInternal)
		}
		configs, err := adm.DescribeTopicConfigs(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		for _, cfg := range configs[0].Configs {
			if want := map[string]string{"cleanup.policy": "compact", "segment.bytes": "2097152"}[cfg.Key]; want != "" && cfg.MaybeValue() != want {
				t.Errorf("%s: %s is %s, expected %s", name, cfg.Key, cfg.MaybeValue(), want)
			}
		}
	}
}
