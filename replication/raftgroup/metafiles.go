package raftgroup

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/raftlog"
	"github.com/quorlog/quorlog/replication/transport"
)

// The metadata group's directory:
//
//	metadata.db    log, term and vote, and the replica that they belong to (keyReplica)
//	snapshots/     of the machine, by Raft's own store
const (
	metaLogFile      = "metadata.db"
	metaSnapshotsDir = "snapshots"
)

// keyReplica names the replica whose files these are. Single nodes' files from before there were incarnations lack it; they
// are of incarnation 0.
var keyReplica = []byte("QuorlogReplica")

// metaLockPatience is how long opening waits for another process to let go of the log.
const metaLockPatience = 2 * time.Second

// ErrOtherReplica: the files belong to a later incarnation, or to another node.
var ErrOtherReplica = errors.New("the metadata belongs to another replica")

// openStore opens the log, for this incarnation alone.
//
// Steps where the files are of an earlier one: remove the snapshots; remove the log, which is the commit point; begin anew.
// After a crash between the two the log still names the old incarnation, and all of it is done again.
func (g *MetaGroup) openStore() error {
	bolt, err := openBolt(g.o.Dir)
	if err != nil {
		return err
	}
	owner, owned, err := ownerOf(bolt, g.o.Self.Node)
	if err == nil && owned && (owner.Node != g.o.Self.Node || owner.Incarnation > g.o.Self.Incarnation) {
		err = fmt.Errorf("%w: %s holds replica %s, this one is %s", ErrOtherReplica, g.o.Dir, owner, g.o.Self)
	}
	if err != nil {
		return errors.Join(err, bolt.Close())
	}
	if owned && owner.Incarnation < g.o.Self.Incarnation {
		g.logger.Warn("the metadata of an earlier incarnation is removed", "earlier", owner, "now", g.o.Self)
		if err := errors.Join(bolt.Close(), os.RemoveAll(filepath.Join(g.o.Dir, metaSnapshotsDir)), os.Remove(filepath.Join(g.o.Dir, metaLogFile))); err != nil {
			return err
		}
		if bolt, err = openBolt(g.o.Dir); err != nil {
			return err
		}
	}
	if err := bolt.Set(keyReplica, []byte(g.o.Self.String())); err != nil {
		return errors.Join(err, bolt.Close())
	}
	g.store = &metaStore{BoltStore: bolt, path: filepath.Join(g.o.Dir, metaLogFile), guard: g.o.Guard, onFatal: g.o.OnFatal, logger: g.logger}
	return nil
}

func openBolt(dir string) (*raftboltdb.BoltStore, error) {
	path := filepath.Join(dir, metaLogFile)
	bolt, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: &bbolt.Options{
		Timeout: metaLockPatience, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType,
	}})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	// What a killed process has written is not durable because it can be read: see vfs.ReadDurable.
	if err := errors.Join(bolt.Sync(), vfs.OS{}.SyncDir(dir)); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), bolt.Close())
	}
	return bolt, nil
}

// ownerOf is the replica whose log this is; none if the log is new.
func ownerOf(bolt *raftboltdb.BoltStore, node replication.NodeID) (r replication.ReplicaID, owned bool, err error) {
	name, err := bolt.Get(keyReplica)
	switch {
	case err == nil:
		r, ok := parseReplica(raft.ServerID(name))
		if !ok {
			return r, false, fmt.Errorf("%w: %q", ErrOtherReplica, strings.ToValidUTF8(string(name), "?"))
		}
		return r, true, nil
	case !errors.Is(err, raftboltdb.ErrKeyNotFound):
		return r, false, err
	}
	used, err := raft.HasExistingState(bolt, bolt, raft.NewDiscardSnapshotStore())
	return replication.ReplicaID{Node: node}, used, err
}

