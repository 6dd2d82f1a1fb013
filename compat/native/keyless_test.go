package native

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc/codes"

	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
)

// TestRecordsWithoutKeys: a compacted topic takes none, by whatever way they come, and keeps nothing of what came with them.
func TestRecordsWithoutKeys(t *testing.T) {
	w := newWorld(t, 3)
	policy := "compact"
	_, err := w.admin.CreateTopic(w.ctx, 1, 3, map[string]*string{"cleanup.policy": &policy}, "compacted")
	w.must(err)
	records := []*quorlogv1.Record{{Key: []byte("k"), Value: []byte("v")}, {Value: []byte("v")}}
	for node := range w.conns {
		w.eventually(func() bool {
			got, err := w.topics(node).DescribeTopic(w.ctx, &quorlogv1.DescribeTopicRequest{Name: "compacted"})
			return err == nil && got.GetPartitions()[0].GetLeader() >= 0
		})
		_, err := w.records(node).Produce(w.ctx, &quorlogv1.ProduceRequest{Topic: "compacted", Records: records})
		w.refused(err, codes.InvalidArgument, "INVALID_RECORD")
		stream, err := w.records(node).ProduceStream(w.ctx)
		w.must(err)
		w.must(stream.Send(&quorlogv1.ProduceStreamRequest{Batch: &quorlogv1.ProduceRequest{Topic: "compacted", Records: records}}))
		got, err := stream.Recv()
		if err != nil || got.GetError().GetReason() != "INVALID_RECORD" {
			w.Errorf("%v, %v", got, err)
		}
		w.must(stream.CloseSend())
		status, text := w.http(http.MethodPost, "http://"+w.addrs[node]+"/v1/topics/compacted/records", strings.NewReader(`{"records":[{"value":"Mg=="}]}`))
		if status != http.StatusBadRequest || !strings.Contains(text, "INVALID_RECORD") {
			w.Errorf("HTTP: %d %s", status, text)
		}
	}
	for name, opts := range map[string][]kgo.Opt{
		"idempotent":     nil,
		"not idempotent": {kgo.DisableIdempotentWrite()},
		"one leader":     {kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.LeaderAck())},
		"transactional":  {kgo.TransactionalID("keyless")},
	} {
		cl := w.client(opts...)
		if name == "transactional" {
			w.must(cl.BeginTransaction())
		}
		err := cl.ProduceSync(w.ctx, &kgo.Record{Topic: "compacted", Value: []byte("v")}).FirstErr()
		if !errors.Is(err, kerr.InvalidRecord) {
			w.Errorf("%s: %v", name, err)
		}
		if name == "transactional" {
			w.must(cl.EndTransaction(w.ctx, kgo.TryAbort))
		}
	}
	// The marker of the transaction may be there, and is no record.
	got, err := w.records(w.leader("compacted", 0)).Consume(w.ctx, &quorlogv1.ConsumeRequest{Topic: "compacted", Isolation: quorlogv1.Isolation_ISOLATION_READ_UNCOMMITTED})
	w.must(err)
	if len(got.GetRecords()) != 0 {
		w.Errorf("something was stored: %v", got)
	}
}
