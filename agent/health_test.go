package agent

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/quorlog/quorlog/log/vfs"
)

// tightFS is a disk with as much room as somebody says.
type tightFS struct {
	vfs.OS
	free atomic.Uint64
}

// Free makes the disk 100 GiB large.
func (f *tightFS) Free(string) (free, total uint64, err error) { return f.free.Load(), 100 << 30, nil }

// Once a node was ready, a full disk is told but keeps no clients away: what they read is there, and if all disks of a cluster fill, none
// of its nodes would be left to begin at. At the start it counts, so that a rolling restart does not go on.
func TestReadyOnFullDisk(t *testing.T) {
	disk := &tightFS{}
	a := testNode(t, nil, disk)
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	look := func(free uint64, path string, want int, text string) {
		t.Helper()
		disk.free.Store(free)
		a.partitions.CheckSpace()
		if status, body := httpGet(t, a.Addr(), path); status != want || !strings.Contains(body, text) {
			t.Errorf("with %d bytes free, %s: %d %q, want %d %q", free, path, status, body, want, text)
		}
	}
	const full = "space: the disk is nearly full"
	look(1<<20, "/readyz", http.StatusServiceUnavailable, "[-] "+full)
	look(50<<30, "/readyz", http.StatusOK, "ok\n")
	look(1<<20, "/readyz", http.StatusOK, "ok\n")
	look(1<<20, "/readyz?verbose", http.StatusOK, "[!] "+full)
	if !well(a.web.ready(t.Context())) {
		t.Error("quorlog_ready says something else than /readyz")
	}
	look(50<<30, "/readyz?verbose", http.StatusOK, "[+] space ok")
	a.stopping.Store(true)
	look(50<<30, "/readyz", http.StatusServiceUnavailable, "the node stops")
}
