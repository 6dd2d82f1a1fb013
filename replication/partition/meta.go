package partition

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
)

const (
	metaName      = "partition.meta"
	metaVersion   = 1
	deletedSuffix = ".deleted"
)

var (
	// errMeta: a directory's partition.meta is missing, damaged, or speaks of another partition.
	errMeta = errors.New("partition: partition.meta does not fit")
	// errUnreadable is the errMeta of a file that says nothing: whose replica it was is not known.
	errUnreadable = fmt.Errorf("%w: it can't be read", errMeta)
)

// metaFile is partition.meta: whose replica a directory holds.
type metaFile struct {
	Version     int                     `json:"version"`
	Topic       string                  `json:"topic"`
	TopicID     string                  `json:"topicId"`
	Partition   int32                   `json:"partition"`
	Node        replication.NodeID      `json:"node"`
	Incarnation replication.Incarnation `json:"incarnation"`
	// Voters are those that the group began with, if this replica was there from the beginning. A crash while the group is
	// made leaves an empty log; then it is made again.
	Voters []replication.ReplicaID `json:"voters,omitempty"`
}

// parseName is the inverse of PartitionID.String.
func parseName(name string) (replication.PartitionID, bool) {
	var id replication.PartitionID
	topic, number, ok := strings.Cut(name, "-")
	if !ok || len(topic) != 2*len(id.Topic) {
		return id, false
	}
	if _, err := hex.Decode(id.Topic[:], []byte(topic)); err != nil {
		return id, false
	}
	n, err := strconv.ParseInt(number, 10, 32)
	id.Partition = int32(n)
	return id, err == nil && n >= 0 && id.String() == name
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// openMeta reads a replica's partition.meta, or makes directory and file for a new replica.
func openMeta(fsys vfs.FS, dir string, want metaFile) (metaFile, error) {
	b, err := vfs.ReadDurable(fsys, path.Join(dir, metaName))
	if isNotExist(err) {
		return createMeta(fsys, dir, want)
	}
	if err != nil {
		return metaFile{}, err
	}
	var got metaFile
	if err := json.Unmarshal(b, &got); err != nil {
		return metaFile{}, fmt.Errorf("%w: %s: %w", errUnreadable, dir, err)
	}
	if got.Version != metaVersion {
		return metaFile{}, fmt.Errorf("%w: %s has version %d; this build knows version %d", errMeta, path.Join(dir, metaName), got.Version, metaVersion)
	}
	if got.TopicID != want.TopicID || got.Partition != want.Partition || got.Node != want.Node {
		return metaFile{}, fmt.Errorf("%w: %s is partition %d of topic %s on node %d", errMeta, dir, got.Partition, got.TopicID, got.Node)
	}
	return got, nil
}

// createMeta makes a new replica's directory. One that is there already, without partition.meta, is what a crash left of an
// earlier attempt, and empty; anything in it would be a log that nobody knows the owner of.
func createMeta(fsys vfs.FS, dir string, m metaFile) (metaFile, error) {
	names, err := fsys.List(dir)
	if err != nil && !isNotExist(err) {
		return metaFile{}, err
	}
	for _, name := range names {
		if name != metaName+".tmp" {
			return metaFile{}, fmt.Errorf("%w: %s holds %s, but no %s", errUnreadable, dir, name, metaName)
		}
	}
	if err := vfs.MkdirDurable(fsys, dir); err != nil {
		return metaFile{}, err
	}
	m.Version = metaVersion
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return metaFile{}, err
	}
	return m, vfs.WriteFileAtomic(fsys, path.Join(dir, metaName), append(b, '\n'))
}
