package grpcapi

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/broker/fetch"
	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
)

const (
	defaultAnswer = 1 << 20 // bytes of one answer
	maxAnswer     = 3 << 20 // leaves room in the 4 MiB that gRPC's clients take by default
	// firstAnswer is the most that a stream begins with, as much as a client's window is at first (RFC 9113, 6.9.2): who opens many
	// streams and takes nothing has little read for it, three answers until gRPC holds no more. Each may be twice as large as the one before.
	firstAnswer = 64 << 10
	maxWait     = time.Minute
	// tailWait is how long a stream waits at the end of a partition before it looks whether it is still to be there.
	tailWait = 30 * time.Second
	// awayBytes bounds an answer that another node gives, in bytes, and awayPause is how long after an empty one it is asked again:
	// nodes answer few calls of each other at a time, so that none may wait there.
	awayBytes, awayPause = 128 << 10, 200 * time.Millisecond
	// A replica that has not got as far as the client asks for, that knows no leader, or that begins anew, may be better off in a
	// moment: a change of the leader takes less than lagWait.
	lagWait, lagPause = 5 * time.Second, 20 * time.Millisecond
)

// offsetCall is the call by which a node asks the leader of a partition where to begin: the body is a ConsumeRequest, the answer a
// ConsumeResponse with the offset to begin at, -1 if the node can't tell.
const offsetCall = "grpc.offset"

// position is where a client reads.
type position struct {
	key       fetch.Key
	next      batch.Offset
	committed bool
	maxBytes  int
	maxCount  int // 0: as many as there are
}

// Consume reads once.
func (s *records) Consume(ctx context.Context, req *quorlogv1.ConsumeRequest) (*quorlogv1.ConsumeResponse, error) {
	callIn(ctx).reading()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)() // a wait is not worth the node's
	at, err := s.position(ctx, req)
	if err != nil {
		return nil, s.failure(err)
	}
	began := s.o.Now()
	until := began.Add(min(time.Duration(max(req.GetMaxWaitMs(), 0))*time.Millisecond, maxWait))
	for {
		// Markers and aborted records are no answer to somebody who waits for records.
		wait := until.Sub(s.o.Now())
		out, give, err := s.once(ctx, at, wait)
		if err != nil {
			return nil, s.failure(err)
		}
		moved := at.next != batch.Offset(out.GetNextOffset())
		at.next = batch.Offset(out.GetNextOffset())
		// The client may have the offset from the leader, whose watermark the replica here has yet to hear of.
		if behind := out.GetHighWatermark() < out.GetNextOffset() && !handedOn(ctx); behind && until.Before(began.Add(lagWait)) {
			until = began.Add(lagWait)
			wait = until.Sub(s.o.Now())
		}
		if len(out.GetRecords()) == 0 && (wait > 0 || moved && !handedOn(ctx)) && ctx.Err() == nil {
			give()
			continue
		}
		if held, ok := ctx.Value(heldKey{}).(*heldAnswer); ok {
			held.give = give
		} else {
			give()
		}
		return out, s.failure(ctx.Err())
	}
}

// once gets one answer: from the replica here, or from the leader if there is none.
func (s *records) once(ctx context.Context, at *position, wait time.Duration) (out *quorlogv1.ConsumeResponse, give func(), err error) {
	out, give, err = s.read(ctx, at, wait)
	if !errors.Is(err, replication.ErrNotLeader) {
		return out, give, err
	}
	if handedOn(ctx) {
		return nil, nil, s.notHere(ctx, at.key)
	}
	out, err = s.readElsewhere(ctx, at, wait)
	return out, func() {}, err
}

