package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
	"github.com/quorlog/quorlog/replication/membership"
	"github.com/quorlog/quorlog/replication/transport"
)

// handle names the handlers, before the peers are served.
func (j *joiner) handle(peers interface {
	Handle(name string, h transport.CallHandler)
}) {
	peers.Handle(joinPromise, j.handlePromise)
	peers.Handle(joinState, j.handleState)
	peers.Handle(joinRegister, j.handleRegister)
}

// handlePromise answers joinPromise.
func (j *joiner) handlePromise(_ context.Context, from transport.PeerInfo, body []byte) ([]byte, error) {
	q, err := decodeJoin[promiseRequest](body)
	if err != nil {
		return nil, err
	}
	if q.Promise.Founder != from.Node || q.Promise.Directory != from.Directory || q.Promise.ClusterID == "" {
		return nil, fmt.Errorf("join: node %d asks for a promise to node %d", from.Node, q.Promise.Founder)
	}
	var answer promiseAnswer
	err = j.store.change(func(i *identity) error {
		answer.Refused = grant(i, j.o.Expect, q.Promise, q.Expect)
		answer.ClusterID = i.ClusterID
		return nil
	})
	if err != nil {
		return nil, err
	}
	if answer.Refused == "" {
		j.logger.Info("this node promises to join", "cluster", q.Promise.ClusterID, "founder", int(from.Node))
		j.mu.Lock()
		clear(j.mu.granted) // its own candidacy, if there was one, is over
		j.mu.Unlock()
	}
	j.poke()
	return json.Marshal(answer)
}

// handleState answers joinState.
func (j *joiner) handleState(context.Context, transport.PeerInfo, []byte) ([]byte, error) {
	i := j.store.get()
	answer := stateAnswer{Node: i.NodeID, Directory: i.Directory, State: i.State, ClusterID: i.ClusterID}
	if i.State == candidate {
		answer.Candidacy = i.Promise.ClusterID
	}
	return json.Marshal(answer)
}

// serveRegistrations lets other nodes register through this one, whose metadata is open now.
func (j *joiner) serveRegistrations(register registerFunc) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.mu.register = register
}

// handleRegister answers joinRegister.
func (j *joiner) handleRegister(ctx context.Context, from transport.PeerInfo, body []byte) ([]byte, error) {
	q, err := decodeJoin[registerRequest](body)
	if err != nil {
		return nil, err
	}
	if q.Node != from.Node || q.Directory != from.Directory {
		return nil, fmt.Errorf("join: node %d registers node %d", from.Node, q.Node)
	}
	j.mu.Lock()
	register := j.mu.register
	j.mu.Unlock()
	if register == nil {
		return json.Marshal(registerAnswer{Refused: notReady, Text: "it is still starting"})
	}
	r, err := register(ctx, controller.RegisterRequest{
		Node:      replication.Node{ID: q.Node, Host: q.Host, Port: q.Port, Rack: q.Rack, Endpoints: q.Endpoints},
		Directory: controller.DirectoryID(q.Directory), Version: q.Version, Running: q.Running, Start: q.Start, Earlier: q.Earlier, Forgone: q.Forgone,
	})
	if err != nil {
		return json.Marshal(registerAnswer{Refused: refusalOf(err), Text: err.Error(), Forgotten: r.Forgotten})
	}
	return json.Marshal(registerAnswer{ClusterID: r.ClusterID, Incarnation: r.Meta.Incarnation, Renewed: r.Renewed})
}

func refusalOf(err error) refusal {
	switch {
	case errors.Is(err, controller.ErrDuplicateNode), errors.Is(err, ErrDuplicateNode):
		return duplicateID
	case errors.Is(err, controller.ErrOlderCopy):
		return olderCopy
	case errors.Is(err, ErrRefused), errors.Is(err, controller.ErrDirectoryChanged), errors.Is(err, controller.ErrOtherCluster), errors.Is(err, replication.ErrInvalidRequest):
		return neverAllowed
	}
	return notReady
}

// request is what this node says of itself. running is the replica of the metadata group that it runs already.
func (j *joiner) request(running *replication.Incarnation) (controller.RegisterRequest, error) {
	i := j.store.get()
	now, earlier, err := i.Starts.ids()
	return controller.RegisterRequest{
		Node: j.o.Self, Directory: controller.DirectoryID(i.Directory), Version: j.o.Version, Running: running, Start: now, Earlier: earlier,
	}, err
}

