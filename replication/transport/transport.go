// Package transport is the network between nodes. [Peers] carries the Raft messages of all groups, and calls, over few TCP
// connections; [Mem] is a network in memory for simulations, and [None] that of a node without peers.
//
// A network knows nothing of partitions: it delivers requests for (group, replica) to the [Handler] that was attached for
// it, and tells that handler which log positions its peers have confirmed. What must happen to a request before Raft may
// see it is the handler's affair (package raftgroup).
//
// # Connections
//
// A node dials each other node twice; what it asks goes over these, and the answers come back over them. One is for control
// (heartbeats, votes, calls), one for bulk (entries, snapshots): 4 MiB of entries never delay a heartbeat. Both sides prove
// the cluster's key (hello.go), and a peer may speak for its own replicas only. The proof is of the connection's beginning:
// whoever can change what others send needs TLS in his way, not this. Then frames follow (frame.go, messages.go), with
// lengths that are bounded and checksums. The pair of replicas that a message is for is named once on a connection and has a
// number from then on.
//
// What is dead is noticed by the silence of a connection whose other side answers a ping every moment; every read, write and
// handshake has a deadline. A connection that breaks fails what was asked over it, and is dialled again, with pauses.
//
// # Heartbeats
//
// See beats.go and package raftgroup (calm.go): they are what a group without work costs.
//
// # Back-pressure
//
// Entries on their way to one node are bounded in bytes (maxFlying), and so are those of one pipeline; beyond, the group's
// replication waits, and nothing else does. A receiver reads no further while as much waits for its Raft (maxTaken).
//
// # Goroutines
//
//	Mem            one for each open pipeline, which hands answers to Raft in order; Raft closes it, or Detach does
//	Serve          the caller's; ends with its listener
//	dialer.run     two for each known node (control, bulk); they dial and are their connection's reader; end with Close, or
//	               when the node has had no address for a minute
//	stream.write   one for each connection; ends with it
//	accepted       one for each accepted connection, its reader; ends with it
//	inConn         one for each request that Raft has not answered yet, and for each call; ends with the answer, the
//	               connection, or its time
//	beats.flush    a timer's, for each peer, when heartbeats are due
//	tell           one; calls OnPeer; ends with Close
//
// # Locks
//
//	route.mu -> outConn.naming -> stream.mu
//	Peers.mu -> beats.mu
//	flow.handing -> flow.mu
//	flight.mu -> outConn.wait
//
// Handlers are called without any but flow.handing.
package transport

import (
	"errors"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/replication"
)

// Errors of networks. All of them mean for Raft: try again later.
var (
	// ErrUnreachable: the peer is not there, or did not answer in time.
	ErrUnreachable = errors.New("transport: peer unreachable")
	// ErrDetached: this end was detached.
	ErrDetached = errors.New("transport: detached")
	// ErrAbsent: the peer has no such replica, or not yet.
	ErrAbsent = errors.New("transport: no such replica there")
	// ErrBusy: the peer's group has too many requests waiting.
	ErrBusy = errors.New("transport: group is busy")
)

// Handler is a group's receiving end.
type Handler interface {
	// Receive takes a request from a peer and sees to it that exactly one answer goes to its RespChan, which must have room
	// for it. It never waits: requests of other groups come over the same connection. Requests of one pipeline are handed
	// over in their order.
	Receive(rpc raft.RPC)
	// Matched tells that a peer confirmed to hold our log up to an index, as of now.
	Matched(peer raft.ServerID, index uint64)
	Filler
}

// Witness is a Handler that wants to know of the end of other nodes' processes.
type Witness interface {
	// Gone tells that a node was connected and is no more, and that nobody listens at its address. It must not wait.
	Gone(node replication.NodeID)
}

