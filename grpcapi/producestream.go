package grpcapi

import (
	"context"
	"errors"
	"io"

	"github.com/quorlog/quorlog/broker/fetch"
	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
)

const (
	// maxWaiting bounds the batches of a ProduceStream that wait for their answers.
	maxWaiting = 256
	// maxWaitingBytes bounds them in bytes; a single message may be as large.
	maxWaitingBytes = maxMessage
)

type produceServer = grpc.BidiStreamingServer[quorlogv1.ProduceStreamRequest, quorlogv1.ProduceStreamResponse]

// stream is a ProduceStream under way.
type stream struct {
	produceServer
	server  *records
	waiting chan answered
	room    *semaphore.Weighted
	away    away
}

// answered is a batch of a ProduceStream: under way, or refused at once.
type answered struct {
	id      uint64
	give    func() // gives back the memory of its records
	refused error
	under   *producing
}

// ProduceStream stores one batch after the other. Batches are enqueued as they come and answered in their order. When the node stops,
// what was begun is answered, and the stream ends.
func (s *records) ProduceStream(server produceServer) error {
	st := &stream{produceServer: server, server: s, waiting: make(chan answered, maxWaiting), room: semaphore.NewWeighted(maxWaitingBytes)}
	st.away.parts = map[fetch.Key]int{}
	ctx := server.Context()
	if s.ctx.Err() != nil {
		return errStopping // Shutdown may have waited for the goroutines already
	}
	received := make(chan error, 1)
	s.served.Go(func() {
		received <- st.receive(ctx)
		close(st.waiting)
		<-ctx.Done() // gRPC ends it when this function has returned: what is left is answered no more
		for a := range st.waiting {
			a.give()
		}
	})
	for {
		select {
		case a, more := <-st.waiting:
			if !more {
				return s.failure(<-received)
			}
			if err := st.answer(ctx, a); err != nil {
				return err
			}
		case <-s.ctx.Done():
			return st.last(ctx)
		}
	}
}

// last answers what was begun when the node stops.
func (st *stream) last(ctx context.Context) error {
	for {
		select {
		case a, more := <-st.waiting:
			if !more {
				return errStopping
			}
			if err := st.answer(ctx, a); err != nil {
				return err
			}
		default:
			return errStopping
		}
	}
}

// receive enqueues batches until the client has no more.
func (st *stream) receive(ctx context.Context) error {
	for {
		req, err := st.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = st.server.proven(ctx)
		}
		if err == nil && st.server.ctx.Err() != nil {
			err = errStopping
		}
		if err != nil {
			return err
		}
		a, err := st.begin(ctx, req)
		if err != nil {
			return err
		}
		select {
		case st.waiting <- a:
		case <-ctx.Done():
			a.give()
			return context.Cause(ctx)
		}
	}
}

// begin waits for the memory of a batch, and enqueues it.
func (st *stream) begin(ctx context.Context, req *quorlogv1.ProduceStreamRequest) (answered, error) {
	size := min(weight(req.GetBatch()), maxWaitingBytes)
	if err := st.room.Acquire(ctx, int64(size)); err != nil {
		return answered{}, err
	}
	give, err := st.server.holdRecords(ctx, size)
	if err != nil {
		st.room.Release(int64(size))
		return answered{}, err
	}
	a := answered{id: req.GetId(), give: func() {
		give()
		st.room.Release(int64(size))
	}}
	a.under, a.refused = st.server.begin(ctx, req.GetBatch(), &st.away)
	return a, nil
}

// answer waits for a batch and tells what became of it.
func (st *stream) answer(ctx context.Context, a answered) error {
	out := st.server.streamed(ctx, a)
	a.give() // before Send, which may take as long as the client likes
	return st.Send(out)
}

func (s *records) streamed(ctx context.Context, a answered) *quorlogv1.ProduceStreamResponse {
	out := &quorlogv1.ProduceStreamResponse{Id: a.id}
	var produced *quorlogv1.ProduceResponse
	err := a.refused
	if err == nil {
		produced, err = a.under.finish(ctx)
	}
	if err == nil {
		out.Result = &quorlogv1.ProduceStreamResponse_Produced{Produced: produced}
		return out
	}
	out.Result = &quorlogv1.ProduceStreamResponse_Error{Error: s.part(err, nil)}
	return out
}
