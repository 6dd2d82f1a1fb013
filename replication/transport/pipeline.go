package transport

import (
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// window is how many requests of a pipeline may be unanswered. More hides more latency, and lengthens what a slow follower
// has waiting; the measurements found nothing beyond two on a fast network.
const window = 8

// memPipeline sends without waiting for answers, which come in order.
type memPipeline struct {
	end    *memEnd
	id     raft.ServerID
	to     raft.ServerAddress
	sent   chan *memAppend
	done   chan raft.AppendFuture
	closed chan struct{}
	once   sync.Once
	failed chan struct{} // closed by collect with the first answer that is no success: Raft reads none behind it
}

// memAppend is a request of a pipeline; it implements raft.AppendFuture.
type memAppend struct {
	began  time.Time
	req    *raft.AppendEntriesRequest
	resp   *raft.AppendEntriesResponse
	answer <-chan raft.RPCResponse
	ready  chan struct{}
	err    error
}

// Error waits for the answer.
func (a *memAppend) Error() error {
	<-a.ready
	return a.err
}

// Start is when the request was sent.
func (a *memAppend) Start() time.Time { return a.began }

// Request is what was asked.
func (a *memAppend) Request() *raft.AppendEntriesRequest { return a.req }

// Response is the answer.
func (a *memAppend) Response() *raft.AppendEntriesResponse { return a.resp }

// AppendEntriesPipeline implements Endpoint.
func (e *memEnd) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	p := &memPipeline{
		end: e, id: id, to: to,
		sent: make(chan *memAppend, window), done: make(chan raft.AppendFuture, window), closed: make(chan struct{}),
		failed: make(chan struct{}),
	}
	go p.collect()
	return p, nil
}

// AppendEntries implements raft.AppendPipeline.
func (p *memPipeline) AppendEntries(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	select {
	case <-p.closed:
		return nil, raft.ErrPipelineShutdown
	case <-p.failed:
		return nil, raft.ErrPipelineShutdown
	default:
	}
	full, err := fill(p.end.handler, req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	a := &memAppend{began: time.Now(), req: req, resp: resp, ready: make(chan struct{})}
	a.answer = p.end.start(p.to, CopyAppend(full), nil)
	select {
	case p.sent <- a:
		return a, nil
	case <-p.closed:
	case <-p.failed:
	}
	return nil, raft.ErrPipelineShutdown
}

// Consumer implements raft.AppendPipeline.
func (p *memPipeline) Consumer() <-chan raft.AppendFuture { return p.done }

// Close implements raft.AppendPipeline.
func (p *memPipeline) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// collect hands the answers to Raft in the order of the requests.
func (p *memPipeline) collect() {
	broken := false
	for {
		select {
		case a := <-p.sent:
			p.finish(a)
			if broken {
				continue
			}
			if a.err != nil || !a.resp.Success {
				broken = true
				close(p.failed)
			}
			select {
			case p.done <- a:
			case <-p.closed:
				return
			}
		case <-p.closed:
			return
		}
	}
}

// finish waits for one answer. A closed pipeline waits no longer than its end does.
func (p *memPipeline) finish(a *memAppend) {
	defer close(a.ready)
	out, err := p.end.await(p.to, a.answer, p.end.net.timeout-time.Since(a.began))
	if err != nil {
		a.err = err
		return
	}
	*a.resp = *out.(*raft.AppendEntriesResponse)
	if a.resp.Success {
		p.end.handler.Matched(p.id, Confirmed(a.req))
	}
}
