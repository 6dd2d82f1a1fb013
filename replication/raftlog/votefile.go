package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/quorlog/quorlog/log/vfs"
)

// bucketConf and bucketLogs are those of raft-boltdb, so that its tools can open the file. The log's stays empty.
var bucketConf, bucketLogs = []byte("conf"), []byte("logs")

// lockPatience is how long opening waits for another process to let go of the file.
const lockPatience = 2 * time.Second

// OpenVotes opens or creates the votes in a bbolt file on the operating system's file system.
func OpenVotes(path string, o VoteOptions) (*Votes, error) {
	// Without the free list on disk, a commit writes two pages less; it is rebuilt at open, from a file of few pages.
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockPatience, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return nil, fmt.Errorf("open votes %s: %w", path, err)
	}
	// What a killed process has written is not durable because it can be read: see vfs.ReadDurable.
	if err := errors.Join(db.Sync(), vfs.OS{}.SyncDir(filepath.Dir(path))); err != nil {
		return nil, errors.Join(fmt.Errorf("open votes %s: %w", path, err), db.Close())
	}
	return startVotes(boltKeeper{db}, path, o)
}

type boltKeeper struct{ db *bbolt.DB }

func (k boltKeeper) load() (map[string][]byte, error) {
	values := make(map[string][]byte)
	found := false
	err := k.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketConf)
		if b == nil {
			return nil
		}
		found = true
		return b.ForEach(func(key, value []byte) error {
			values[string(key)] = slices.Clone(value)
			return nil
		})
	})
	if err != nil || found {
		return values, err
	}
	return values, k.db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucketLogs)
		if err != nil {
			return err
		}
		_, err = tx.CreateBucketIfNotExists(bucketConf)
		return err
	})
}

func (k boltKeeper) commit(changes map[string][]byte) error {
	return k.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketConf)
		for _, key := range slices.Sorted(maps.Keys(changes)) {
			var err error
			if value := changes[key]; value == nil {
				err = b.Delete([]byte(key))
			} else {
				err = b.Put([]byte(key), value)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (k boltKeeper) close() error { return k.db.Close() }

// OpenVotesFS opens or creates the votes on any file system: for clusters in memory and simulated ones. Each commit writes
// the whole file anew, so it is for few groups.
//
//	"QLOGVOTE" | version 1 | count 4 | each: key length 2, key, value length 2, value | CRC32C of all before 4
//
// Steps of a commit: vfs.WriteFileAtomic. Commit point: the rename.
func OpenVotesFS(fsys vfs.FS, path string, o VoteOptions) (*Votes, error) {
	return startVotes(&fsKeeper{fs: fsys, path: path}, path, o)
}

const (
	voteMagic   = "QLOGVOTE"
	voteVersion = 1
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errDamaged = errors.New("raftlog: vote file is damaged")
)

type fsKeeper struct {
	fs     vfs.FS
	path   string
	values map[string][]byte
}

func (k *fsKeeper) load() (map[string][]byte, error) {
	k.values = make(map[string][]byte)
	b, err := vfs.ReadDurable(k.fs, k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return make(map[string][]byte), nil
	}
	if err != nil {
		return nil, err
	}
	if k.values, err = decodeVotes(b); err != nil {
		return nil, fmt.Errorf("%s: %w", k.path, err)
	}
	return maps.Clone(k.values), nil
}

func (k *fsKeeper) commit(changes map[string][]byte) error {
	for key, value := range changes {
		if value == nil {
			delete(k.values, key)
		} else {
			k.values[key] = value
		}
	}
	return vfs.WriteFileAtomic(k.fs, k.path, encodeVotes(k.values))
}

func (k *fsKeeper) close() error { return nil }

func encodeVotes(values map[string][]byte) []byte {
	be := binary.BigEndian
	b := append([]byte(voteMagic), voteVersion)
	b = be.AppendUint32(b, uint32(len(values)))
	for _, key := range slices.Sorted(maps.Keys(values)) {
		b = append(be.AppendUint16(b, uint16(len(key))), key...)
		b = append(be.AppendUint16(b, uint16(len(values[key]))), values[key]...)
	}
	return be.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeVotes(b []byte) (map[string][]byte, error) {
	be := binary.BigEndian
	head := len(voteMagic) + 5
	if len(b) < head+4 || string(b[:len(voteMagic)]) != voteMagic || crc32.Checksum(b[:len(b)-4], castagnoli) != be.Uint32(b[len(b)-4:]) {
		return nil, errDamaged
	}
	if v := b[len(voteMagic)]; v != voteVersion {
		return nil, fmt.Errorf("vote file has version %d; this build knows version %d", v, voteVersion)
	}
	n, rest := be.Uint32(b[head-4:]), b[head:len(b)-4]
	values := make(map[string][]byte)
	take := func() (field []byte, ok bool) {
		if len(rest) < 2 || len(rest)-2 < int(be.Uint16(rest)) {
			return nil, false
		}
		size := int(be.Uint16(rest))
		field, rest = rest[2:2+size], rest[2+size:]
		return field, true
	}
	for range n {
		key, ok1 := take()
		value, ok2 := take()
		if !ok1 || !ok2 {
			return nil, errDamaged
		}
		values[string(key)] = slices.Clone(value)
	}
	return values, nil
}
