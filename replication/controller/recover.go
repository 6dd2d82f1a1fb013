package controller

import (
	"fmt"
	"log/slog"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/raftgroup"
)

// RecoverOptions say how to recover the metadata group.
type RecoverOptions struct {
	Dir    string                  // the metadata directory of a stopped node
	Self   replication.ReplicaID   // that node's replica; see raftgroup.OwnerOfMeta
	Voters []replication.ReplicaID // who is to vote; nil means this replica alone
	Logger *slog.Logger
}

// Recover makes a stopped node's metadata begin again with other voters, after a majority of the old ones was lost for good, and
// returns the metadata as it is then. See raftgroup.RecoverMeta for what that means.
//
// It is to be run on one survivor, the one whose metadata is newest, with itself as the only voter. Then that node is started;
// the other survivors follow it as they come. The nodes that are gone are unregistered, after their replicas were reassigned.
func Recover(o RecoverOptions) (*Image, error) {
	if o.Voters == nil {
		o.Voters = []replication.ReplicaID{o.Self}
	}
	var fatal error
	machine := NewMachine(MachineOptions{Node: o.Self.Node, OnFatal: func(err error) { fatal = err }})
	err := raftgroup.RecoverMeta(raftgroup.MetaOptions{Dir: o.Dir, Self: o.Self, Machine: machine, Logger: o.Logger}, o.Voters)
	if fatal != nil {
		err = fatal
	}
	if err != nil {
		return nil, fmt.Errorf("recover %s: %w", o.Dir, err)
	}
	return machine.Image(), nil
}
