package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
	"github.com/quorlog/quorlog/replication/membership"
	"github.com/quorlog/quorlog/replication/transport"
)

// Errors of joining that end the node.
var (
	// ErrDuplicateNode: another node with this id is alive and belongs to the cluster.
	ErrDuplicateNode = errors.New("another live node has this node's id")
	// ErrRefused: the cluster will not have this node.
	ErrRefused = errors.New("the cluster refuses this node")
	// ErrOtherCluster: the node's data belongs to another cluster.
	ErrOtherCluster = errors.New("the data directory belongs to another cluster")
)

const (
	// joinRetry is the pause before a step that failed, or that waits for others, is looked at again; news come earlier.
	joinRetry    = 250 * time.Millisecond
	joinRetryMax = 2 * time.Second
	// joinCallPatience bounds one call.
	joinCallPatience = 5 * time.Second
	// registerPatience bounds a registration that goes through another node: it may have to wait for an election.
	registerPatience = 15 * time.Second
	// duplicatePatience is how long another node with this id may be said to be alive: that long it may take until the
	// others notice that it is this node's own former life.
	duplicatePatience = 20 * time.Second
	// waitingLogged is how often it is said again what the node waits for.
	waitingLogged = 30 * time.Second
)

// gossiper is what the joiner needs of *membership.Gossip.
type gossiper interface {
	Members() []membership.Member
	Watch(fn func()) (cancel func())
	Self() membership.Member
	SetSelf(membership.Member) error
}

// joinCaller calls a node by its address, before ids or clusters are known: *transport.Peers. Any error means: try again.
type joinCaller interface {
	CallAddr(ctx context.Context, addr, name string, body []byte) (transport.PeerInfo, []byte, error)
}

// registerFunc registers a node with the cluster that this node belongs to: controller.Controller.Register.
type registerFunc func(context.Context, controller.RegisterRequest) (controller.Registered, error)

type joinerOptions struct {
	Store   *identityStore
	Self    replication.Node // as the cluster is to know this node
	Version string
	Expect  int
	Join    bool     // --join was given
	Gossip  gossiper // nil: a node without a cluster key
	Peers   joinCaller
	Logger  *slog.Logger
	Now     func() time.Time
}

// membershipResult is what the metadata group is opened with.
type membershipResult struct {
	ClusterID string // "" for a directory of format 1, whose metadata knows it, if it has one
	Meta      replication.ReplicaID
	Found     bool // begin the metadata group with this node as its only voter, unless it has begun
}

// joiner brings a node into its cluster, and answers the calls of others that are on their way. run is called once, on one
// goroutine; the handlers may be called at any time, before and after it.
type joiner struct {
	o      joinerOptions
	store  *identityStore
	logger *slog.Logger
	wake   chan struct{} // capacity 1
	mu     struct {
		sync.Mutex
		granted  map[replication.NodeID]directoryID
		register registerFunc // nil until this node's metadata is open
	}
}

func newJoiner(o joinerOptions) *joiner {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	j := &joiner{o: o, store: o.Store, logger: o.Logger, wake: make(chan struct{}, 1)}
	j.mu.granted = map[replication.NodeID]directoryID{}
	return j
}

// describeSelf is what the gossip tells of a node in its present state. It is called for membership.Options.Self, too.
func describeSelf(i identity, self replication.Node, addr, version string, expect int) membership.Member {
	return membership.Member{
		Node: i.NodeID, Addr: addr, Rack: self.Rack, Version: version, Cluster: i.ClusterID, Directory: i.Directory, Expect: expect, Fresh: i.State.waits(),
	}
}

// run founds or finds the cluster. It returns when the metadata group can be opened, with an error that should end the node, or
// when ctx ends.
func (j *joiner) run(ctx context.Context) (membershipResult, error) {
	if j.o.Gossip != nil {
		defer j.o.Gossip.Watch(j.poke)()
	}
	var (
		waiting   waitLog
		pause     = joinRetry
		duplicate time.Time // since when another node is said to have our id
	)
	for {
		step := nextBootStep(j.view())
		if step.kind == bootDone {
			return j.result(), nil
		}
		waiting.say(j, step)
		progress, err := j.take(ctx, step)
		switch {
		case errors.Is(err, ErrDuplicateNode):
			now := j.o.Now()
			if duplicate.IsZero() {
				duplicate = now
			}
			if now.Sub(duplicate) > duplicatePatience {
				return membershipResult{}, err
			}
		case errors.Is(err, ErrRefused), errors.Is(err, errDisk), ctx.Err() != nil:
			return membershipResult{}, errors.Join(err, ctx.Err())
		case err == nil:
			duplicate = time.Time{}
		}
		if err != nil {
			waiting.failed(j, step, err)
		}
		if progress {
			pause = joinRetry
			continue
		}
		select {
		case <-ctx.Done():
			return membershipResult{}, ctx.Err()
		case <-j.wake:
			pause = joinRetry
		case <-time.After(pause):
			pause = min(2*pause, joinRetryMax)
		}
	}
}

func (j *joiner) poke() {
	select {
	case j.wake <- struct{}{}:
	default: // it will look anyway
	}
}

func (j *joiner) result() membershipResult {
	i := j.store.get()
	return membershipResult{ClusterID: i.ClusterID, Meta: i.replica(), Found: i.State == founding}
}

func (j *joiner) view() bootView {
	v := bootView{self: j.store.get(), expect: j.o.Expect, join: j.o.Join, others: j.others(), file: j.store.file()}
	j.mu.Lock()
	defer j.mu.Unlock()
	v.granted = map[replication.NodeID]directoryID{}
	for node, dir := range j.mu.granted {
		v.granted[node] = dir
	}
	return v
}

