package exactlyonce

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/log/batch"
)

// fenced are the answers by which a late packet is refused.
var fenced = []error{kerr.ProducerFenced, kerr.InvalidProducerEpoch, kerr.InvalidTxnState}

// raw speaks for one transactional id, packet by packet.
type raw struct {
	t     *testing.T
	cl    *kgo.Client
	adm   *kadm.Client
	id    string
	pid   int64
	epoch int16
}

// TestReplays sends EndTxn and Produce packets a second time after their transaction has ended, after the next one has begun,
// and after another producer has taken the id over.
func TestReplays(t *testing.T) { brokers(t, endTxn, testReplays) }

func testReplays(t *testing.T, b *broker) {
	b.createTopic(t, "replay", 1)
	cl := b.client(t, nil)
	p := &raw{t: t, cl: cl, adm: kadm.NewClient(cl), id: "replayer"}
	p.init()

	// A transaction that ends; then its packets come again.
	first := p.epoch
	record := p.frame(first, 0, "first")
	p.must(p.produce(record))
	p.must(p.end(first, true))
	if p.epoch != first+1 {
		t.Fatalf("the epoch is %d after the end of a transaction at %d", p.epoch, first)
	}
	const end = 2 // with the marker, which may be written after the answer
	rig.Await(t, func() string {
		if now := p.logEnd(); now != end {
			return fmt.Sprintf("the log's end is %d", now)
		}
		return ""
	})
	p.refused("a Produce of the ended transaction", p.produce(record))
	p.refused("a later Produce of the ended transaction", p.produce(p.frame(first, 1, "never")))
	p.refused("an abort of the committed transaction", p.endAt(first, false))
	if now := p.logEnd(); now != end {
		t.Errorf("the log grew from %d to %d", end, now)
	}

	// The next transaction is open when they come.
	second := p.epoch
	p.must(p.produce(p.frame(second, 0, "second")))
	p.refused("a commit of the transaction before", p.endAt(first, true))
	p.refused("an abort of the transaction before", p.endAt(first, false))
	p.refused("a Produce of the transaction before", p.produce(record))
	if stable, end := p.stable(), p.logEnd(); stable >= end {
		t.Errorf("the open transaction is closed: LSO %d, end %d", stable, end)
	}

	// Another producer takes the id over, which aborts the second transaction.
	p.init()
	p.refused("a Produce of the fenced producer", p.produce(p.frame(second, 1, "never")))
	p.refused("a commit of the fenced producer", p.endAt(second, true))
	third := p.epoch
	p.must(p.produce(p.frame(third, 0, "third")))
	p.must(p.end(third, true))

	var got []string
	b.readCommitted(t, "replay", func(r *kgo.Record) { got = append(got, string(r.Value)) })
	if want := []string{"first", "third"}; !slices.Equal(got, want) {
		t.Errorf("committed are %q, want %q", got, want)
	}
}

func (p *raw) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// late tells that a packet was refused because it came late.
func late(err error) bool {
	return slices.ContainsFunc(fenced, func(f error) bool { return errors.Is(err, f) })
}

func (p *raw) refused(what string, err error) {
	p.t.Helper()
	if !late(err) {
		p.t.Errorf("%s: %v, want one of %v", what, err, fenced)
	}
}

// init asks for a producer id, as long as an older transaction is being ended.
func (p *raw) init() {
	p.t.Helper()
	p.must(p.again(func() error {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionalID, req.TransactionTimeoutMillis = &p.id, int32((20 * time.Second).Milliseconds())
		req.ProducerID, req.ProducerEpoch = -1, -1
		resp, err := req.RequestWith(p.t.Context(), p.cl)
		p.must(err)
		p.pid, p.epoch = resp.ProducerID, resp.ProducerEpoch
		return kerr.ErrorForCode(resp.ErrorCode)
	}))
}

// again asks as long as a transaction is being ended, or the answer is one to ask again after, and returns what is said then.
func (p *raw) again(ask func() error) (err error) {
	p.t.Helper()
	rig.Await(p.t, func() string {
		if err = ask(); errors.Is(err, kerr.ConcurrentTransactions) || kerr.IsRetriable(err) && !late(err) {
			return err.Error()
		}
		return ""
	})
	return err
}

// frame is a batch of one record.
func (p *raw) frame(epoch int16, sequence int32, value string) []byte {
	p.t.Helper()
	frame, err := batch.Build(batch.BuildOptions{Transactional: true, Producer: &batch.Producer{ID: p.pid, Epoch: epoch, Sequence: sequence}},
		batch.Record{Timestamp: time.Now().UnixMilli(), Value: []byte(value)})
	p.must(err)
	batch.Stamp(frame, 0, batch.NoEpoch)
	return frame
}

// produce sends a batch; by KIP-890 that adds the partition to the transaction.
func (p *raw) produce(frame []byte) error {
	p.t.Helper()
	part := kmsg.NewProduceRequestTopicPartition()
	part.Records = frame
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic, topic.Partitions = "replay", []kmsg.ProduceRequestTopicPartition{part}
	topics, err := p.adm.ListTopics(p.t.Context(), "replay")
	p.must(err)
	topic.TopicID = topics["replay"].ID
	return p.again(func() error {
		req := kmsg.NewPtrProduceRequest()
		req.TransactionID, req.Acks, req.TimeoutMillis = &p.id, -1, 5000
		req.Topics = []kmsg.ProduceRequestTopic{topic}
		resp, err := req.RequestWith(p.t.Context(), p.cl)
		p.must(err)
		return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
	})
}

// end ends the transaction and takes the epoch for the next.
func (p *raw) end(epoch int16, commit bool) error {
	p.t.Helper()
	resp, err := p.ask(epoch, commit)
	if err == nil {
		p.pid, p.epoch = resp.ProducerID, resp.ProducerEpoch
	}
	return err
}

// endAt sends the same packet without believing its answer.
func (p *raw) endAt(epoch int16, commit bool) error {
	p.t.Helper()
	_, err := p.ask(epoch, commit)
	return err
}

func (p *raw) ask(epoch int16, commit bool) (resp *kmsg.EndTxnResponse, err error) {
	p.t.Helper()
	err = p.again(func() error {
		req := kmsg.NewPtrEndTxnRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = p.id, p.pid, epoch, commit
		resp, err = req.RequestWith(p.t.Context(), p.cl)
		p.must(err)
		return kerr.ErrorForCode(resp.ErrorCode)
	})
	return resp, err
}

func (p *raw) logEnd() int64 {
	p.t.Helper()
	return p.offset(p.adm.ListEndOffsets)
}

func (p *raw) stable() int64 {
	p.t.Helper()
	return p.offset(p.adm.ListCommittedOffsets)
}

func (p *raw) offset(list func(context.Context, ...string) (kadm.ListedOffsets, error)) (at int64) {
	p.t.Helper()
	p.must(p.again(func() error {
		listed, err := list(p.t.Context(), "replay")
		if err != nil {
			return err
		}
		o, ok := listed.Lookup("replay", 0)
		if !ok {
			return errors.New("the partition is not listed")
		}
		at = o.Offset
		return o.Err
	}))
	return at
}
