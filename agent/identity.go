package agent

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
)

const (
	// identityFile names the file that ties a data directory to its node and its cluster.
	identityFile = "node.json"
	// identityFormat is the version of that file; format 1 held the node's id alone. Another one is refused by name.
	identityFormat = 2
	// metadataDir and metadataFile are where the metadata group keeps its log and its votes (package raftgroup).
	metadataDir  = "metadata"
	metadataFile = "metadata.db"
	// partitionsDir is where partitions lie (package partition).
	partitionsDir = "partitions"
)

// ErrIdentityLost: there is data, but nothing says whose it is. A new identity over old data could vote twice.
var ErrIdentityLost = errors.New("the data directory holds data but has lost its " + identityFile)

// belonging is how far a data directory has come on its way into a cluster. Only these steps are taken:
//
//	fresh     -> candidate   it has the lowest id of the nodes that wait, and asks the others for their promises
//	fresh     -> promised    another node asked, and has this one's only promise
//	candidate -> promised    a node with a lower id asked before this one had all promises: it will never found what it asked for
//	promised  -> fresh       the founder says that it will never found what it had the promise for
//	fresh     -> founding    a cluster of one
//	candidate -> founding    all have promised, or the node was started again as a cluster of one
//	fresh, candidate, promised -> joined   a cluster that exists has taken this node in
//	founding, joined -> member             the metadata group's files are there, and must be from now on
//	member    -> joined                    the cluster has given this node another replica of the metadata group
type belonging string

const (
	fresh     belonging = "fresh"
	candidate belonging = "candidate"
	promised  belonging = "promised"
	founding  belonging = "founding"
	joined    belonging = "joined"
	member    belonging = "member"
)

// waits tells whether the directory belongs to no cluster yet.
func (b belonging) waits() bool { return b == fresh || b == candidate || b == promised }

// identity is what a data directory says of its owner.
type identity struct {
	Format    int                     `json:"format"`
	NodeID    replication.NodeID      `json:"node_id"`
	Directory directoryID             `json:"directory"`
	State     belonging               `json:"state"`
	ClusterID string                  `json:"cluster_id,omitempty"` // once the node belongs to it; of a directory of format 1 only the metadata knows it
	Meta      replication.Incarnation `json:"metadata_incarnation"`
	Promise   promise                 `json:"promise,omitzero"` // of a candidate, to itself, or of a promised node
	Starts    starts                  `json:"starts,omitempty"`
}

// promise says who alone may found a cluster with this node, and which.
type promise struct {
	Founder   replication.NodeID `json:"founder"`
	Directory directoryID        `json:"founder_directory"`
	ClusterID string             `json:"cluster_id"`
}

// directoryID is made with the directory: a wiped disk gets another one.
type directoryID controller.DirectoryID

// starts are numbers of the node's starts from its directory, in hexadecimal, with spaces between: the last one that the cluster has
// confirmed and those since, up to the present one. A copy of the directory that is put back knows nothing of the starts after it
// was made, however often it is started then: so the cluster recognises it (controller.ErrOlderCopy).
type starts string

// mostStarts bounds the list. A node that the cluster has not confirmed so often goes by the last number again.
const mostStarts = 64

// begun adds a new start.
func (s starts) begun() starts {
	list := strings.Fields(string(s))
	if len(list) >= mostStarts {
		return s
	}
	var id [8]byte
	rand.Read(id[:]) // never fails (crypto/rand)
	id[0] |= 1       // 0 stands for none
	return starts(strings.Join(append(list, hex.EncodeToString(id[:])), " "))
}

// ids are the present start and those before it.
func (s starts) ids() (now controller.StartID, earlier []controller.StartID, err error) {
	for _, word := range strings.Fields(string(s)) {
		n, err := strconv.ParseUint(word, 16, 64)
		if err != nil {
			return 0, nil, fmt.Errorf("start %q: %w", word, err)
		}
		if now != 0 {
			earlier = append(earlier, now)
		}
		now = controller.StartID(n)
	}
	return now, earlier, nil
}

// confirmed forgets the starts before the present one.
func (s starts) confirmed() starts { return s[strings.LastIndexByte(string(s), ' ')+1:] }

// String is the form in the file and in logs.
func (d directoryID) String() string { return hex.EncodeToString(d[:]) }

