package vfs

// WriteVec implements [File] with one call for each buffer. Linux, where brokers run, has a better one.
func (o *osFile) WriteVec(buffers [][]byte, off int64) error {
	for _, b := range buffers {
		n, err := o.f.WriteAt(b, off)
		if err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}

// Sync implements [File]. os.File.Sync is F_FULLFSYNC here: fsync alone leaves the data in the drive's cache.
func (o *osFile) Sync() error { return o.f.Sync() }
