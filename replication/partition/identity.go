package partition

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/raftgroup"
	"github.com/quorlog/quorlog/replication/raftlog"
)

// errOlder: what lies on disk is of a later incarnation than the assignment, which is out of date. The earlier one must not run:
// its votes are forgotten.
var errOlder = errors.New("partition: the assignment is older than the replica on disk")

// identify finds out whose files a replica's directory holds and returns what its partition.meta says. Where there is nothing, or
// what an earlier incarnation left, the replica begins.
//
// A replica may begin once. Its votes tell that it did: they lie elsewhere, and are removed after its directory. One that
// has run but whose files are gone, or those of an earlier time, has forgotten what it confirmed to its leaders; as a voter it
// could help to elect one that lacks it. It is damaged, and has to come back as another incarnation.
func (m *Manager) identify(p *Partition, want metaFile) (metaFile, error) {
	_, err := m.o.FS.Stat(path.Join(p.dir, metaName))
	if err != nil && !isNotExist(err) {
		return metaFile{}, err
	}
	missing := err != nil
	ran := m.ran(p.id, want.Incarnation)
	if missing && ran {
		return metaFile{}, fmt.Errorf("%w: %s has no %s", raftgroup.ErrLostLog, p.dir, metaName)
	}
	meta, err := openMeta(m.o.FS, p.dir, want)
	switch {
	case errors.Is(err, errUnreadable) && !ran && m.ranEarlier(p.id, want.Incarnation):
		// Whatever lies there is of an earlier incarnation.
		p.logger.Warn("whose files these were is not known; a new incarnation takes their place", "dir", p.dir, "error", err)
		return m.begin(p, want)
	case err != nil:
		return metaFile{}, err
	case meta.Incarnation > want.Incarnation:
		return metaFile{}, fmt.Errorf("%w: %d is stored, %d was asked for", errOlder, meta.Incarnation, want.Incarnation)
	case meta.Incarnation < want.Incarnation && ran:
		return metaFile{}, fmt.Errorf("%w: %s is of incarnation %d, but %d has run", raftgroup.ErrLostLog, p.dir, meta.Incarnation, want.Incarnation)
	case meta.Incarnation < want.Incarnation:
		p.logger.Info("a new incarnation begins; its predecessor's files are removed", "incarnation", want.Incarnation)
		return m.begin(p, want)
	}
	return meta, nil
}

// begin replaces what an earlier incarnation left on this node. The new one has no vote until the group gives it one.
func (m *Manager) begin(p *Partition, want metaFile) (metaFile, error) {
	if err := m.removeDir(p.id.String()); err != nil {
		return metaFile{}, err
	}
	want.Voters = nil
	return openMeta(m.o.FS, p.dir, want)
}

// StoredReplica tells whose replica the directory of a partition holds. It is an error if that is not known.
func (m *Manager) StoredReplica(id replication.PartitionID) (replication.ReplicaID, error) {
	b, err := vfs.ReadFile(m.o.FS, path.Join(m.root(), id.String(), metaName))
	if err != nil {
		return replication.ReplicaID{}, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	var meta metaFile
	if err := json.Unmarshal(b, &meta); err != nil {
		return replication.ReplicaID{}, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	if meta.Version != metaVersion || meta.TopicID != id.Topic.Hex() || meta.Partition != id.Partition || meta.Node != m.o.Node {
		return replication.ReplicaID{}, fmt.Errorf("%w: it is of partition %d of topic %s on node %d", errMeta, meta.Partition, meta.TopicID, meta.Node)
	}
	return replication.ReplicaID{Node: meta.Node, Incarnation: meta.Incarnation}, nil
}

// ran tells whether a replica has had a term: whether it heard of its group, or founded it.
func (m *Manager) ran(id replication.PartitionID, i replication.Incarnation) bool {
	_, err := m.votes.Group(voteGroup(id.String(), i)).Get(raftlog.KeyCurrentTerm)
	return err == nil
}

// ranEarlier tells whether an earlier incarnation of a replica has.
func (m *Manager) ranEarlier(id replication.PartitionID, i replication.Incarnation) bool {
	prefix := id.String() + "."
	return slices.ContainsFunc(m.votes.Groups(), func(group string) bool {
		text, ours := strings.CutPrefix(group, prefix)
		n, err := strconv.ParseUint(text, 10, 32)
		return ours && err == nil && replication.Incarnation(n) < i
	})
}