// readElsewhere has the leader answer.
func (s *records) readElsewhere(ctx context.Context, at *position, wait time.Duration) (*quorlogv1.ConsumeResponse, error) {
	l := s.leaderOf(at.key)
	if l.Node == s.o.Node || l.Node == replication.NoNode {
		return nil, s.notHere(ctx, at.key)
	}
	req := &quorlogv1.ConsumeRequest{
		Topic: at.key.Topic, Partition: at.key.Partition, Start: &quorlogv1.ConsumeRequest_Offset{Offset: int64(at.next)},
		Isolation: quorlogv1.Isolation_ISOLATION_READ_UNCOMMITTED, MaxRecords: int32(at.maxCount), MaxBytes: int32(min(at.maxBytes, awayBytes)),
	}
	if at.committed {
		req.Isolation = quorlogv1.Isolation_ISOLATION_READ_COMMITTED
	}
	out := new(quorlogv1.ConsumeResponse)
	if err := handOn(ctx, s.core, l.Node, consumeCall, req, out, awayBytes); err != nil {
		if errors.Is(err, replication.ErrNotLeader) || errors.Is(err, replication.ErrUnknownOutcome) {
			return nil, s.notHere(ctx, at.key) // to read twice does no harm
		}
		return nil, s.relisten(ctx, err)
	}
	if wait > 0 && out.GetNextOffset() == int64(at.next) {
		return out, pause(ctx, min(wait, awayPause))
	}
	return out, nil
}

// notHere is the error of a node that has no replica to read from: it says who has.
func (s *records) notHere(ctx context.Context, key fetch.Key) error {
	return s.failure(replication.ErrNotLeader, s.notLeader(ctx, s.leaderOf(key)))
}

// relisten gives the addresses in the details of another node's error for the caller's listener.
func (s *core) relisten(ctx context.Context, err error) error {
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	var details []protoadapt.MessageV1
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *quorlogv1.NotLeader:
			d.Address = s.address(ctx, replication.NodeID(d.GetLeader()))
			details = append(details, d)
		case *quorlogv1.NotCoordinator:
			d.Address = s.address(ctx, replication.NodeID(d.GetNode()))
			details = append(details, d)
		case protoadapt.MessageV1:
			details = append(details, d)
		}
	}
	if again, err := status.New(st.Code(), st.Message()).WithDetails(details...); err == nil {
		return again.Err()
	}
	return err
}

// ConsumeStream reads and follows.
func (s *records) ConsumeStream(req *quorlogv1.ConsumeRequest, stream grpc.ServerStreamingServer[quorlogv1.ConsumeResponse]) error {
	ctx := stream.Context()
	callIn(ctx).reading()
	at, err := s.position(ctx, req)
	if err != nil {
		return s.failure(err)
	}
	most := at.maxBytes
	at.maxBytes = min(firstAnswer, most)
	for {
		out, give, err := s.read(ctx, at, tailWait)
		if errors.Is(err, replication.ErrNotLeader) {
			err = s.notHere(ctx, at.key)
		}
		if err == nil {
			at.next = batch.Offset(out.GetNextOffset())
			if err = s.send(ctx, stream, out, give); err == nil {
				err = s.proven(ctx)
			}
			if len(out.GetRecords()) > 0 {
				at.maxBytes = min(2*at.maxBytes, most)
			}
		}
		if err != nil {
			return s.failure(err)
		}
	}
}

// send hands an answer to a stream. It is encoded before, so that what it was read from need not wait until the client takes it.
func (s *records) send(ctx context.Context, stream grpc.ServerStream, out *quorlogv1.ConsumeResponse, give func()) error {
	if len(out.GetRecords()) == 0 {
		give()
		return nil
	}
	var encoded []byte
	err := s.o.Turns.Do(ctx, func() (err error) {
		encoded, err = proto.Marshal(out)
		return err
	})
	if err != nil {
		give()
		return err
	}
	return stream.SendMsg(&answer{encoded: encoded, taken: callIn(ctx).answers(give)})
}

// position checks a request and finds where it begins.
func (s *records) position(ctx context.Context, req *quorlogv1.ConsumeRequest) (*position, error) {
	if err := s.need(ctx, broker.Read, broker.Topic(req.GetTopic())); err != nil {
		return nil, err
	}
	at := &position{
		key:       fetch.Key{Topic: req.GetTopic(), Partition: req.GetPartition()},
		committed: req.GetIsolation() == quorlogv1.Isolation_ISOLATION_READ_COMMITTED,
		maxBytes:  min(int(req.GetMaxBytes()), maxAnswer), maxCount: max(int(req.GetMaxRecords()), 0),
	}
	if at.maxBytes <= 0 {
		at.maxBytes = defaultAnswer
	}
	if byWeb(ctx) {
		at.maxBytes = min(at.maxBytes, webAnswer)
	}
	if o, ok := req.GetStart().(*quorlogv1.ConsumeRequest_Offset); ok {
		if at.next = batch.Offset(o.Offset); o.Offset < 0 {
			return nil, invalid("offset %d", o.Offset)
		}
		return at, nil
	}
	var err error
	at.next, err = s.begins(ctx, req)
	return at, err
}