// registerThrough asks members of a cluster, one after the other, to take this node in.
func (j *joiner) registerThrough(ctx context.Context, members []membership.Member, cluster string, q controller.RegisterRequest) (controller.Registered, error) {
	members = slices.Clone(members)
	rand.Shuffle(len(members), func(a, b int) { members[a], members[b] = members[b], members[a] })
	i, self := j.store.get(), j.o.Self
	request := registerRequest{
		Node: i.NodeID, Host: self.Host, Port: self.Port, Rack: self.Rack, Endpoints: self.Endpoints, Directory: i.Directory, Version: j.o.Version, Running: q.Running,
		Start: q.Start, Earlier: q.Earlier, Forgone: q.Forgone,
	}
	var errs []error
	for _, m := range members {
		answer, err := call[registerAnswer](ctx, j, m, joinRegister, request, registerPatience)
		where := fmt.Sprintf("node %d at %s", m.Node, m.Addr)
		switch {
		case err != nil:
			errs = append(errs, err)
		case answer.Refused == notRefused && answer.ClusterID == cluster:
			meta := replication.ReplicaID{Node: i.NodeID, Incarnation: answer.Incarnation}
			return controller.Registered{Meta: meta, ClusterID: cluster, Renewed: answer.Renewed}, nil
		case answer.Refused == notRefused:
			return controller.Registered{}, fmt.Errorf("%w: %s: it is of cluster %s, not of %s", ErrRefused, where, answer.ClusterID, cluster)
		case answer.Refused == duplicateID:
			return controller.Registered{}, fmt.Errorf("%w: node %d, says %s: %s", ErrDuplicateNode, i.NodeID, where, answer.Text)
		case answer.Refused == olderCopy:
			return controller.Registered{Forgotten: answer.Forgotten}, fmt.Errorf("%w, says %s", controller.ErrOlderCopy, where)
		case answer.Refused == neverAllowed:
			return controller.Registered{}, fmt.Errorf("%w: %s: %s", ErrRefused, where, answer.Text)
		default:
			errs = append(errs, fmt.Errorf("%s is not ready: %s", where, answer.Text))
		}
	}
	if len(errs) == 0 {
		errs = append(errs, errNobody)
	}
	return controller.Registered{}, errors.Join(errs...)
}

var errNobody = errors.New("no member of the cluster is in sight")

// register tells the cluster where this node is now, after its metadata was opened. It goes through local, this node's own
// controller, and where that finds no leader through the members in sight: a node that was removed from the metadata group while
// it was down hears of no leader ever again by itself. It is retried until ctx ends. Where the cluster has given the node another
// replica of the metadata, that is recorded, and the metadata group must be opened again.
//
// If the cluster says that the directory is an older copy, the node asks to begin again. By then its replica of the metadata group has
// voted as the copy knows: without its vote there may be nobody who could answer.
func (j *joiner) register(ctx context.Context, local registerFunc) (controller.Registered, error) {
	running := j.store.get().Meta
	request, err := j.request(&running)
	if err != nil {
		return controller.Registered{}, err
	}
	var duplicate time.Time
	for pause := joinRetry; ; pause = min(2*pause, joinRetryMax) {
		r, err := j.registerOnce(ctx, local, request)
		if err == nil {
			return r, j.store.rejoined(r.Meta)
		}
		switch refusalOf(err) {
		case neverAllowed:
			return r, err
		case duplicateID:
			if duplicate.IsZero() {
				duplicate = j.o.Now()
			}
			if j.o.Now().Sub(duplicate) > duplicatePatience {
				return r, err
			}
		case olderCopy:
			j.logger.Error("the data directory is an older copy of itself: the node begins again, as with an empty disk", "data_dir", j.store.dir, "forgotten_start", uint64(r.Forgotten))
			request.Forgone = r.Forgotten
		}
		j.logger.Info("this node is not registered yet", "error", err)
		select {
		case <-ctx.Done():
			return r, errors.Join(err, ctx.Err())
		case <-time.After(pause):
		}
	}
}

func (j *joiner) registerOnce(ctx context.Context, local registerFunc, q controller.RegisterRequest) (controller.Registered, error) {
	short, cancel := context.WithTimeout(ctx, joinCallPatience)
	defer cancel()
	r, err := local(short, q)
	if err == nil || refusalOf(err) != notReady {
		return r, err
	}
	cluster := j.store.clusterID()
	members := slices.DeleteFunc(j.others(), func(m membership.Member) bool { return cluster == "" || m.Cluster != cluster })
	if len(members) == 0 {
		return r, err
	}
	r, err2 := j.registerThrough(ctx, members, cluster, q)
	if err2 != nil {
		return r, errors.Join(err, err2)
	}
	return r, nil
}

// opened notes, durably, that the metadata group has begun here and knows the cluster's id, and tells the gossip.
func (j *joiner) opened(cluster string) error {
	if err := j.store.opened(cluster); err != nil {
		return err
	}
	j.tell()
	return nil
}

// foreign judges a live node of another cluster that --join has led to. A node whose own cluster has other nodes goes on without
// it. One that is a cluster of its own was meant to join the other, and its data forbids that: the error should end it.
func (j *joiner) foreign(other membership.Member, registered int) error {
	own := j.store.clusterID()
	if !j.o.Join || own == "" || other.Cluster == "" || other.Cluster == own || registered > 1 {
		return nil
	}
	return fmt.Errorf("%w: %s is of cluster %s, and node %d at %s of cluster %s; leave out --join, or begin with an empty data directory",
		ErrOtherCluster, j.store.dir, own, other.Node, other.Addr, other.Cluster)
}
