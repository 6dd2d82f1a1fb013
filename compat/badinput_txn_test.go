package compat

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// Kafka's error codes of transactions.
const (
	codeInvalidProducerMapping = 49
	codeConcurrentTransactions = 51
	codeCoordinatorFenced      = 52
)

// longestID is what a string of the protocol can hold.
const longestID = 1<<15 - 1

// oddIDs are transactional ids that nobody would choose, and that Kafka takes.
var oddIDs = map[string]string{
	"a line break": "a\nb", "zero bytes": "\x00\x00", "spaces": "  ", "not UTF-8": "\xff\xfe\xc0", "cut in a rune": "\xe2\x82",
	"right to left": "\u202eabc", "a path": "../../etc/passwd", "an internal topic": "__transaction_state", "a format": "%s%n",
	"the longest": strings.Repeat("x", longestID),
}

// producer is a transactional id with what InitProducerId made of it.
type producer struct {
	id    string
	pid   int64
	epoch int16
}

func (w *wire) initProducer(id string, version int16) *kmsg.InitProducerIDResponse {
	w.t.Helper()
	req := kmsg.NewPtrInitProducerIDRequest()
	req.Version, req.TransactionalID, req.TransactionTimeoutMillis = version, &id, 60_000
	return w.ask(req).(*kmsg.InitProducerIDResponse)
}

// producer begins to use a transactional id; the first call waits for the coordinators.
func (w *wire) producer(id string, version int16) producer {
	w.t.Helper()
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.Version, find.CoordinatorKey, find.CoordinatorType = 2, id, 1
	for deadline := time.Now().Add(closePatience); ; {
		w.ask(find)
		resp := w.initProducer(id, version)
		if resp.ErrorCode == 0 {
			return producer{id, resp.ProducerID, resp.ProducerEpoch}
		}
		passing := []int16{codeLoading, 15, codeNotCoordinator, codeConcurrentTransactions}
		if !slices.Contains(passing, resp.ErrorCode) || time.Now().After(deadline) {
			w.t.Fatalf("InitProducerId v%d of %.20q: error code %d", version, id, resp.ErrorCode)
		}
	}
}

// coordinated waits until each coordinator of transactions, and that of the groups, has been read. So many ids are of all of them.
func (w *wire) coordinated() {
	w.t.Helper()
	txns, groups := kmsg.NewPtrDescribeTransactionsRequest(), kmsg.NewPtrDescribeGroupsRequest()
	groups.Version, groups.Groups = 5, []string{"any"}
	for i := range 300 {
		txns.TransactionalIDs = append(txns.TransactionalIDs, fmt.Sprint("id-", i))
	}
	for deadline := time.Now().Add(closePatience); ; {
		codes := append(errorCodes(w.ask(txns)), errorCodes(w.ask(groups))...)
		if !slices.ContainsFunc(codes, func(c int16) bool { return c == codeLoading || c == 15 || c == codeNotCoordinator }) {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("there is no coordinator: error codes %v", codes)
		}
	}
}

// transactional are the steps of a transaction in the versions that clients send.
func transactional(p producer, version int16) []kmsg.Request {
	add := kmsg.NewPtrAddPartitionsToTxnRequest()
	add.Version = min(version, 3)
	add.TransactionalID, add.ProducerID, add.ProducerEpoch = p.id, p.pid, p.epoch
	add.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: sampleTopic, Partitions: []int32{0}}}
	offsets := kmsg.NewPtrAddOffsetsToTxnRequest()
	offsets.Version = min(version, 4)
	offsets.TransactionalID, offsets.ProducerID, offsets.ProducerEpoch, offsets.Group = p.id, p.pid, p.epoch, "any"
	commit := kmsg.NewPtrTxnOffsetCommitRequest()
	commit.Version = version
	commit.TransactionalID, commit.ProducerID, commit.ProducerEpoch, commit.Group, commit.Generation = p.id, p.pid, p.epoch, "any", -1
	one := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	commit.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: sampleTopic, Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{one}}}
	end := kmsg.NewPtrEndTxnRequest()
	end.Version = version
	end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = p.id, p.pid, p.epoch, true
	return []kmsg.Request{add, offsets, commit, end}
}

// addByBrokers are the versions of AddPartitionsToTxn that brokers send.
func addByBrokers(p producer, version int16, verify bool) kmsg.Request {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.Version = version
	one := kmsg.NewAddPartitionsToTxnRequestTransaction()
	one.TransactionalID, one.ProducerID, one.ProducerEpoch, one.VerifyOnly = p.id, p.pid, p.epoch, verify
	one.Topics = []kmsg.AddPartitionsToTxnRequestTransactionTopic{{Topic: sampleTopic, Partitions: []int32{0}}}
	req.Transactions = append(req.Transactions, one)
	return req
}

