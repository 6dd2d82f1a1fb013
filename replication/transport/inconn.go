package transport

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/semaphore"
)

const (
	// maxTaken bounds the bytes of requests of one bulk connection that wait for Raft's answer. Beyond, nothing is read.
	maxTaken = maxFlying + maxBulkFrame
	// maxCalls bounds the calls of one connection that are being answered.
	maxCalls = 256
	// maxCallTime bounds a call whose caller does not say how long it waits, or says too much.
	maxCallTime = 10 * time.Minute
	// snapshotPatienceIn is how long an answer to a snapshot may take, and appendPatience to anything else. Raft leaves requests
	// unanswered when it is shut down.
	snapshotPatienceIn = snapshotTimeout
	appendPatience     = appendTimeout
)

// inConn is a connection that a peer dialled: it asks, this node answers.
type inConn struct {
	*stream
	info     PeerInfo
	ctx      context.Context // ends with the connection
	cancel   context.CancelFunc
	channels []*inRoute
	room     *semaphore.Weighted // bytes of requests that Raft has
	working  sync.WaitGroup      // goroutines that wait for answers

	calls struct {
		sync.Mutex
		cancel map[uint64]context.CancelFunc
	}
}

// inRoute is a pair of replicas that the peer has named.
type inRoute struct {
	from string
	to   place
	end  *netEnd // the last one that was found
}

func newInConn(p *Peers, nc net.Conn, r *bufio.Reader, l lane, info PeerInfo) *inConn {
	c := &inConn{stream: newStream(p, nc, r, l), info: info, room: semaphore.NewWeighted(maxTaken)}
	c.ctx, c.cancel = context.WithCancel(p.ctx)
	c.calls.cancel = make(map[uint64]context.CancelFunc)
	return c
}

// run serves the connection until it ends, and returns why. No goroutine of it is left then.
func (c *inConn) run(heard func()) error {
	c.working.Go(func() { c.write(nil) })
	stop := context.AfterFunc(c.ctx, func() { c.fail(ErrClosed) })
	defer stop()
	err := c.read(heard, c.handle)
	c.fail(err)
	c.cancel()
	c.working.Wait()
	return c.err()
}

// handle serves one request. What it returns ends the connection.
func (c *inConn) handle(message []byte) error {
	kind := message[0]
	bulk := kind == kindAppend || kind == kindSnapshot
	switch {
	case kind == kindPing:
		return c.push(simple(kindPong))
	case kind == kindCall && c.lane != laneBulk:
		return c.call(message)
	case kind == kindCancel && c.lane != laneBulk:
		return c.cancelCall(message)
	case c.lane == laneCall, bulk != (c.lane == laneBulk) && kind != kindOpen:
		return fmt.Errorf("%w: kind %d on a %s connection", errFrame, kind, c.lane)
	}
	switch kind {
	case kindOpen:
		return c.open(message)
	case kindBeats:
		return c.beats(message)
	case kindAppend:
		id, channel, req, err := parseAppend(message)
		if err != nil {
			return err
		}
		return c.request(id, channel, len(message), nil, func(h raft.RPCHeader) any {
			req.RPCHeader = h
			return req
		})
	case kindSnapshot:
		id, channel, req, data, err := parseSnapshot(message)
		if err != nil {
			return err
		}
		return c.request(id, channel, len(message), data, func(h raft.RPCHeader) any {
			req.RPCHeader = h
			return req
		})
	case kindVote, kindPreVote, kindCampaign:
		return c.vote(kind, message)
	}
	return fmt.Errorf("%w: kind %d", errFrame, kind)
}

// open notes a pair of replicas. A peer speaks for its own replicas only, to this node's.
func (c *inConn) open(message []byte) error {
	p := parser{b: message[1:]}
	n := p.num()
	group, from, to := p.text(maxName), p.text(maxName), p.text(maxName)
	if err := p.end(kindOpen); err != nil {
		return err
	}
	if n != uint64(len(c.channels)) || n >= maxChannels {
		return fmt.Errorf("%w: channel %d after %d", errFrame, n, len(c.channels))
	}
	sender, err1 := nodeOf(from)
	receiver, err2 := nodeOf(to)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	if sender != c.info.Node || receiver != c.p.o.Node {
		return fmt.Errorf("%w: node %d speaks for replica %s to replica %s", errFrame, c.info.Node, from, to)
	}
	c.channels = append(c.channels, &inRoute{from: from, to: place{group, raft.ServerAddress(to)}})
	return nil
}

// route finds who a message is for. The end is nil if the replica is not here.
func (c *inConn) route(channel uint64) (*inRoute, *netEnd, error) {
	if channel >= uint64(len(c.channels)) {
		return nil, nil, fmt.Errorf("%w: channel %d was not opened", errFrame, channel)
	}
	r := c.channels[channel]
	if r.end == nil || r.end.ctx.Err() != nil {
		r.end = c.p.end(r.to)
	}
	return r, r.end, nil
}

// request hands a request to its replica and has the answer sent.
func (c *inConn) request(id, channel uint64, size int, data []byte, build func(raft.RPCHeader) any) error {
	r, end, err := c.route(channel)
	if err != nil {
		return err
	}
	if end == nil {
		return c.push(encodeFailure(id, failedAbsent, r.to.group+" "+string(r.to.addr)))
	}
	if c.lane == laneBulk {
		if err := c.room.Acquire(c.ctx, int64(size)); err != nil {
			return err
		}
	}
	got := make(chan raft.RPCResponse, 1)
	rpc := raft.RPC{Command: build(header(r.from)), RespChan: got}
	patience := appendPatience
	if data != nil {
		rpc.Reader, patience = bytes.NewReader(data), snapshotPatienceIn
	}
	end.handler.Receive(rpc)
	select {
	case a := <-got: // answered at once: no goroutine
		return c.reply(id, size, a)
	default:
	}
	c.working.Go(func() {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case a := <-got:
			_ = c.reply(id, size, a) // if it fails the connection has ended
		case <-timer.C:
			_ = c.reply(id, size, raft.RPCResponse{Error: errors.New("the replica does not answer")})
		case <-c.ctx.Done():
		}
	})
	return nil
}