// MarshalText implements encoding.TextMarshaler.
func (d directoryID) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *directoryID) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(d) {
		return errors.New("not a directory id")
	}
	copy(d[:], b)
	return nil
}

// replica is the node's replica of the metadata group.
func (i identity) replica() replication.ReplicaID {
	return replication.ReplicaID{Node: i.NodeID, Incarnation: i.Meta}
}

// check holds what a file says against what can be.
func (i identity) check() error {
	var zero directoryID
	switch i.State {
	case fresh, founding, joined, member:
		if i.Promise != (promise{}) {
			return fmt.Errorf("state %q with a promise", i.State)
		}
	case candidate, promised:
		if i.Promise == (promise{}) || (i.Promise.Founder == i.NodeID) != (i.State == candidate) {
			return fmt.Errorf("state %q without its promise", i.State)
		}
	default:
		return fmt.Errorf("unknown state %q", i.State)
	}
	if i.Directory == zero || i.State.waits() != (i.ClusterID == "") && i.State != founding && i.State != member {
		return fmt.Errorf("state %q of directory %s with cluster %q", i.State, i.Directory, i.ClusterID)
	}
	_, _, err := i.Starts.ids()
	return err
}

// identityStore keeps a data directory's identity and the directory's lock.
type identityStore struct {
	fs   vfs.FS
	dir  string
	lock io.Closer
	mu   struct {
		sync.Mutex // also held while the file is written: a change is seen only when it is durable
		now        identity
		failed     error // the file may be old or new: nothing may be decided on it any more
	}
}

// openIdentity locks the data directory for this process, ties it to the node id, and finds out how far it is. Two processes
// on one directory, another node's directory, and one that has lost a part of what it must have are refused: each would
// destroy data, or vote twice.
func openIdentity(fsys vfs.FS, dir string, id replication.NodeID) (*identityStore, error) {
	return openIdentityWith(fsys, dir, id, func() (bool, error) { return hasMetadata(dir) })
}