// wantOnly checks that an answer has one error code in all its places.
func wantOnly(t *testing.T, w *wire, req kmsg.Request, what string, want int16) {
	t.Helper()
	codes := slices.DeleteFunc(errorCodes(w.ask(req)), func(c int16) bool { return c == 0 && want != 0 })
	if !slices.Equal(codes, []int16{want}) {
		t.Errorf("%s v%d, %s: error codes %v, want %d", kmsg.NameForKey(req.Key()), req.GetVersion(), what, codes, want)
	}
}

// TestOddTransactionalIDs: an id of any bytes has its transactions, and keeps them over a crash; one that nobody has begun to use has
// none; and an empty one, or one that is too long, is refused.
func TestOddTransactionalIDs(t *testing.T) {
	const newest = 5
	node := testcluster.Start(t, testcluster.Options{Args: fuzzArgs})
	newSample(t, node)
	w := dialWire(t, node)
	w.producer("first", newest) // so that there are coordinators
	w.coordinated()
	for version := range int16(newest + 1) {
		for name, id := range oddIDs {
			nobody := producer{fmt.Sprint(version, id)[:min(len(id)+1, longestID)], 12345, 0}
			for _, req := range transactional(nobody, version) {
				wantOnly(t, w, req, "of nobody, "+name, codeInvalidProducerMapping)
			}
			for _, req := range transactional(w.producer(id, version), version) {
				wantOnly(t, w, req, name, 0)
			}
		}
		if got := w.initProducer("", version); got.ErrorCode != codeInvalidRequest || got.ProducerID != -1 || got.ProducerEpoch != -1 {
			t.Errorf("InitProducerId v%d of an empty id: %+v", version, got)
		}
		for _, req := range transactional(producer{"", 12345, 0}, version) {
			wantOnly(t, w, req, "empty", codeInvalidRequest)
		}
	}
	for _, version := range []int16{4, 5} {
		for _, verify := range []bool{false, true} {
			wantOnly(t, w, addByBrokers(producer{"", 12345, 0}, version, verify), "empty", codeInvalidRequest)
			wantOnly(t, w, addByBrokers(producer{"\xff", 12345, 0}, version, verify), "of nobody", codeInvalidProducerMapping)
		}
	}
	for _, req := range tooLong() {
		wantOnly(t, w, req, "too long", codeInvalidRequest)
	}
	node.Kill()
	node.Restart()
	w = dialWire(t, node)
	w.coordinated()
	for name, id := range oddIDs {
		got := w.ended(id)
		if len(got) != 1 || got[0].ErrorCode != 0 || got[0].TransactionalID != id || got[0].State != "CompleteCommit" {
			t.Errorf("%s, after the crash: %.200q", name, fmt.Sprintf("%+v", got))
		}
	}
	unharmed(t, node)
}

// ended describes a transactional id whose transaction was committed. After a crash its markers may still be on their way.
func (w *wire) ended(id string) (got []kmsg.DescribeTransactionsResponseTransactionState) {
	w.t.Helper()
	req := kmsg.NewPtrDescribeTransactionsRequest()
	req.TransactionalIDs = []string{id}
	for deadline := time.Now().Add(closePatience); time.Now().Before(deadline); {
		got = w.ask(req).(*kmsg.DescribeTransactionsResponse).TransactionStates
		if len(got) != 1 || got[0].ErrorCode != 0 || got[0].State != "PrepareCommit" {
			break
		}
	}
	return got
}

// tooLong are requests with an id that is longer than a string of the protocol can be, which only the flexible versions can say. Kafka
// closes the connection; here it is refused as an empty one is.
func tooLong() []kmsg.Request {
	long := producer{strings.Repeat("x", longestID+1), 12345, 0}
	init := kmsg.NewPtrInitProducerIDRequest()
	init.Version, init.TransactionalID, init.TransactionTimeoutMillis = 5, &long.id, 60_000
	return append(transactional(long, 5), init, addByBrokers(long, 5, false))
}

// marker is a transaction's marker for a partition.
func marker(p producer, coordinator int32, version int8, topic string, partitions ...int32) kmsg.WriteTxnMarkersRequestMarker {
	m := kmsg.NewWriteTxnMarkersRequestMarker()
	m.ProducerID, m.ProducerEpoch, m.CoordinatorEpoch, m.TransactionVersion = p.pid, p.epoch, coordinator, version
	m.Topics = []kmsg.WriteTxnMarkersRequestMarkerTopic{{Topic: topic, Partitions: partitions}}
	return m
}

// write sends markers and returns the error codes of their partitions, in order.
func (w *wire) write(version int16, markers ...kmsg.WriteTxnMarkersRequestMarker) (codes []int16) {
	w.t.Helper()
	req := kmsg.NewPtrWriteTxnMarkersRequest()
	req.Version, req.Markers = version, markers
	for i, m := range w.ask(req).(*kmsg.WriteTxnMarkersResponse).Markers {
		if m.ProducerID != markers[i].ProducerID {
			w.t.Errorf("marker %d is of %d, the answer of %d", i, markers[i].ProducerID, m.ProducerID)
		}
		for _, topic := range m.Topics {
			for _, p := range topic.Partitions {
				codes = append(codes, p.ErrorCode)
			}
		}
	}
	return codes
}