// reply sends Raft's answer to a request.
func (c *inConn) reply(id uint64, size int, got raft.RPCResponse) error {
	if c.lane == laneBulk {
		c.room.Release(int64(size))
	}
	if got.Error != nil {
		failure := byte(failedOther)
		if errors.Is(got.Error, ErrBusy) {
			failure = failedBusy
		}
		return c.push(encodeFailure(id, failure, got.Error.Error()))
	}
	flags, term, last := result(got.Response)
	return c.push(simple(kindAnswer, id, flags, term, last))
}

// result reads the fields of Raft's answers that travel.
func result(response any) (flags, term, last uint64) {
	yes := func(b bool) uint64 {
		if b {
			return flagYes
		}
		return 0
	}
	switch a := response.(type) {
	case *raft.AppendEntriesResponse:
		flags = yes(a.Success)
		if a.NoRetryBackoff {
			flags |= flagNoBackoff
		}
		return flags, a.Term, a.LastLog
	case *raft.RequestVoteResponse:
		return yes(a.Granted), a.Term, 0
	case *raft.RequestPreVoteResponse:
		return yes(a.Granted), a.Term, 0
	case *raft.InstallSnapshotResponse:
		return yes(a.Success), a.Term, 0
	}
	return 0, 0, 0
}

// vote serves the small requests of an election.
func (c *inConn) vote(kind byte, message []byte) error {
	p := parser{b: message[1:]}
	id, channel := p.num(), p.num()
	var build func(raft.RPCHeader) any
	switch kind {
	case kindVote:
		req := &raft.RequestVoteRequest{Term: p.num(), LastLogIndex: p.num(), LastLogTerm: p.num()}
		req.LeadershipTransfer = p.num()&flagTransfer != 0
		build = func(h raft.RPCHeader) any {
			req.RPCHeader = h
			return req
		}
	case kindPreVote:
		req := &raft.RequestPreVoteRequest{Term: p.num(), LastLogIndex: p.num(), LastLogTerm: p.num()}
		build = func(h raft.RPCHeader) any {
			req.RPCHeader = h
			return req
		}
	default:
		build = func(h raft.RPCHeader) any { return &raft.TimeoutNowRequest{RPCHeader: h} }
	}
	if err := p.end(kind); err != nil {
		return err
	}
	return c.request(id, channel, 0, nil, build)
}

// lateBeat is a heartbeat that Raft itself must answer.
type lateBeat struct {
	at  uint64 // its position in the frame
	got chan raft.RPCResponse
}

// beats answers the heartbeats of one frame: at once those whose replica can tell without Raft, the others as Raft does.
func (c *inConn) beats(message []byte) error {
	p := parser{b: message[1:]}
	id, n := p.num(), p.count(2)
	body := make([]byte, 0, 8*n)
	seen := uint64(0)
	var late []lateBeat
	for at := range uint64(n) {
		channel, term := p.num(), p.num()
		if p.bad {
			break
		}
		r, end, err := c.route(channel)
		if err != nil {
			return err
		}
		if end == nil {
			body, seen = appendNums(body, at, flagFailed, 0, 0), seen+1
			continue
		}
		if end.beater != nil {
			if last, ok := end.beater.Heartbeat(raft.ServerID(r.from), term); ok {
				body, seen = appendNums(body, at, flagYes, term, last), seen+1
				continue
			}
		}
		got := make(chan raft.RPCResponse, 1)
		end.handler.Receive(raft.RPC{Command: &raft.AppendEntriesRequest{RPCHeader: header(r.from), Term: term}, RespChan: got})
		late = append(late, lateBeat{at, got})
	}
	if err := p.end(kindBeats); err != nil {
		return err
	}
	if len(late) > 0 {
		c.working.Go(func() { c.answerLate(id, body, seen, late) })
		return nil
	}
	return c.seen(id, body, seen)
}

// answerLate sends what Raft answers, and what was answered before. It sends what it has whenever it would have to wait.
func (c *inConn) answerLate(id uint64, body []byte, seen uint64, late []lateBeat) {
	timer := time.NewTimer(beatTimeout)
	defer timer.Stop()
	for _, l := range late {
		var got raft.RPCResponse
		select {
		case got = <-l.got:
		default:
			if c.seen(id, body, seen) != nil {
				return
			}
			body, seen = body[:0], 0
			select {
			case got = <-l.got:
			case <-timer.C:
				return // the sender gives up by itself
			case <-c.ctx.Done():
				return
			}
		}
		flags, term, last := result(got.Response)
		if got.Error != nil {
			flags = flagFailed
		}
		body, seen = appendNums(body, l.at, flags, term, last), seen+1
	}
	_ = c.seen(id, body, seen)
}

func (c *inConn) seen(id uint64, body []byte, n uint64) error {
	if n == 0 {
		return nil
	}
	f := frame{head: append(appendNums(newHead(kindBeatsSeen), id, n), body...)}
	f.seal()
	return c.push(f)
}
