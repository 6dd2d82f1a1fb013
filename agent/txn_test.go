package agent

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// readCommitted reads a topic from its beginning until n records came, or the patience ends.
func readCommitted(t *testing.T, c *Cluster, topic string, n int) []string {
	t.Helper()
	cl := newClient(t, seeds(c), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var got []string
	for len(got) < n && ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	return got
}

// TestTransactions: committed transactions are read, aborted ones are not, over several partitions on three nodes; the second
// producer under an id fences the first.
func TestTransactions(t *testing.T) {
	c := startCluster(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	adm := kadm.NewClient(newClient(t, seeds(c)))
	if created, err := adm.CreateTopic(ctx, 3, 3, nil, "txn"); err != nil {
		t.Fatal(err, created.Err)
	}
	producer := newClient(t, seeds(c), kgo.TransactionalID("id"), kgo.DefaultProduceTopic("txn"), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	const transactions, records = 20, 6
	for i := range transactions {
		if err := producer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for k := range records {
			r := kgo.StringRecord(fmt.Sprintf("%d/%d", i, k))
			producer.Produce(ctx, r, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Errorf("transaction %d: %v", i, err)
				}
			})
		}
		if err := producer.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		if err := producer.EndTransaction(ctx, kgo.TransactionEndTry(i%3 != 2)); err != nil {
			t.Fatal(i, err)
		}
	}
	want := 0
	for i := range transactions {
		if i%3 != 2 {
			want += records
		}
	}
	got := readCommitted(t, c, "txn", want)
	seen := map[string]bool{}
	for _, v := range got {
		var i, k int
		if _, err := fmt.Sscanf(v, "%d/%d", &i, &k); err != nil || i%3 == 2 || seen[v] {
			t.Errorf("read %q", v)
		}
		seen[v] = true
	}
	if len(seen) != want {
		t.Errorf("read %d records, want %d", len(seen), want)
	}
	second := newClient(t, seeds(c), kgo.TransactionalID("id"), kgo.DefaultProduceTopic("txn"))
	if err := second.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := second.ProduceSync(ctx, kgo.StringRecord("second")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := producer.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := producer.ProduceSync(ctx, kgo.StringRecord("fenced")).FirstErr(); err == nil {
		t.Error("the first producer goes on")
	}
	if err := second.EndTransaction(ctx, kgo.TryCommit); err != nil {
		t.Error(err)
	}
	listed, err := adm.ListTransactions(ctx, nil, nil)
	if err != nil || len(listed) != 1 || listed["id"].ProducerID < 0 {
		t.Errorf("listed: %+v, %v", listed, err)
	}
	described, err := adm.DescribeTransactions(ctx, "id", "nobody")
	if err != nil || described["id"].Err != nil || described["nobody"].Err == nil {
		t.Errorf("described: %+v, %v", described, err)
	}
}

// TestATransactionOfADeletedTopic: a transaction ends although a topic in it is no more, and the id's next one begins.
func TestATransactionOfADeletedTopic(t *testing.T) {
	c := startCluster(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	adm := kadm.NewClient(newClient(t, seeds(c)))
	if _, err := adm.CreateTopics(ctx, 1, 3, nil, "stays", "goes"); err != nil {
		t.Fatal(err)
	}
	producer := newClient(t, seeds(c), kgo.TransactionalID("id"))
	produce := func(topics ...string) {
		if err := producer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for _, topic := range topics {
			if err := producer.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("v")}).FirstErr(); err != nil {
				t.Fatal(topic, err)
			}
		}
	}
	produce("stays", "goes")
	if deleted, err := adm.DeleteTopics(ctx, "goes"); err != nil || deleted["goes"].Err != nil {
		t.Fatal(err, deleted["goes"].Err)
	}
	if err := producer.EndTransaction(ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	produce("stays")
	if err := producer.EndTransaction(ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	if got := readCommitted(t, c, "stays", 2); len(got) != 2 {
		t.Errorf("read %q", got)
	}
}

// TestAHangingTransaction: tools find a transaction that nobody ends, in its partition and at its coordinator, and end it by a marker (KIP-664).
func TestAHangingTransaction(t *testing.T) {
	c := startCluster(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	adm := kadm.NewClient(newClient(t, seeds(c)))
	if created, err := adm.CreateTopic(ctx, 1, 3, nil, "txn"); err != nil {
		t.Fatal(err, created.Err)
	}
	producer := newClient(t, seeds(c), kgo.TransactionalID("id"), kgo.DefaultProduceTopic("txn"))
	if err := producer.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := producer.ProduceSync(ctx, kgo.StringRecord("hangs")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	partition := kadm.TopicsSet{}
	partition.Add("txn", 0)
	inPartition := func() kadm.DescribedProducers {
		t.Helper()
		described, err := adm.DescribeProducers(ctx, partition)
		if p := described["txn"].Partitions[0]; err != nil || p.Err != nil || len(p.ActiveProducers) == 0 {
			t.Fatalf("producers: %+v, %v", described, err)
		}
		return described["txn"].Partitions[0].ActiveProducers
	}
	open := inPartition().Sorted()[0]
	if open.CurrentTxnStartOffset != 0 {
		t.Errorf("in the partition: %+v", open)
	}
	described, err := adm.DescribeTransactions(ctx, "id")
	if d := described["id"]; err != nil || d.State != "Ongoing" || d.ProducerID != open.ProducerID || !d.Topics.Lookup("txn", 0) {
		t.Errorf("described: %+v, %v", d, err)
	}
	for state, want := range map[string]int{"Ongoing": 1, "Empty": 0} {
		if listed, err := adm.ListTransactions(ctx, nil, []string{state}); err != nil || len(listed) != want {
			t.Errorf("%s: %+v, %v", state, listed, err)
		}
	}
	// What comes behind it can't be read before it has ended.
	behind := newClient(t, seeds(c), kgo.DefaultProduceTopic("txn"))
	if err := behind.ProduceSync(ctx, kgo.StringRecord("behind")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if stable, err := adm.ListCommittedOffsets(ctx, "txn"); err != nil || stable["txn"][0].Offset != 0 {
		t.Errorf("last stable offset: %+v, %v", stable, err)
	}
	written, err := adm.WriteTxnMarkers(ctx, kadm.TxnMarkers{ProducerID: open.ProducerID, ProducerEpoch: open.ProducerEpoch, Topics: partition})
	if p := written[open.ProducerID].Topics["txn"].Partitions[0]; err != nil || p.Err != nil {
		t.Fatalf("marker: %+v, %v", written, err)
	}
	if ended := inPartition()[open.ProducerID]; ended.CurrentTxnStartOffset >= 0 {
		t.Errorf("behind the marker: %+v", ended)
	}
	if got := readCommitted(t, c, "txn", 1); len(got) != 1 || got[0] != "behind" {
		t.Errorf("read %q", got)
	}
}