func openIdentityWith(fsys vfs.FS, dir string, id replication.NodeID, metadata func() (bool, error)) (*identityStore, error) {
	if err := vfs.MkdirDurable(fsys, dir); err != nil {
		return nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	lock, err := fsys.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("data directory %s is in use by another process: %w", dir, err)
	}
	s := &identityStore{fs: fsys, dir: dir, lock: lock}
	if err := s.load(id, metadata); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

// hasMetadata tells whether the metadata group has begun here. It asks the operating system, as raft-boltdb does.
func hasMetadata(dir string) (bool, error) {
	info, err := os.Stat(filepath.Join(dir, metadataDir, metadataFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Size() > 0, err
}

// load reads the file, or begins it, and compares it with what lies beside it.
func (s *identityStore) load(id replication.NodeID, metadata func() (bool, error)) error {
	has, err := metadata()
	if err != nil {
		return fmt.Errorf("data directory %s: %w", s.dir, err)
	}
	partitions, err := s.hasPartitions()
	if err != nil {
		return fmt.Errorf("data directory %s: %w", s.dir, err)
	}
	data, err := vfs.ReadDurable(s.fs, s.file())
	switch {
	case errors.Is(err, fs.ErrNotExist) && (has || partitions):
		return fmt.Errorf("%w: %s; restore it, or empty the directory to begin as a new node", ErrIdentityLost, s.dir)
	case errors.Is(err, fs.ErrNotExist):
		return s.write(identity{Format: identityFormat, NodeID: id, Directory: newDirectory(), State: fresh})
	case err != nil:
		return err
	}
	found, err := decodeIdentity(data)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", s.file(), err)
	case found.NodeID != id:
		return fmt.Errorf("data directory %s belongs to node %d, not to node %d", s.dir, found.NodeID, id)
	case !has && (partitions || found.State == member):
		return fmt.Errorf("%w: %s; restore %s, or empty the data directory to begin as a new node", ErrMetadataLost, s.dir, filepath.Join(s.dir, metadataDir))
	}
	old := found
	if found.Format < identityFormat {
		found.Format, found.Directory, found.State = identityFormat, newDirectory(), fresh
	}
	if has && found.State.waits() {
		// A node of one that format 1 belongs to. The metadata knows the cluster's id, if it came so far.
		found.State, found.Promise = founding, promise{}
	}
	if found == old {
		s.mu.now = found
		return nil
	}
	return s.write(found)
}

func newDirectory() (d directoryID) {
	rand.Read(d[:]) // never fails (crypto/rand)
	return d
}

func (s *identityStore) hasPartitions() (bool, error) {
	names, err := s.fs.List(filepath.Join(s.dir, partitionsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return len(names) > 0, err
}

// decodeIdentity reads either format.
func decodeIdentity(data []byte) (identity, error) {
	var i identity
	if err := json.Unmarshal(data, &i); err != nil {
		return i, fmt.Errorf("damaged: %w", err)
	}
	switch i.Format {
	case 1:
		return identity{Format: 1, NodeID: i.NodeID}, nil
	case identityFormat:
		if err := i.check(); err != nil {
			return i, fmt.Errorf("damaged: %w", err)
		}
		return i, nil
	}
	return i, fmt.Errorf("format %d; this version knows %d", i.Format, identityFormat)
}

func (s *identityStore) file() string { return filepath.Join(s.dir, identityFile) }

// get is the present identity.
func (s *identityStore) get() identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.now
}

// clusterID is the cluster that the node belongs to, "" while it belongs to none.
func (s *identityStore) clusterID() string { return s.get().ClusterID }

// change lets fn alter the identity and makes the outcome durable before anybody sees it. An error of fn changes nothing. After
// an error of the disk nobody knows what the file says: every later call fails, and the process must end.
func (s *identityStore) change(fn func(*identity) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.failed != nil {
		return s.mu.failed
	}
	next := s.mu.now
	if err := fn(&next); err != nil || next == s.mu.now {
		return err
	}
	return s.writeLocked(next)
}

func (s *identityStore) write(i identity) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writeLocked(i)
}

// errDisk: what the identity file says is not known.
var errDisk = errors.New("the data directory's identity could not be written")

func (s *identityStore) writeLocked(i identity) error {
	if err := i.check(); err != nil {
		return fmt.Errorf("%s: %w", s.file(), err)
	}
	data, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return err
	}
	if err := vfs.WriteFileAtomic(s.fs, s.file(), append(data, '\n')); err != nil {
		s.mu.failed = fmt.Errorf("%w: %w", errDisk, err)
		return s.mu.failed
	}
	s.mu.now = i
	return nil
}

// begun notes that the node starts, before anything else of its directory is used.
func (s *identityStore) begun() error {
	return s.changeIfRoom(func(i *identity) error {
		i.Starts = i.Starts.begun()
		return nil
	})
}

// changeIfRoom is change where both what was and what is to be are true, so that a full disk, on which a node has to start all the
// same, takes nothing away but the change.
func (s *identityStore) changeIfRoom(fn func(*identity) error) error {
	err := s.change(fn)
	if !errors.Is(err, syscall.ENOSPC) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.failed = nil
	return nil
}

// opened notes that the metadata group of a cluster has begun here: from now on it must be there.
func (s *identityStore) opened(cluster string) error {
	return s.change(func(i *identity) error {
		if i.State.waits() || i.ClusterID != "" && i.ClusterID != cluster || cluster == "" {
			return fmt.Errorf("%s: metadata of cluster %q opened by a node of %q that is %s", s.file(), cluster, i.ClusterID, i.State)
		}
		i.State, i.ClusterID = member, cluster
		return nil
	})
}

// rejoined notes that the cluster has given this node another replica of the metadata group: what the old one has stored is
// removed when the new one is opened, and until then its absence is no loss. And it notes that this start is registered.
func (s *identityStore) rejoined(meta replication.ReplicaID) error {
	err := s.change(func(i *identity) error {
		if i.State.waits() || meta.Node != i.NodeID {
			return fmt.Errorf("%s: replica %s of the metadata for a node that is %s", s.file(), meta, i.State)
		}
		if meta.Incarnation != i.Meta {
			i.State, i.Meta = joined, meta.Incarnation
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.changeIfRoom(func(i *identity) error {
		i.Starts = i.Starts.confirmed()
		return nil
	})
}

// Close gives the directory free.
func (s *identityStore) Close() error { return s.lock.Close() }
