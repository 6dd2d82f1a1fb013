package partition

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"time"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/raftgroup"
	"github.com/quorlog/quorlog/replication/raftlog"
)

// ErrNotRecovered: a replica can't make its group begin again.
var ErrNotRecovered = errors.New("partition: the replica can't go on alone")

// RecoverOptions say what Recover works on.
type RecoverOptions struct {
	DataDir string
	FS      vfs.FS // nil: the operating system's
	Node    replication.NodeID
	// Left are the nodes that are left, this one among them.
	Left   []replication.NodeID
	DryRun bool // only tell
	Now    func() time.Time
	Logger *slog.Logger
}

// Recovered is what Recover did, or would do, with a replica.
type Recovered struct {
	ID     replication.PartitionID
	Topic  string
	Self   replication.ReplicaID
	Voters []replication.ReplicaID // as they were
	Forced []replication.ReplicaID // as they are now; nil: the group was left as it was
	Last   log.Index
	LogEnd batch.Offset
	Err    error // why this replica can't be recovered
}

// Recover makes the groups of a stopped node's partitions begin again that have lost a majority of their voters for good: those
// of their replicas that are left become the voters. Groups whose majority is left are not touched.
//
// Everything in this replica's log counts from then on: what the lost majority never acknowledged may come to be, and what
// only the lost ones had is gone. Of several replicas that are left, the one with the longest log is to be recovered; the
// others follow it. A lost replica must never come back with the files that it had.
//
// Steps, for each replica: the term and vote are raised far above any that was; then a configuration is appended to the log.
// Commit point: that entry is durable. Recovery: after a crash in between, the group is as it was, and Recover is run again.
func Recover(o RecoverOptions) ([]Recovered, error) {
	if !slices.Contains(o.Left, o.Node) {
		return nil, fmt.Errorf("%w: node %d is not among those that are left, %v", ErrNotRecovered, o.Node, o.Left)
	}
	m := &Manager{o: Options{DataDir: o.DataDir, FS: o.FS, Node: o.Node, Now: o.Now, Logger: o.Logger}.withDefaults()}
	names, err := m.o.FS.List(m.root())
	if isNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	votes, err := m.openVotes()
	if err != nil {
		return nil, err
	}
	var all []Recovered
	for _, name := range names {
		if id, ok := parseName(name); ok {
			r := Recovered{ID: id}
			r.Err = m.recover(&r, votes, o)
			all = append(all, r)
		}
	}
	return all, votes.Close()
}

// recover does it for one replica.
func (m *Manager) recover(r *Recovered, votes *raftlog.Votes, o RecoverOptions) error {
	dir := path.Join(m.root(), r.ID.String())
	b, err := vfs.ReadDurable(m.o.FS, path.Join(dir, metaName))
	if err != nil {
		return fmt.Errorf("%w: %w", errMeta, err)
	}
	var meta metaFile
	if err := json.Unmarshal(b, &meta); err != nil {
		return fmt.Errorf("%w: %w", errMeta, err)
	}
	if meta.Version != metaVersion || meta.Node != o.Node || meta.TopicID != hex.EncodeToString(r.ID.Topic[:]) {
		return fmt.Errorf("%w: version %d of topic %s on node %d", errMeta, meta.Version, meta.TopicID, meta.Node)
	}
	r.Topic, r.Self = meta.Topic, replication.ReplicaID{Node: meta.Node, Incarnation: meta.Incarnation}
	l, err := log.Open(log.Options{FS: m.o.FS, Dir: dir, Now: m.o.Now, Logger: m.o.Logger})
	if err != nil {
		return err
	}
	r.Last, r.LogEnd = l.LastIndex(), l.Offsets().LogEnd
	stable := votes.Group(voteGroup(r.ID.String(), r.Self.Incarnation))
	return errors.Join(forceVoters(r, l, stable, o), l.Close())
}

func forceVoters(r *Recovered, l *log.Log, stable *raftlog.Stable, o RecoverOptions) error {
	data, index := l.Configuration()
	if index == 0 {
		return fmt.Errorf("%w: its log is empty", ErrNotRecovered)
	}
	members, err := raftgroup.MembersOf(data)
	if err != nil {
		return err
	}
	var forced []replication.ReplicaID
	r.Voters, forced = leftOf(members, o.Left)
	left := 0
	for _, v := range r.Voters {
		if slices.Contains(forced, v) {
			left++
		}
	}
	if left > len(r.Voters)/2 {
		return nil
	}
	if !slices.Contains(forced, r.Self) {
		return fmt.Errorf("%w: %s is no member of the group", ErrNotRecovered, r.Self)
	}
	r.Forced = forced
	if o.DryRun {
		return nil
	}
	return raftgroup.ForceVoters(l, stable, r.Self, forced)
}

// leftOf lists a group's voters, and its members on the nodes that are left: of each the newest.
func leftOf(members []raftgroup.Member, nodes []replication.NodeID) (voters, left []replication.ReplicaID) {
	newest := map[replication.NodeID]replication.ReplicaID{}
	for _, m := range members {
		r := m.Replica
		if m.Voter {
			voters = append(voters, r)
		}
		if n, ok := newest[r.Node]; slices.Contains(nodes, r.Node) && (!ok || n.Incarnation < r.Incarnation) {
			newest[r.Node] = r
		}
	}
	for _, n := range slices.Compact(slices.Sorted(slices.Values(nodes))) {
		if r, ok := newest[n]; ok {
			left = append(left, r)
		}
	}
	return voters, left
}
