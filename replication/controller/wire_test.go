package controller

import (
	"errors"
	"fmt"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller/metapb"
)

// What the controller says about a command arrives as it was.
func TestReplies(t *testing.T) {
	topic := &Topic{
		Name: "a", ID: numbered(1), Config: map[string]string{"retention.ms": "5"}, Internal: true, CreatedMillis: 7,
		Partitions: []replication.Assignment{{
			Replicas: []replication.ReplicaID{{Node: 1, Incarnation: 2}, {Node: 2, Incarnation: 3}}, Adding: []replication.ReplicaID{{Node: 1, Incarnation: 2}},
			Removing: []replication.ReplicaID{{Node: 2, Incarnation: 3}}, Initial: []replication.ReplicaID{{Node: 3, Incarnation: 1}},
		}},
	}
	in := &Result{
		Index: 9, Changed: true, FirstProducerID: 1000, ClusterID: "c", Replica: replication.ReplicaID{Node: 4, Incarnation: 5}, Renewed: true,
		Topics: []TopicResult{{Topic: topic}, {Err: failf(replication.ErrTopicExists, "topic b")}}, Partitions: []error{nil, ErrNoReassignment},
	}
	data, err := encodeReply(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := decodeReply(data)
	if err != nil {
		t.Fatal(err)
	}
	if !errors.Is(out.Topics[1].Err, replication.ErrTopicExists) || !proto.Equal(encodeError(out.Topics[1].Err), encodeError(in.Topics[1].Err)) || !errors.Is(out.Partitions[1], ErrNoReassignment) {
		t.Errorf("%+v", out)
	}
	in.Topics[1].Err, in.Partitions[1] = out.Topics[1].Err, out.Partitions[1]
	if !reflect.DeepEqual(in, out) {
		t.Errorf("sent\n%+v\narrived\n%+v", in, out)
	}
}

func TestErrorsKeepTheirKind(t *testing.T) {
	kinds := map[string]bool{}
	for _, w := range wireErrors {
		sent := fmt.Errorf("told: %w", w.err)
		if kinds[w.kind] {
			t.Errorf("two errors are called %s", w.kind)
		}
		kinds[w.kind] = true
		for _, reply := range [][2]error{{sent, nil}, {nil, sent}} {
			data, err := encodeReply(&Result{Err: reply[0]}, reply[1])
			if err != nil {
				t.Fatal(err)
			}
			r, err := decodeReply(data)
			if err == nil {
				err = r.Err
			}
			if !errors.Is(err, w.err) || !proto.Equal(encodeError(err), encodeError(sent)) {
				t.Errorf("%s arrived as %v", w.kind, err)
			}
		}
	}
	// A refusal that this version does not know is a refusal; a failure that it does not know says nothing about the command.
	stranger := &metapb.Error{Kind: "of the future", Text: "x"}
	for want, reply := range map[error]*metapb.ProposeReply{
		replication.ErrInvalidRequest: {Result: &metapb.Result{Error: stranger}},
		replication.ErrUnknownOutcome: {Failed: stranger},
	} {
		data, err := proto.Marshal(reply)
		if err != nil {
			t.Fatal(err)
		}
		r, err := decodeReply(data)
		if err == nil {
			err = r.Err
		}
		if !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	for _, bad := range [][]byte{nil, {0xff}} {
		if _, err := decodeReply(bad); !errors.Is(err, replication.ErrUnknownOutcome) {
			t.Errorf("%x: %v", bad, err)
		}
	}
}

// What a peer proposes is read before it is written: a command that can't be applied would end every node.
func TestProposalsOfPeersAreRead(t *testing.T) {
	c, g := newTestController(t, nil)
	propose := func(body []byte) error {
		answer, err := c.HandlePropose(t.Context(), 2, body)
		if err != nil {
			t.Fatal(err)
		}
		r, err := decodeReply(answer)
		if err == nil {
			err = r.Err
		}
		return err
	}
	wrap := func(command []byte) []byte {
		body, err := proto.Marshal(&metapb.ProposeRequest{Command: command})
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	newer := samples()[0]
	newer.Level = metadataLevel + 1
	sealed, err := seal(newer)
	if err != nil {
		t.Fatal(err)
	}
	for want, body := range map[error][]byte{
		replication.ErrInvalidRequest: {0xff}, ErrDamaged: wrap([]byte("no")), ErrTooNew: wrap(sealed),
	} {
		if err := propose(body); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	if g.index != 0 {
		t.Errorf("%d commands were written", g.index)
	}
	good, err := encodeCommand(samples()[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := propose(wrap(good)); err != nil || c.Image().ClusterID != "cluster" {
		t.Errorf("%v, %+v", err, c.Image())
	}
	var absent *Controller
	answer, err := absent.HandlePropose(t.Context(), 2, wrap(good))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeReply(answer); !errors.Is(err, ErrNotController) {
		t.Errorf("without a controller: %v", err)
	}
	g.follows = true
	if err := propose(wrap(good)); !errors.Is(err, ErrNotController) {
		t.Errorf("at a follower: %v", err)
	}
}

// FuzzReply: an answer is bytes of a peer.
func FuzzReply(f *testing.F) {
	data, err := encodeReply(&Result{Topics: []TopicResult{{Topic: &Topic{Name: "a", ID: numbered(1), Partitions: []replication.Assignment{{Initial: []replication.ReplicaID{{Node: 1}}}}}}}}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decodeReply(data)
		if (r == nil) == (err == nil) {
			t.Fatalf("%+v, %v", r, err)
		}
	})
}
