package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
)

// identityFile names the file that ties a data directory to its node.
const identityFile = "node.json"

// identityFormat is the version of that file. Another one is refused by name.
const identityFormat = 1

// identity is what a data directory says of its owner. Written once, before anything else.
type identity struct {
	Format int                `json:"format"`
	NodeID replication.NodeID `json:"node_id"`
}

// claim locks the data directory for this process and ties it to the node id. Two processes on one directory, or another
// node's directory, would destroy data: both are refused.
func claim(fsys vfs.FS, dir string, id replication.NodeID) (unlock io.Closer, err error) {
	if err := vfs.MkdirDurable(fsys, dir); err != nil {
		return nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	unlock, err = fsys.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("data directory %s is in use by another process: %w", dir, err)
	}
	if err := checkIdentity(fsys, dir, id); err != nil {
		return nil, errors.Join(err, unlock.Close())
	}
	return unlock, nil
}

func checkIdentity(fsys vfs.FS, dir string, id replication.NodeID) error {
	name := filepath.Join(dir, identityFile)
	data, err := vfs.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		data, err = json.Marshal(identity{identityFormat, id})
		if err != nil {
			return err
		}
		return vfs.WriteFileAtomic(fsys, name, append(data, '\n'))
	}
	if err != nil {
		return err
	}
	var found identity
	if err := json.Unmarshal(data, &found); err != nil {
		return fmt.Errorf("%s is damaged: %w", name, err)
	}
	switch {
	case found.Format != identityFormat:
		return fmt.Errorf("%s has format %d; this version knows %d", name, found.Format, identityFormat)
	case found.NodeID != id:
		return fmt.Errorf("data directory %s belongs to node %d, not to node %d", dir, found.NodeID, id)
	}
	return nil
}