// begins finds where a request begins, and waits while there is no leader.
func (s *records) begins(ctx context.Context, req *quorlogv1.ConsumeRequest) (batch.Offset, error) {
	for began := s.o.Now(); ; {
		found, err := s.offset(req)
		if errors.Is(err, replication.ErrNotLeader) {
			found, err = s.offsetElsewhere(ctx, req)
		}
		if !errors.Is(err, replication.ErrNotLeader) {
			return found, err
		}
		if s.o.Now().Sub(began) > lagWait {
			return 0, s.notHere(ctx, fetch.Key{Topic: req.GetTopic(), Partition: req.GetPartition()})
		}
		if err := pause(ctx, lagPause); err != nil {
			return 0, err
		}
	}
}

// pause waits for a moment.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// offset finds where a request begins that does not say so by an offset. Only the leader knows.
func (s *records) offset(req *quorlogv1.ConsumeRequest) (batch.Offset, error) {
	q := fetch.OffsetQuery{
		Key: fetch.Key{Topic: req.GetTopic(), Partition: req.GetPartition()}, CurrentEpoch: batch.NoEpoch, Timestamp: fetch.Earliest,
		ReadCommitted: req.GetIsolation() == quorlogv1.Isolation_ISOLATION_READ_COMMITTED,
	}
	switch start := req.GetStart().(type) {
	case *quorlogv1.ConsumeRequest_TimestampMs:
		if q.Timestamp = fetch.Timestamp(start.TimestampMs); start.TimestampMs < 0 {
			return 0, invalid("timestamp %d", start.TimestampMs)
		}
	case *quorlogv1.ConsumeRequest_Edge:
		switch start.Edge {
		case quorlogv1.Edge_EDGE_EARLIEST:
		case quorlogv1.Edge_EDGE_LATEST:
			q.Timestamp = fetch.Latest
		default:
			return 0, invalid("edge %d", start.Edge)
		}
	}
	found, err := s.o.Fetch.ListOffset(q)
	if err == nil && found.Offset < 0 {
		q.Timestamp = fetch.Latest
		found, err = s.o.Fetch.ListOffset(q)
	}
	return found.Offset, err
}

// offsetElsewhere asks the leader. The error is ErrNotLeader if there is none, or it can't be reached.
func (s *records) offsetElsewhere(ctx context.Context, req *quorlogv1.ConsumeRequest) (batch.Offset, error) {
	l := s.leaderOf(fetch.Key{Topic: req.GetTopic(), Partition: req.GetPartition()})
	if l.Node == s.o.Node || l.Node == replication.NoNode {
		return 0, replication.ErrNotLeader
	}
	body, err := proto.Marshal(req)
	if err != nil {
		return 0, invalid("%v", err)
	}
	found := new(quorlogv1.ConsumeResponse)
	answer, err := s.callNode(ctx, l.Node, offsetCall, body, 0)
	if errors.Is(err, replication.ErrOverloaded) {
		return 0, err
	}
	if err != nil || proto.Unmarshal(answer, found) != nil || found.GetNextOffset() < 0 { // it does not lead either
		return 0, replication.ErrNotLeader
	}
	return batch.Offset(found.GetNextOffset()), nil
}

func (s *records) handleOffset(body []byte) ([]byte, error) {
	req := new(quorlogv1.ConsumeRequest)
	if err := proto.Unmarshal(body, req); err != nil {
		return nil, invalid("%v", err)
	}
	found, err := s.offset(req)
	if err != nil {
		found = -1
	}
	return proto.Marshal(&quorlogv1.ConsumeResponse{NextOffset: int64(found)})
}