// TestMarkersOfStrangers: a marker that comes too late, from a producer or a coordinator of before, is refused with Kafka's code and
// writes nothing; one of a producer that nobody knows is written, as in Kafka.
func TestMarkersOfStrangers(t *testing.T) {
	const good = 0
	node := testcluster.Start(t, testcluster.Options{Args: fuzzArgs})
	s := newSample(t, node)
	w := dialWire(t, node)
	before := w.producer("id", 5)
	p := w.producer("id", 5)
	if p.pid != before.pid || p.epoch != before.epoch+1 {
		t.Fatalf("%+v, then %+v", before, p)
	}
	w.highWatermark(s.topic)
	data := s.request(int16(kmsg.Produce), 12, filled).(*kmsg.ProduceRequest)
	data.TransactionID = &p.id
	begin := goodBatch().with(func(b *rawBatch) {
		b.Attributes, b.ProducerID, b.ProducerEpoch, b.FirstSequence = 0x10, p.pid, p.epoch, 0
	})
	data.Topics[0].Partitions[0].Records = begin.encode()
	wantOnly(t, w, data, "in a transaction", good)
	next, stranger := producer{p.id, p.pid, p.epoch + 1}, producer{"", 1 << 40, 7}
	end := w.highWatermark(s.topic)
	for _, step := range []struct {
		name    string
		marker  kmsg.WriteTxnMarkersRequestMarker
		want    []int16
		written int64
	}{
		{"an old producer epoch", marker(before, 3, 0, s.topic, 0), []int16{codeInvalidProducerEpoch}, 0},
		{"the epoch of an open transaction that ends with the next", marker(p, 3, 2, s.topic, 0), []int16{codeInvalidProducerEpoch}, 0},
		{"no such topic", marker(p, 3, 0, "nowhere", 0), []int16{codeUnknownPartition}, 0},
		{"no such partitions", marker(p, 3, 0, s.topic, 1, -1, 1<<31-1), []int16{codeUnknownPartition, codeUnknownPartition, codeUnknownPartition}, 0},
		{"no topic", marker(p, 3, 0, ""), nil, 0},
		{"its end, and no such partition", marker(p, 3, 0, s.topic, 0, 1), []int16{good, codeUnknownPartition}, 1},
		{"its end again", marker(p, 3, 0, s.topic, 0), []int16{good}, 1},
		{"an old coordinator epoch", marker(p, 2, 0, s.topic, 0), []int16{codeCoordinatorFenced}, 0},
		{"of an old coordinator, with the next epoch", marker(next, 2, 2, s.topic, 0), []int16{codeCoordinatorFenced}, 0},
		{"an old producer epoch of no transaction", marker(before, 3, 0, s.topic, 0), []int16{codeInvalidProducerEpoch}, 0},
		{"an old producer and an old coordinator", marker(before, 2, 0, s.topic, 0), []int16{codeInvalidProducerEpoch}, 0},
		{"of the next epoch", marker(next, 4, 2, s.topic, 0), []int16{good}, 1},
		{"of the epoch before", marker(p, 4, 0, s.topic, 0), []int16{codeInvalidProducerEpoch}, 0},
		{"of a producer that nobody knows", marker(stranger, 0, 0, s.topic, 0), []int16{good}, 1},
		{"of no producer", marker(producer{"", -1, 0}, 0, 0, s.topic, 0), []int16{codeInvalidRequest}, 0},
		{"of a producer without an epoch", marker(producer{"", stranger.pid + 1, -1}, 0, 0, s.topic, 0), []int16{codeInvalidRequest}, 0},
		{"of it, with the epoch before", marker(producer{"", stranger.pid, 6}, 0, 0, s.topic, 0), []int16{codeInvalidProducerEpoch}, 0},
	} {
		if got := w.write(2, step.marker); !slices.Equal(got, step.want) {
			t.Errorf("%s: error codes %v, want %v", step.name, got, step.want)
		}
		if end += step.written; w.highWatermark(s.topic) != end {
			t.Fatalf("%s: the partition ends at %d, want %d", step.name, w.highWatermark(s.topic), end)
		}
	}
	// Each of many has its own code, at version 1 too, which does not know of transaction versions.
	all := []kmsg.WriteTxnMarkersRequestMarker{marker(before, 4, 0, s.topic, 0), marker(next, 3, 0, s.topic, 0, 1), marker(next, 4, 0, s.topic, 0)}
	for version := int16(1); version <= 2; version++ {
		if got := w.write(version, all...); !slices.Equal(got, []int16{codeInvalidProducerEpoch, codeCoordinatorFenced, codeUnknownPartition, good}) {
			t.Errorf("many, version %d: error codes %v", version, got)
		}
	}
	if got := w.write(2); len(got) > 0 {
		t.Errorf("none: %v", got)
	}
	unharmed(t, node)
}
