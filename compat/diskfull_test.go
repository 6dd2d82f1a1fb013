package compat

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/quorlog/quorlog/internal/testcluster"
	"github.com/quorlog/quorlog/log/batch"
)

// produceOnce sends one batch by a plain request, which no client library repeats.
func produceOnce(t *testing.T, cl *kgo.Client, topic string) error {
	t.Helper()
	frame, err := batch.Build(batch.BuildOptions{}, batch.Record{Timestamp: time.Now().UnixMilli(), Value: []byte("v")})
	if err != nil {
		t.Fatal(err)
	}
	batch.Stamp(frame, 0, batch.NoEpoch) // a client's batch begins at 0
	part := kmsg.NewProduceRequestTopicPartition()
	part.Records = frame
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.Partitions = topic, []kmsg.ProduceRequestTopicPartition{part}
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis, req.Topics = -1, 10_000, []kmsg.ProduceRequestTopic{rt}
	req.SetVersion(9)
	resp, err := cl.Broker(1).Request(t.Context(), pinned{req})
	if err != nil {
		t.Fatal(err)
	}
	return kerr.ErrorForCode(resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode)
}

// pinned keeps a request at a version that knows topics by name.
type pinned struct{ *kmsg.ProduceRequest }

// MaxVersion caps what the client negotiates.
func (pinned) MaxVersion() int16 { return 9 }

// TestDiskFull: above the soft limit records are refused with KAFKA_STORAGE_ERROR while reads go on; with room they are
// taken again, without a restart.
func TestDiskFull(t *testing.T) {
	d := testcluster.NewDisk(t, 512)
	node := testcluster.Start(t, testcluster.Options{DataDir: filepath.Join(d.Dir, "data")})
	defer node.Kill()
	createTopic(t, node, "full", 1)
	cl := newClient(t, node)
	if err := produceOnce(t, cl, "full"); err != nil {
		t.Fatal(err)
	}
	d.Fill(t, "filler", 24<<20)
	await(t, "records are refused", func() bool { return errors.Is(produceOnce(t, cl, "full"), kerr.KafkaStorageError) })
	if got := consumeAll(t, node, "full", 1); got[0] != "v" {
		t.Errorf("read %q from the full disk", got)
	}
	if err := os.Remove(filepath.Join(d.Dir, "filler")); err != nil {
		t.Fatal(err)
	}
	await(t, "records are taken again", func() bool { return produceOnce(t, cl, "full") == nil })
}

// await waits for a condition.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(clientPatience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}