// Filler gives requests the data of their entries, which may be left out until they are sent. A follower that is far behind is sent
// hundreds of entries at a time, each as large as a batch may be, for each of its partitions: they are read when there is
// room for them.
type Filler interface {
	// Size is how many bytes of data an entry has.
	Size(entry *raft.Log) int
	// Fill returns an entry with its data. An error ends the request: Raft makes it again.
	Fill(entry *raft.Log) (*raft.Log, error)
}

// Whole is the Filler of a group that leaves nothing out.
type Whole struct{}

// Size implements Filler.
func (Whole) Size(l *raft.Log) int { return len(l.Data) }

// Fill implements Filler.
func (Whole) Fill(l *raft.Log) (*raft.Log, error) { return l, nil }

// entriesSize is how many bytes of data the entries of a request have.
func entriesSize(f Filler, req *raft.AppendEntriesRequest) (n int) {
	for _, l := range req.Entries {
		n += f.Size(l)
	}
	return n
}

// fill returns a request whose entries have their data.
func fill(f Filler, req *raft.AppendEntriesRequest) (*raft.AppendEntriesRequest, error) {
	out := *req
	out.Entries = make([]*raft.Log, len(req.Entries))
	for i, l := range req.Entries {
		var err error
		if out.Entries[i], err = f.Fill(l); err != nil {
			return nil, err
		}
	}
	return &out, nil
}

// Endpoint is a group's sending end. The methods are those of raft.Transport and raft.WithPreVote that send.
type Endpoint interface {
	AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error)
	AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error
	RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error
	RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error
	// InstallSnapshot sends data, which is small: what a group of this project sends is a few kilobytes of state.
	InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data []byte) error
	TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error
	// Interrupt ends requests under way; the replica stays attached. Raft's shutdown waits for them.
	Interrupt()
	// Detach ends delivery; requests under way fail with ErrDetached.
	Detach()
}

// Beater is a Handler that can answer a heartbeat on the goroutine that reads the connection, without waking Raft.
type Beater interface {
	// Heartbeat judges the heartbeat of a leader. If ok, it is answered with success and last, the end of this replica's log.
	// Otherwise it goes to Receive.
	Heartbeat(leader raft.ServerID, term uint64) (last uint64, ok bool)
}

// Network connects the replicas of groups.
type Network interface {
	// Attach makes a replica reachable. A Raft server id and its address are the same text (replication.ReplicaID).
	Attach(group string, self raft.ServerAddress, h Handler) (Endpoint, error)
}

// Confirmed is the log position that a successful AppendEntries proves: that of its last entry, or of the one before it.
func Confirmed(req *raft.AppendEntriesRequest) uint64 {
	if n := len(req.Entries); n > 0 {
		return req.Entries[n-1].Index
	}
	return req.PrevLogEntry
}

// None is the network of a node without peers.
type None struct{}

// Attach implements Network.
func (None) Attach(string, raft.ServerAddress, Handler) (Endpoint, error) { return alone{}, nil }

type alone struct{}

func (alone) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, ErrUnreachable
}

func (alone) AppendEntries(raft.ServerID, raft.ServerAddress, *raft.AppendEntriesRequest, *raft.AppendEntriesResponse) error {
	return ErrUnreachable
}

func (alone) RequestVote(raft.ServerID, raft.ServerAddress, *raft.RequestVoteRequest, *raft.RequestVoteResponse) error {
	return ErrUnreachable
}

func (alone) RequestPreVote(raft.ServerID, raft.ServerAddress, *raft.RequestPreVoteRequest, *raft.RequestPreVoteResponse) error {
	return ErrUnreachable
}

func (alone) InstallSnapshot(raft.ServerID, raft.ServerAddress, *raft.InstallSnapshotRequest, *raft.InstallSnapshotResponse, []byte) error {
	return ErrUnreachable
}

func (alone) TimeoutNow(raft.ServerID, raft.ServerAddress, *raft.TimeoutNowRequest, *raft.TimeoutNowResponse) error {
	return ErrUnreachable
}

func (alone) Interrupt() {}

func (alone) Detach() {}
