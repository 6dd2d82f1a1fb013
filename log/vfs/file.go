package vfs

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
)

// tempSuffix marks a file that WriteFileAtomic has not finished. Whoever lists a directory may delete such files.
const tempSuffix = ".tmp"

// WriteFileAtomic makes name hold data.
//
// Steps: write name.tmp, fsync it, rename it to name, fsync the directory. Commit point: the rename reaching the disk, at
// the latest with the directory's fsync. Recovery: none; before the commit point name is as it was and name.tmp may be
// left over, which the next call removes.
func WriteFileAtomic(fsys FS, name string, data []byte) error {
	temp := name + tempSuffix
	if err := fsys.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeSynced(fsys, temp, data); err != nil {
		return err
	}
	if err := fsys.Rename(temp, name); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(name))
}

func writeSynced(fsys FS, name string, data []byte) error {
	f, err := fsys.Create(name)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}

// ReadDurable is ReadFile for a file whose reader relies on it from then on. What a killed process has written can be read, and a
// power cut may still take it: so the file and its name are fsynced first.
func ReadDurable(fsys FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return nil, err
	}
	if err := fsys.SyncDir(filepath.Dir(name)); err != nil {
		return nil, err
	}
	return ReadFile(fsys, name)
}

// ReadFile reads a whole file.
func ReadFile(fsys FS, name string) (data []byte, err error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	data = make([]byte, size)
	n, err := f.ReadAt(data, 0)
	if errors.Is(err, io.EOF) {
		err = nil // the end, where it was or where it is since a moment ago
	}
	return data[:n], err
}

// MkdirDurable makes a directory and its missing parents, as MkdirAll does, and makes each new name durable.
func MkdirDurable(fsys FS, dir string) error {
	parent := filepath.Dir(dir)
	_, err := fsys.Stat(dir)
	switch {
	case err == nil || parent == dir:
		if err := fsys.MkdirAll(dir); err != nil {
			return err // a file is in the way
		}
		// It may have been made just before this process was killed, and never synced. Where we may not read the parent,
		// somebody else made it for us.
		if err := fsys.SyncDir(parent); !errors.Is(err, fs.ErrPermission) {
			return err
		}
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := MkdirDurable(fsys, parent); err != nil {
		return err
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return err
	}
	return fsys.SyncDir(parent)
}
