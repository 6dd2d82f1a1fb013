package main

import (
	"bufio"
	"io"
	"os"
)

// flushWriter buffers output so that a consumer is not bound by one system call a record.
type flushWriter struct{ *bufio.Writer }

func newFlushWriter(w io.Writer) flushWriter { return flushWriter{bufio.NewWriterSize(w, 64<<10)} }

// isTerminal tells whether w is a person's screen.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
