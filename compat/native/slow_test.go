package native

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// TestSlowReaders: streams whose clients take nothing hold little, however many there are, and an honest reader goes on beside them.
func TestSlowReaders(t *testing.T) {
	ctx := t.Context() // nothing of this is quick where others use the processors
	n := testcluster.Start(t, testcluster.Options{})
	cl, err := kgo.NewClient(kgo.SeedBrokers(n.Addr), kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic("t"), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	const records, size = 24, 900 << 10
	value := make([]byte, size)
	for range records {
		for i := range value {
			value[i] = byte(rand.Uint32())
		}
		if err := cl.ProduceSync(ctx, kgo.SliceRecord(value)).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	const connections, streams = 9, 100
	for range connections {
		cc, err := grpc.NewClient("passthrough:///"+n.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(64<<10))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = cc.Close() }()
		for range streams {
			if _, err := quorlogv1.NewRecordsClient(cc).ConsumeStream(ctx, &quorlogv1.ConsumeRequest{Topic: "t"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	honest := quorlogv1.NewRecordsClient(dial(t, n.Addr))
	stream, err := honest.ConsumeStream(ctx, &quorlogv1.ConsumeRequest{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	for seen := 0; seen < records; {
		got, err := stream.Recv()
		if err != nil {
			t.Fatalf("after %d records: %v", seen, err)
		}
		seen += len(got.GetRecords())
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.Pid))
	if err != nil {
		t.Skip(err) // only Linux tells
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kib int
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d MiB at the most with %d readers that take nothing", kib>>10, connections*streams)
	if kib > 700<<10 {
		t.Errorf("%d MiB", kib>>10)
	}
}