// others are the live members but this node.
func (j *joiner) others() []membership.Member {
	if j.o.Gossip == nil {
		return nil
	}
	return slices.DeleteFunc(j.o.Gossip.Members(), func(m membership.Member) bool {
		return m.Status != membership.Alive || m.Node == j.o.Self.ID
	})
}

// take takes a step. progress means that the next one may follow at once.
func (j *joiner) take(ctx context.Context, step bootStep) (progress bool, err error) {
	switch step.kind {
	case bootAlone:
		return j.become(func(i *identity) {
			// A candidate's promise goes to itself, so no other node founds with it; and those that promised it theirs wait for
			// this very cluster.
			i.ClusterID, i.State, i.Promise = cmp.Or(i.Promise.ClusterID, controller.NewClusterID()), founding, promise{}
		}, fresh, candidate)
	case bootCandidate:
		return j.become(func(i *identity) {
			i.State, i.Promise = candidate, promise{i.NodeID, i.Directory, controller.NewClusterID()}
		}, fresh)
	case bootAsk:
		return j.ask(ctx, step.members)
	case bootFound:
		return j.become(func(i *identity) {
			i.State, i.ClusterID, i.Promise = founding, i.Promise.ClusterID, promise{}
		}, candidate)
	case bootRegister:
		return j.join(ctx, step)
	case bootPoll:
		return j.poll(ctx, step.members[0])
	}
	return false, nil
}

// become changes the identity, unless a call has changed it meanwhile, and tells the gossip.
func (j *joiner) become(fn func(*identity), from ...belonging) (changed bool, err error) {
	err = j.store.change(func(i *identity) error {
		if changed = slices.Contains(from, i.State); changed {
			fn(i)
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	j.tell()
	return changed, nil
}

// tell brings the gossip up to date with the identity.
func (j *joiner) tell() {
	if j.o.Gossip == nil {
		return
	}
	i, self := j.store.get(), j.o.Gossip.Self()
	if self.Cluster == i.ClusterID && self.Fresh == i.State.waits() {
		return
	}
	self.Cluster, self.Fresh = i.ClusterID, i.State.waits()
	if err := j.o.Gossip.SetSelf(self); err != nil {
		j.logger.Error("the gossip does not take this node's cluster", "error", err)
	}
}

// ask asks for promises, all at the same time.
func (j *joiner) ask(ctx context.Context, members []membership.Member) (progress bool, err error) {
	self := j.store.get()
	if self.State != candidate {
		return true, nil
	}
	var asked sync.WaitGroup
	errs := make([]error, len(members))
	for n, m := range members {
		asked.Go(func() {
			answer, err := call[promiseAnswer](ctx, j, m, joinPromise, promiseRequest{self.Promise, j.o.Expect}, joinCallPatience)
			switch {
			case err != nil:
				errs[n] = err
			case answer.Refused != "":
				errs[n] = fmt.Errorf("node %d at %s does not promise: %s", m.Node, m.Addr, answer.Refused)
			default:
				j.mu.Lock()
				j.mu.granted[m.Node] = m.Directory
				j.mu.Unlock()
			}
		})
	}
	asked.Wait()
	err = errors.Join(errs...)
	return err == nil, err
}

// poll asks the founder how far it is, and takes the promise back if it is needed no more.
func (j *joiner) poll(ctx context.Context, founder membership.Member) (progress bool, err error) {
	says, err := call[stateAnswer](ctx, j, founder, joinState, struct{}{}, joinCallPatience)
	if err != nil {
		return false, err
	}
	before := j.store.get().State
	if err := j.store.change(func(i *identity) error { release(i, says); return nil }); err != nil {
		return false, err
	}
	return j.store.get().State != before, nil
}

// join has a member of the cluster take this node in.
func (j *joiner) join(ctx context.Context, step bootStep) (progress bool, err error) {
	q, err := j.request(nil)
	if err != nil {
		return false, err
	}
	r, err := j.registerThrough(ctx, step.members, step.cluster, q)
	if err != nil {
		return false, err
	}
	return j.become(func(i *identity) {
		i.State, i.ClusterID, i.Meta, i.Promise = joined, r.ClusterID, r.Meta.Incarnation, promise{}
	}, fresh, candidate, promised)
}

// call asks a member, and makes sure that it is that member who answers.
func call[Answer any](ctx context.Context, j *joiner, m membership.Member, name string, request any, patience time.Duration) (out Answer, err error) {
	body, err := json.Marshal(request)
	if err != nil {
		return out, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	who, answer, err := j.o.Peers.CallAddr(ctx, m.Addr, name, body)
	if err != nil {
		return out, fmt.Errorf("node %d at %s: %w", m.Node, m.Addr, err)
	}
	if who.Node != m.Node || who.Directory != m.Directory {
		return out, fmt.Errorf("at %s node %d with directory %s answers, not node %d with directory %s", m.Addr,
			who.Node, directoryID(who.Directory), m.Node, directoryID(m.Directory))
	}
	return decodeJoin[Answer](answer)
}

// waitLog says what a node does and waits for: each thing once at first, and again from time to time.
type waitLog struct {
	why   string
	said  time.Time
	error string
}

func (w *waitLog) say(j *joiner, step bootStep) {
	now := j.o.Now()
	if step.why == w.why && now.Sub(w.said) < waitingLogged {
		return
	}
	level := slog.LevelInfo
	if step.why == w.why {
		level = slog.LevelWarn
	}
	w.why, w.said, w.error = step.why, now, ""
	j.logger.Log(context.Background(), level, "finding the cluster: "+step.why, "data_dir", j.store.dir)
}

func (w *waitLog) failed(j *joiner, step bootStep, err error) {
	if text := fmt.Sprint(err); text != w.error {
		w.error = text
		j.logger.Warn("finding the cluster: "+step.why, "error", err)
	}
}