// OwnerOfMeta is the replica whose metadata lies in a directory. The group must be stopped.
func OwnerOfMeta(dir string, node replication.NodeID) (replication.ReplicaID, error) {
	if _, err := os.Stat(filepath.Join(dir, metaLogFile)); err != nil {
		return replication.ReplicaID{}, fmt.Errorf("metadata: %w", err)
	}
	bolt, err := openBolt(dir)
	if err != nil {
		return replication.ReplicaID{}, fmt.Errorf("metadata: %w", err)
	}
	r, owned, err := ownerOf(bolt, node)
	if err == nil && !owned {
		err = fmt.Errorf("metadata: %s holds nothing", dir)
	}
	return r, errors.Join(err, bolt.Close())
}

// RecoverMeta makes the files of a stopped replica begin again with other voters, after a majority of the old ones was lost
// for good. Everything in the log counts as committed, so what the lost majority never acknowledged may come to be. It must be
// run on one survivor, the one with the longest log, and then only voters named here may vote. The machine holds the result.
//
// Raft does it in three steps: everything is applied to the machine; a snapshot of that with the new voters is written, which
// is the commit point; the log is emptied. A crash in between leaves either the old group or the new one with a log that says
// nothing new.
func RecoverMeta(o MetaOptions, voters []replication.ReplicaID) error {
	g, err := newMeta(o)
	if err != nil {
		return err
	}
	if owner, err := OwnerOfMeta(o.Dir, o.Self.Node); err != nil || owner != o.Self {
		return errors.Join(err, fmt.Errorf("%w: %s holds replica %s, not %s", ErrOtherReplica, o.Dir, owner, o.Self))
	}
	if err := g.openStore(); err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	config := g.config()
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(o.Dir, metaSnapshots, config.Logger)
	if err != nil {
		return errors.Join(fmt.Errorf("metadata: %w", err), g.store.Close())
	}
	var servers []raft.Server
	for _, v := range voters {
		servers = append(servers, raft.Server{ID: raft.ServerID(v.String()), Address: raft.ServerAddress(v.String())})
	}
	wire := g.newWire()
	if wire.Endpoint, err = (transport.None{}).Attach(MetaGroupName, wire.LocalAddr(), wire); err != nil {
		return errors.Join(err, g.store.Close())
	}
	err = raft.RecoverCluster(config, &metaMachine{o.Machine}, g.store, g.store, snapshots, wire, raft.Configuration{Servers: servers})
	if err != nil {
		err = fmt.Errorf("metadata: %w", err)
	}
	return errors.Join(err, g.store.Close())
}

// VotersOfMeta are the voters of a stopped replica of the metadata group, by the newest configuration in its files.
func VotersOfMeta(dir string) ([]replication.ReplicaID, error) {
	if _, err := os.Stat(filepath.Join(dir, metaLogFile)); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	bolt, err := openBolt(dir)
	if err != nil {
		return nil, err
	}
	c, err := configurationOf(bolt, dir)
	var voters []replication.ReplicaID
	for _, s := range c.Servers {
		if r, ok := parseReplica(s.ID); ok && s.Suffrage == raft.Voter {
			voters = append(voters, r)
		}
	}
	return voters, errors.Join(err, bolt.Close())
}

// configurationOf looks through the log from its end, and then at the newest snapshot.
func configurationOf(bolt *raftboltdb.BoltStore, dir string) (raft.Configuration, error) {
	first, err := bolt.FirstIndex()
	if err != nil {
		return raft.Configuration{}, err
	}
	last, err := bolt.LastIndex()
	if err != nil {
		return raft.Configuration{}, err
	}
	for i := last; i >= max(first, 1); i-- {
		var l raft.Log
		if err := bolt.GetLog(i, &l); err != nil {
			return raft.Configuration{}, err
		}
		if l.Type == raft.LogConfiguration {
			return raftlog.DecodeConfiguration(l.Data)
		}
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, metaSnapshots, newRaftLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return raft.Configuration{}, err
	}
	all, err := snapshots.List()
	if err != nil || len(all) == 0 {
		return raft.Configuration{}, err
	}
	return all[0].Configuration, nil
}
