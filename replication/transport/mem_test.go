package transport

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo answers every request; it remembers the last one.
type echo struct {
	Whole
	last    any
	data    []byte
	matched []uint64
	answer  func(raft.RPC)
}

func (e *echo) Receive(rpc raft.RPC) {
	e.last = rpc.Command
	if rpc.Reader != nil {
		e.data, _ = io.ReadAll(rpc.Reader)
	}
	if e.answer != nil {
		e.answer(rpc)
		return
	}
	switch req := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		rpc.Respond(&raft.AppendEntriesResponse{Term: req.Term, Success: true}, nil)
	case *raft.RequestVoteRequest:
		rpc.Respond(&raft.RequestVoteResponse{Term: req.Term, Granted: true}, nil)
	case *raft.RequestPreVoteRequest:
		rpc.Respond(&raft.RequestPreVoteResponse{Term: req.Term, Granted: true}, nil)
	case *raft.InstallSnapshotRequest:
		rpc.Respond(&raft.InstallSnapshotResponse{Term: req.Term, Success: true}, nil)
	case *raft.TimeoutNowRequest:
		rpc.Respond(&raft.TimeoutNowResponse{}, nil)
	}
}

func (e *echo) Matched(_ raft.ServerID, index uint64) { e.matched = append(e.matched, index) }

func pair(t *testing.T) (net *Mem, a, b *echo, end Endpoint) {
	t.Helper()
	net, a, b = NewMem(0), &echo{}, &echo{}
	end, err := net.Attach("g", "1.0", a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := net.Attach("g", "2.0", b); err != nil {
		t.Fatal(err)
	}
	return net, a, b, end
}

func request() *raft.AppendEntriesRequest {
	return &raft.AppendEntriesRequest{Term: 3, PrevLogEntry: 4, Entries: []*raft.Log{
		{Index: 5, Term: 3, Data: []byte("five"), Extensions: []byte("local")}, {Index: 6, Term: 3, Type: raft.LogNoop},
	}}
}

func TestMemCarriesCopies(t *testing.T) {
	_, a, b, end := pair(t)
	req, resp := request(), &raft.AppendEntriesResponse{}
	if err := end.AppendEntries("2.0", "2.0", req, resp); err != nil || !resp.Success || resp.Term != 3 {
		t.Fatalf("%+v, %v", resp, err)
	}
	got := b.last.(*raft.AppendEntriesRequest)
	if got == req || got.Entries[0] == req.Entries[0] || &got.Entries[0].Data[0] == &req.Entries[0].Data[0] {
		t.Error("the two ends share memory")
	}
	if string(got.Entries[0].Data) != "five" || got.Entries[1].Type != raft.LogNoop || got.Entries[0].Extensions != nil {
		t.Errorf("%+v", got.Entries[0])
	}
	if len(a.matched) != 1 || a.matched[0] != 6 {
		t.Errorf("confirmed: %v", a.matched)
	}
	vote, preVote, snapshot := &raft.RequestVoteResponse{}, &raft.RequestPreVoteResponse{}, &raft.InstallSnapshotResponse{}
	for name, err := range map[string]error{
		"vote":     end.RequestVote("2.0", "2.0", &raft.RequestVoteRequest{Term: 4}, vote),
		"pre-vote": end.RequestPreVote("2.0", "2.0", &raft.RequestPreVoteRequest{Term: 5}, preVote),
		"timeout":  end.TimeoutNow("2.0", "2.0", &raft.TimeoutNowRequest{}, &raft.TimeoutNowResponse{}),
		"snapshot": end.InstallSnapshot("2.0", "2.0", &raft.InstallSnapshotRequest{Term: 6}, snapshot, []byte("state")),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !vote.Granted || !preVote.Granted || !snapshot.Success || !bytes.Equal(b.data, []byte("state")) {
		t.Errorf("%+v %+v %+v %q", vote, preVote, snapshot, b.data)
	}
}

func TestMemLosesWhatIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, a, b, end := pair(t)
		for name, cut := range map[string]func(){
			"there":     func() { net.Cut("1.0", "2.0") },
			"back":      func() { net.Cut("2.0", "1.0") },
			"both":      func() { net.Isolate("1.0", "1.0", "2.0") },
			"elsewhere": func() {},
		} {
			net.Heal()
			cut()
			began := time.Now()
			to := raft.ServerAddress("2.0")
			if name == "elsewhere" {
				to = "9.0"
			}
			err := end.AppendEntries("2.0", to, request(), &raft.AppendEntriesResponse{})
			if !errors.Is(err, ErrUnreachable) || time.Since(began) != DefaultTimeout {
				t.Errorf("%s: %v after %v", name, err, time.Since(began))
			}
		}
		if len(a.matched) > 0 {
			t.Error("a lost answer was counted")
		}
		net.Heal()
		net.Cut("2.0", "1.0")
		net.Join("2.0", "1.0")
		if err := end.AppendEntries("2.0", "2.0", request(), &raft.AppendEntriesResponse{}); err != nil {
			t.Error(err)
		}
		b.answer = func(rpc raft.RPC) { rpc.Respond(nil, ErrBusy) }
		if err := end.AppendEntries("2.0", "2.0", request(), &raft.AppendEntriesResponse{}); !errors.Is(err, ErrBusy) {
			t.Errorf("an error of the peer: %v", err)
		}
		// A request that waits ends with its end.
		b.answer = func(raft.RPC) {}
		result := make(chan error)
		go func() {
			result <- end.InstallSnapshot("2.0", "2.0", &raft.InstallSnapshotRequest{}, &raft.InstallSnapshotResponse{}, nil)
		}()
		synctest.Wait()
		end.Detach()
		end.Detach()
		if err := <-result; !errors.Is(err, ErrDetached) {
			t.Errorf("detached: %v", err)
		}
	})
}

func TestPipelineKeepsTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b, end := pair(t)
		var waiting []raft.RPC
		b.answer = func(rpc raft.RPC) { waiting = append(waiting, rpc) }
		p, err := end.AppendEntriesPipeline("2.0", "2.0")
		if err != nil {
			t.Fatal(err)
		}
		for i := range uint64(5) {
			if _, err := p.AppendEntries(&raft.AppendEntriesRequest{PrevLogEntry: i}, &raft.AppendEntriesResponse{}); err != nil {
				t.Fatal(err)
			}
		}
		for i := len(waiting) - 1; i >= 0; i-- { // the answers come in any order
			waiting[i].Respond(&raft.AppendEntriesResponse{Success: true}, nil)
		}
		for i := range uint64(5) {
			f := <-p.Consumer()
			if f.Error() != nil || f.Request().PrevLogEntry != i || !f.Response().Success || f.Start().IsZero() {
				t.Errorf("answer %d: %+v", i, f.Request())
			}
		}
		if len(a.matched) != 5 {
			t.Errorf("confirmed: %v", a.matched)
		}
		if _, err := p.AppendEntries(request(), &raft.AppendEntriesResponse{}); err != nil {
			t.Fatal(err)
		}
		if f := <-p.Consumer(); !errors.Is(f.Error(), ErrUnreachable) || f.Response().Success {
			t.Errorf("no answer: %v", f.Error())
		}
		if err := errors.Join(p.Close(), p.Close()); err != nil {
			t.Error(err)
		}
		if _, err := p.AppendEntries(request(), &raft.AppendEntriesResponse{}); !errors.Is(err, raft.ErrPipelineShutdown) {
			t.Errorf("closed: %v", err)
		}
	})
}

func TestNoneReachesNobody(t *testing.T) {
	end, err := None{}.Attach("g", "1.0", &echo{})
	if err != nil {
		t.Fatal(err)
	}
	defer end.Detach()
	_, pipe := end.AppendEntriesPipeline("", "")
	for name, err := range map[string]error{
		"append": end.AppendEntries("", "", nil, nil), "pipeline": pipe, "vote": end.RequestVote("", "", nil, nil),
		"pre-vote": end.RequestPreVote("", "", nil, nil), "snapshot": end.InstallSnapshot("", "", nil, nil, nil), "timeout": end.TimeoutNow("", "", nil, nil),
	} {
		if !errors.Is(err, ErrUnreachable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Raft reads no answers behind the first one that is no success, and looks for that only between two requests. A request that
// waited for room then would wait for ever, and with it the shutdown of its group.
func TestPipelineEndsWithItsFirstFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, b, end := pair(t)
		b.answer = func(rpc raft.RPC) { rpc.Respond(&raft.AppendEntriesResponse{}, nil) }
		p, err := end.AppendEntriesPipeline("2.0", "2.0")
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		for sent := 0; ; sent++ {
			if _, err := p.AppendEntries(request(), &raft.AppendEntriesResponse{}); err != nil {
				if !errors.Is(err, raft.ErrPipelineShutdown) {
					t.Errorf("refused with %v", err)
				}
				return
			}
			if sent > 4*window {
				t.Fatal("requests are taken on and on")
			}
			synctest.Wait()
		}
	})
}