// read fetches once and makes one answer of what it got, of at most the wanted size; what is left is fetched again. give gives back the
// memory of the answer; there is none with an error.
func (s *records) read(ctx context.Context, at *position, wait time.Duration) (out *quorlogv1.ConsumeResponse, give func(), err error) {
	res, err := s.fetch(ctx, at, wait)
	if err != nil {
		return nil, nil, err
	}
	defer res.Release()
	r := &res.Results[0]
	if r.Err != nil {
		return nil, nil, s.readFailure(ctx, at, r)
	}
	var raw []byte
	if r.Records != nil {
		done, err := s.memory.reads.take(ctx, readCost*int64(r.Size()), func() {}) // whoever has it needs it for a moment only
		if err != nil {
			return nil, nil, err
		}
		defer done()
		if raw, err = r.Records.AppendTo(make([]byte, 0, r.Size())); err != nil {
			return nil, nil, err
		}
	}
	send := func(answer *quorlogv1.ConsumeResponse) error {
		out = answer
		return errEnough
	}
	d := decoder{at: *at, send: send, limit: min(at.maxBytes, s.gauge.share()), expand: func() (func(), error) {
		return s.memory.expanded.take(ctx, maxExpanded, func() {}) // as above
	}}
	d.edges(r)
	if err := s.o.Turns.Do(ctx, func() error { return d.decode(raw) }); !errors.Is(err, errEnough) {
		return nil, nil, err
	}
	size := proto.Size(out)
	if d.size > d.limit { // one record: its headers may be next to nothing when they are encoded
		size = max(size, d.size)
	}
	give, err = s.memory.sent.take(ctx, int64(size), callIn(ctx).tooSlow)
	return out, give, err
}

// fetch reads from the replica of this node, and waits for one that may soon have more to tell.
func (s *records) fetch(ctx context.Context, at *position, wait time.Duration) (*fetch.Response, error) {
	size := min(at.maxBytes, s.gauge.share())
	denied := func(k fetch.Key) bool { return !s.may(ctx, broker.Read, broker.Topic(k.Topic)) }
	for began := s.o.Now(); ; {
		res, err := s.o.Fetch.Fetch(ctx, &fetch.Request{
			SessionEpoch: fetch.FinalEpoch, MaxWait: max(wait, 0), MinBytes: 1, MaxBytes: size, ReadCommitted: at.committed, AnyReplica: true,
			Denied:     denied, // asked at each look: a right may be taken away while a stream waits
			Partitions: []fetch.Params{{Key: at.key, Offset: at.next, MaxBytes: size, CurrentEpoch: batch.NoEpoch, LastEpoch: batch.NoEpoch}},
		})
		if err != nil {
			return nil, err
		}
		if res.Err != nil {
			return nil, res.Err
		}
		if !s.passes(ctx, at.key, res.Results[0].Err) || s.o.Now().Sub(began) > lagWait {
			return res, nil
		}
		res.Release()
		if err := pause(ctx, lagPause); err != nil {
			return nil, err
		}
	}
}

// passes tells whether an error of this node's replica is one of a moment. That the replica is not open is, where there is to be one.
func (s *records) passes(ctx context.Context, key fetch.Key, err error) bool {
	if errors.Is(err, replication.ErrOffsetNotAvailable) {
		return true
	}
	if !errors.Is(err, replication.ErrNotLeader) {
		return false
	}
	topic := s.o.Admin.Topics(ctx, []admin.TopicRef{{Name: key.Topic}}, false)[0]
	return key.Partition >= 0 && int(key.Partition) < len(topic.Partitions) && slices.Contains(topic.Partitions[key.Partition].Replicas, s.o.Node)
}

// readFailure says why nothing was read, and what the client can do.
func (s *records) readFailure(ctx context.Context, at *position, r *fetch.Result) error {
	if !errors.Is(r.Err, replication.ErrOffsetOutOfRange) {
		return r.Err
	}
	edge := func(e quorlogv1.Edge) (int64, error) { // the leader knows
		o, err := s.begins(ctx, &quorlogv1.ConsumeRequest{
			Topic: at.key.Topic, Partition: at.key.Partition, Start: &quorlogv1.ConsumeRequest_Edge{Edge: e},
			Isolation: quorlogv1.Isolation_ISOLATION_READ_UNCOMMITTED,
		})
		return int64(o), err
	}
	low, err := edge(quorlogv1.Edge_EDGE_EARLIEST)
	if err != nil {
		return r.Err
	}
	high, err := edge(quorlogv1.Edge_EDGE_LATEST)
	if err != nil {
		return r.Err
	}
	return s.failure(r.Err, &quorlogv1.OffsetRange{LogStartOffset: low, EndOffset: high})
}
