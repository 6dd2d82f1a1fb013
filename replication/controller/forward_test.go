package controller

//quorlog:bubble every test of this file runs in one

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller/metapb"
	"github.com/quorlog/quorlog/replication/transport"
)

// far is a controller on another node, whose log this node follows late.
type far struct {
	t       *testing.T
	here    *Machine
	delay   time.Duration // until this node has applied what the other one answered at once
	errs    []error       // of the next calls
	calls   int
	leader  atomic.Int32
	machine *Machine
	index   uint64
}

func (f *far) Propose(context.Context, []byte) (any, error) {
	f.t.Error("proposed on a node that follows")
	return nil, replication.ErrNotLeader
}
func (f *far) IsLeader() bool             { return false }
func (f *far) Leader() replication.NodeID { return replication.NodeID(f.leader.Load()) }

// Call implements Caller.
func (f *far) Call(_ context.Context, to replication.NodeID, name string, body []byte) ([]byte, error) {
	f.calls++
	if to != f.Leader() || name != ProposeCall {
		f.t.Errorf("called %s of node %d", name, to)
	}
	if len(f.errs) > 0 {
		err := f.errs[0]
		if f.errs = f.errs[1:]; err != nil {
			return nil, err
		}
	}
	request := &metapb.ProposeRequest{}
	if err := proto.Unmarshal(body, request); err != nil {
		return nil, err
	}
	f.index++
	index := f.index
	result, _ := f.machine.Apply(index, request.GetCommand()).(*Result)
	time.AfterFunc(f.delay, func() { f.here.Apply(index, request.GetCommand()) })
	return encodeReply(result, nil)
}

func newFar(t *testing.T, o Options) (*Controller, *far) {
	f := &far{t: t, here: NewMachine(MachineOptions{Node: 2}), machine: NewMachine(MachineOptions{Node: 1}), delay: 30 * time.Millisecond}
	f.leader.Store(1)
	o.Machine, o.Group, o.Forward = f.here, f, f
	return New(o), f
}

// Whoever changed something sees it on the node that was asked, at once.
func TestAnswersWaitForThisNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f := newFar(t, Options{})
		defer c.Close()
		began := time.Now()
		if err := c.EnsureClusterID(t.Context()); err != nil || c.Image().ClusterID == "" {
			t.Errorf("%v, %+v", err, c.Image())
		}
		if took := time.Since(began); took < f.delay || took > f.delay+2*spreadPause {
			t.Errorf("answered after %v", took)
		}
		// Not for ever.
		f.delay, began = time.Hour, time.Now()
		if err := c.SetFeature(t.Context(), "a", 1); err != nil || time.Since(began) != DefaultSpreadPatience {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		began = time.Now()
		if err := c.SetFeature(ctx, "a", 2); err != nil || time.Since(began) != time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// And on every node that is alive, but not on those that are not.
func TestAnswersWaitForLiveNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var third atomic.Uint64
		c, f := newFar(t, Options{
			Live: func() []replication.NodeID { return []replication.NodeID{1, 2, 3} },
			AppliedOn: func(id replication.NodeID) (uint64, bool) {
				if id == 3 {
					return third.Load(), true
				}
				return 1 << 40, true
			},
		})
		defer c.Close()
		f.delay = 0
		time.AfterFunc(100*time.Millisecond, func() { third.Store(1) })
		began := time.Now()
		if err := c.SetFeature(t.Context(), "a", 1); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 100*time.Millisecond || took > 100*time.Millisecond+2*spreadPause {
			t.Errorf("answered after %v", took)
		}
		// What changed nothing need not be anywhere.
		began = time.Now()
		if err := c.SetFeature(t.Context(), "a", 1); err != nil || time.Since(began) > 2*spreadPause {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// A controller that can't be reached is looked for again; one that did not answer is not asked twice.
func TestForwardingErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f := newFar(t, Options{})
		defer c.Close()
		f.delay = 0
		f.errs = []error{transport.ErrUnreachable, transport.ErrUnreachable}
		if err := c.SetFeature(t.Context(), "a", 1); err != nil || f.calls != 3 {
			t.Errorf("%v after %d calls", err, f.calls)
		}
		alter := func() error {
			return c.AlterConfigs(t.Context(), Resource{Type: BrokerResource}, []ConfigOp{{Name: "num.partitions", Value: "5"}}, false)
		}
		for _, lost := range []error{transport.ErrUnanswered, &transport.RemoteError{Text: "no such call"}} {
			f.calls, f.errs = 0, []error{lost}
			if err := alter(); !errors.Is(err, replication.ErrUnknownOutcome) || f.calls != 1 {
				t.Errorf("%v after %d calls", err, f.calls)
			}
			f.calls, f.errs = 0, []error{lost, nil} // but what may be applied twice is proposed again
			if err := c.SetFeature(t.Context(), "a", int32(f.index)+10); err != nil || f.calls != 2 {
				t.Errorf("%v after %d calls", err, f.calls)
			}
		}
		f.leader.Store(int32(replication.NoNode))
		began := time.Now()
		if err := c.SetFeature(t.Context(), "a", 2); !errors.Is(err, ErrNotController) || time.Since(began) != leaderPatience {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		time.AfterFunc(5*time.Second, func() { f.leader.Store(1) })
		if err := c.SetFeature(t.Context(), "a", 2); err != nil {
			t.Error(err)
		}
	})
}

// A node that has lost its disk may register through one that has just started and knows nothing yet: that one must look
// again, not refuse for ever.
func TestRegisterThroughANodeThatIsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f := newFar(t, Options{})
		defer c.Close()
		late := func(cmd *metapb.Command) {
			data, err := encodeCommand(cmd)
			if err != nil {
				t.Fatal(err)
			}
			f.index++
			index := f.index
			f.machine.Apply(index, data)
			time.AfterFunc(time.Duration(index)*time.Millisecond, func() { f.here.Apply(index, data) }) // in order, before all that comes
		}
		late(&metapb.Command{Kind: &metapb.Command_SetClusterId{SetClusterId: &metapb.SetClusterID{ClusterId: NewClusterID(), Nodes: 3}}})
		before := replication.Node{ID: 3, Host: "h", Port: 1}
		late(registerCommand(RegisterRequest{Node: before, Directory: DirectoryID{1}}))
		got, err := c.Register(t.Context(), RegisterRequest{Node: before, Directory: DirectoryID{2}})
		if err != nil || !got.Renewed {
			t.Errorf("%+v, %v", got, err)
		}
	})
}
