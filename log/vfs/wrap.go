package vfs

import "io"

// Call is one operation, as fault rules and traces see it.
type Call struct {
	Op   Op
	Path string // the new name of a rename
	Off  int64  // of reads and writes; the new length of a truncation
	Len  int    // of reads and writes, in bytes
	Err  error  // in a trace: what the caller got

	class Class
}

// verdict is what a probe wants done with a call. The zero value is: let it pass.
type verdict struct {
	skip    bool  // don't pass it on
	err     error // answer this, even if it was passed on and went well
	clipped bool  // pass on only the first clip bytes of a write
	clip    int
	forget  bool    // with skip, of a Sync: lose what is unsynced, as the kernel does
	flight  *flight // the watchdog's
}

// probe sees every call before and after.
type probe interface {
	before(c Call) verdict
	after(c Call, v verdict, err error)
}

// wrapFS shows a probe the calls that reach another file system. List, Stat, Free, Size and Close go through unseen.
type wrapFS struct {
	FS
	probe probe
}

// do runs a call that has no result but its error.
func (w *wrapFS) do(op Op, path string, run func(string) error) error {
	c := Call{Op: op, Path: path}
	v := w.probe.before(c)
	var err error
	if !v.skip {
		err = run(path)
	}
	if v.err != nil {
		err = v.err
	}
	w.probe.after(c, v, err)
	return err
}

// open runs a call that returns something to close. A verdict to skip it without an error is no lie that could be told.
func open[T io.Closer](w *wrapFS, op Op, path string, run func() (T, error)) (out T, err error) {
	c := Call{Op: op, Path: path}
	v := w.probe.before(c)
	if v.skip && v.err != nil {
		err = v.err
	} else if out, err = run(); err == nil && v.err != nil {
		_ = out.Close() // it was opened, but the fault says otherwise
		err = v.err
	}
	w.probe.after(c, v, err)
	return out, err
}

func (w *wrapFS) Open(name string) (File, error)   { return w.file(OpOpen, name, w.FS.Open) }
func (w *wrapFS) Create(name string) (File, error) { return w.file(OpCreate, name, w.FS.Create) }

func (w *wrapFS) file(op Op, name string, run func(string) (File, error)) (File, error) {
	f, err := open(w, op, name, func() (File, error) { return run(name) })
	if err != nil {
		return nil, err
	}
	return &wrapFile{f, w.probe, Call{Path: name, class: ClassOf(name)}}, nil
}

func (w *wrapFS) Map(name string, size int64) (Mapping, error) {
	return open(w, OpMap, name, func() (Mapping, error) { return w.FS.Map(name, size) })
}

func (w *wrapFS) Lock(name string) (io.Closer, error) {
	return open(w, OpLock, name, func() (io.Closer, error) { return w.FS.Lock(name) })
}

func (w *wrapFS) Rename(oldname, newname string) error {
	return w.do(OpRename, newname, func(string) error { return w.FS.Rename(oldname, newname) })
}

func (w *wrapFS) MkdirAll(dir string) error   { return w.do(OpMkdir, dir, w.FS.MkdirAll) }
func (w *wrapFS) Remove(name string) error    { return w.do(OpRemove, name, w.FS.Remove) }
func (w *wrapFS) RemoveAll(name string) error { return w.do(OpRemove, name, w.FS.RemoveAll) }
func (w *wrapFS) SyncDir(dir string) error    { return w.do(OpSyncDir, dir, w.FS.SyncDir) }

type wrapFile struct {
	File
	probe probe
	self  Call // what all its calls have in common
}

func (f *wrapFile) call(op Op, off int64, size int) Call {
	c := f.self
	c.Op, c.Off, c.Len = op, off, size
	return c
}

func (f *wrapFile) ReadAt(p []byte, off int64) (n int, err error) {
	c := f.call(OpRead, off, len(p))
	v := f.probe.before(c)
	if !v.skip {
		n, err = f.File.ReadAt(p, off)
	}
	if v.err != nil {
		n, err = 0, v.err
	}
	f.probe.after(c, v, err)
	return n, err
}

func (f *wrapFile) WriteAt(p []byte, off int64) (n int, err error) {
	c := f.call(OpWrite, off, len(p))
	v := f.probe.before(c)
	switch {
	case v.clipped:
		n, err = f.File.WriteAt(p[:min(v.clip, len(p))], off)
	case !v.skip:
		n, err = f.File.WriteAt(p, off)
	case v.err == nil:
		n = len(p)
	}
	if v.err != nil {
		err = v.err
	}
	f.probe.after(c, v, err)
	return n, err
}

func (f *wrapFile) WriteVec(buffers [][]byte, off int64) (err error) {
	size := 0
	for _, b := range buffers {
		size += len(b)
	}
	c := f.call(OpWrite, off, size)
	v := f.probe.before(c)
	switch {
	case v.clipped:
		err = f.File.WriteVec(clip(buffers, v.clip), off)
	case !v.skip:
		err = f.File.WriteVec(buffers, off)
	}
	if v.err != nil {
		err = v.err
	}
	f.probe.after(c, v, err)
	return err
}

// clip is the first n bytes of the buffers.
func clip(buffers [][]byte, n int) (out [][]byte) {
	for _, b := range buffers {
		b = b[:min(n, len(b))]
		n -= len(b)
		out = append(out, b)
	}
	return out
}

// forgetter is a file that can lose what is unsynced the way a kernel does after a failed fsync.
type forgetter interface{ forget() }

func (f *wrapFile) forget() {
	if inner, ok := f.File.(forgetter); ok {
		inner.forget()
	}
}

func (f *wrapFile) Sync() (err error) {
	c := f.call(OpSync, 0, 0)
	v := f.probe.before(c)
	if !v.skip {
		err = f.File.Sync()
	} else if v.forget {
		f.forget()
	}
	if v.err != nil {
		err = v.err
	}
	f.probe.after(c, v, err)
	return err
}

func (f *wrapFile) Truncate(size int64) (err error) {
	c := f.call(OpTruncate, size, 0)
	v := f.probe.before(c)
	if !v.skip {
		err = f.File.Truncate(size)
	}
	if v.err != nil {
		err = v.err
	}
	f.probe.after(c, v, err)
	return err
}
