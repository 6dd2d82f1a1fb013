package vfs

// Op is a kind of operation, for fault rules and the watchdog.
type Op uint8

// The operations that change what is durable, and Read.
const (
	OpRead Op = iota
	OpWrite
	OpSync
	OpTruncate
	OpCreate
	OpOpen
	OpRename
	OpRemove
	OpSyncDir
	OpMkdir
	OpMap
	numOps
)

var opNames = [numOps]string{"read", "write", "sync", "truncate", "create", "open", "rename", "remove", "syncdir", "mkdir", "map"}

// String is the operation's name in logs.
func (o Op) String() string {
	if o < numOps {
		return opNames[o]
	}
	return "unknown"
}

// around runs an operation. It may look at it, delay it, or not call do at all.
type around func(op Op, path string, bytes int, do func() error) error

// wrapFS calls around for each operation of another file system.
type wrapFS struct {
	FS
	around around
}

func (w *wrapFS) Open(name string) (File, error)   { return w.file(OpOpen, name, w.FS.Open) }
func (w *wrapFS) Create(name string) (File, error) { return w.file(OpCreate, name, w.FS.Create) }

func (w *wrapFS) file(op Op, name string, open func(string) (File, error)) (File, error) {
	var f File
	err := w.around(op, name, 0, func() (err error) { f, err = open(name); return err })
	if err != nil {
		if f != nil {
			f.Close() // opened, but the fault says otherwise
		}
		return nil, err
	}
	return &wrapFile{f, name, w.around}, nil
}

func (w *wrapFS) MkdirAll(dir string) error {
	return w.around(OpMkdir, dir, 0, func() error { return w.FS.MkdirAll(dir) })
}

func (w *wrapFS) Rename(oldname, newname string) error {
	return w.around(OpRename, newname, 0, func() error { return w.FS.Rename(oldname, newname) })
}

func (w *wrapFS) Remove(name string) error {
	return w.around(OpRemove, name, 0, func() error { return w.FS.Remove(name) })
}

func (w *wrapFS) RemoveAll(name string) error {
	return w.around(OpRemove, name, 0, func() error { return w.FS.RemoveAll(name) })
}

func (w *wrapFS) SyncDir(dir string) error {
	return w.around(OpSyncDir, dir, 0, func() error { return w.FS.SyncDir(dir) })
}

func (w *wrapFS) Map(name string, size int64) (m Mapping, err error) {
	err = w.around(OpMap, name, 0, func() (err error) { m, err = w.FS.Map(name, size); return err })
	return m, err
}

type wrapFile struct {
	File
	name   string
	around around
}

func (f *wrapFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.around(OpRead, f.name, len(p), func() (err error) { n, err = f.File.ReadAt(p, off); return err })
	return n, err
}

func (f *wrapFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.around(OpWrite, f.name, len(p), func() (err error) { n, err = f.File.WriteAt(p, off); return err })
	return n, err
}

func (f *wrapFile) WriteVec(buffers [][]byte, off int64) error {
	bytes := 0
	for _, b := range buffers {
		bytes += len(b)
	}
	return f.around(OpWrite, f.name, bytes, func() error { return f.File.WriteVec(buffers, off) })
}

func (f *wrapFile) Sync() error { return f.around(OpSync, f.name, 0, f.File.Sync) }

func (f *wrapFile) Truncate(size int64) error {
	return f.around(OpTruncate, f.name, 0, func() error { return f.File.Truncate(size) })
}
