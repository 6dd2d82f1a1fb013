package compat

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// ext4Shutdown is EXT4_IOC_SHUTDOWN, _IOR('X', 125, uint32): the file system stops at once, as when the power goes.
const ext4Shutdown = 0x8004587d

// noLogFlush is the argument that also throws away what the journal has not written.
const noLogFlush = 2

// disk is an ext4 file system of its own on a loop device.
type disk struct {
	dev, dir string
}

// newDisk makes the file system; it needs root and skips the test where that or a loop device is missing.
func newDisk(t *testing.T, megabytes int) *disk {
	t.Helper()
	return newDiskAt(t, filepath.Join(t.TempDir(), "disk.img"), megabytes)
}

// newDiskAt is newDisk with a chosen image file.
func newDiskAt(t *testing.T, image string, megabytes int) *disk {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "a loop device", errors.New("not root"))
	}
	file, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(file.Truncate(int64(megabytes)<<20), file.Close()); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", image).CombinedOutput(); err != nil {
		missing(t, "mkfs.ext4", fmt.Errorf("%w: %s", err, out))
	}
	out, err := exec.Command("losetup", "--find", "--show", image).CombinedOutput()
	if err != nil {
		missing(t, "a loop device", fmt.Errorf("%w: %s", err, out))
	}
	d := &disk{dev: strings.TrimSpace(string(out)), dir: t.TempDir()}
	t.Cleanup(func() { _ = exec.Command("losetup", "-d", d.dev).Run() })
	if err := d.mount(); err != nil {
		missing(t, "mount", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(d.dir, unix.MNT_DETACH) })
	return d
}

func (d *disk) mount() error { return unix.Mount(d.dev, d.dir, "ext4", 0, "") }

// cut takes the power away: from now on nothing reaches the disk, and what was not fsynced is gone.
func (d *disk) cut(t *testing.T) {
	t.Helper()
	fd, err := unix.Open(d.dir, unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.IoctlSetPointerInt(fd, ext4Shutdown, noLogFlush); err != nil {
		missing(t, "EXT4_IOC_SHUTDOWN", err)
	}
}

// restore mounts the file system again, as after a reboot. Nobody may hold files of it.
func (d *disk) restore(t *testing.T) {
	t.Helper()
	if err := unix.Unmount(d.dir, 0); err != nil {
		t.Fatal(err)
	}
	if err := d.mount(); err != nil {
		t.Fatal(err)
	}
}

// TestPowerCut cuts the power of the broker's disk under load, mounts it again and checks that everything acknowledged
// is there, once, in order and at its offset.
func TestPowerCut(t *testing.T) {
	const producers, partitions = 2, 3
	cuts := scaled(20, 200)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d, %d power cuts", seed, cuts)
	rng := rand.New(rand.NewPCG(seed, 1))
	d := newDisk(t, 1024)
	node := testcluster.Start(t, testcluster.Options{DataDir: filepath.Join(d.dir, "data")})
	createTopic(t, node, "cuts", partitions)
	h := newHistory()
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for p := range producers {
		cl := idempotentProducer(t, node, "cuts")
		own := rand.New(rand.NewPCG(seed, uint64(p+2)))
		wg.Go(func() { h.produceUntil(ctx, t, cl, p, partitions, own) })
	}
	for range cuts {
		waitAcked(t, h, h.ackedCount()+500+rng.IntN(5000))
		d.cut(t)
		node.Kill()
		d.restore(t)
		node.Restart()
	}
	waitAcked(t, h, h.ackedCount()+200)
	stop()
	wg.Wait()
	h.check(t, node, "cuts")
	node.Kill()
}
