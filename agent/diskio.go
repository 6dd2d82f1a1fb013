package agent

import (
	"bytes"
	"os"
	"strconv"
)

// diskBytes tells how much this process has had read from disks and written to them, since it began; false where the operating
// system does not say.
func diskBytes() (read, written int64, ok bool) {
	b, err := os.ReadFile("/proc/self/io") // Linux
	if err != nil {
		return 0, 0, false
	}
	read, r := ioField(b, "read_bytes: ")
	written, w := ioField(b, "\nwrite_bytes: ")
	return read, written, r && w
}

func ioField(text []byte, name string) (int64, bool) {
	_, after, found := bytes.Cut(text, []byte(name))
	digits, _, _ := bytes.Cut(after, []byte("\n"))
	n, err := strconv.ParseInt(string(digits), 10, 64)
	return n, found && err == nil
}
