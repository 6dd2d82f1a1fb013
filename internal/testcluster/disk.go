package testcluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ext4Shutdown is EXT4_IOC_SHUTDOWN, _IOR('X', 125, uint32): the file system stops at once, as when the power goes.
const ext4Shutdown = 0x8004587d

// noLogFlush is the argument that also throws away what the journal has not written.
const noLogFlush = 2

// RequireEnv names a variable that turns a skip for something missing into a failure, as CI wants it.
const RequireEnv = "QUORLOG_REQUIRE_CLIENTS"

// Missing skips the test, or fails it where everything must be there.
func Missing(t testing.TB, what string, err error) {
	t.Helper()
	if os.Getenv(RequireEnv) != "" {
		t.Fatalf("%s is missing: %v", what, err)
	}
	t.Skipf("%s is missing: %v", what, err)
}

// Disk is an ext4 file system of its own on a loop device.
type Disk struct {
	Dev string // the loop device
	Dir string // where it is mounted
}

// NewDisk makes a file system that lives as long as the test; it needs root and skips the test where that or a loop device
// is missing.
func NewDisk(t testing.TB, megabytes int) *Disk {
	t.Helper()
	return NewDiskAt(t, filepath.Join(t.TempDir(), "disk.img"), megabytes)
}

// NewDiskAt is NewDisk with a chosen image file, which is sparse.
func NewDiskAt(t testing.TB, image string, megabytes int) *Disk {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "a loop device", errors.New("not root"))
	}
	file, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(file.Truncate(int64(megabytes)<<20), file.Close()); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", image).CombinedOutput(); err != nil {
		Missing(t, "mkfs.ext4", fmt.Errorf("%w: %s", err, out))
	}
	out, err := exec.Command("losetup", "--find", "--show", image).CombinedOutput()
	if err != nil {
		Missing(t, "a loop device", fmt.Errorf("%w: %s", err, out))
	}
	d := &Disk{Dev: strings.TrimSpace(string(out)), Dir: t.TempDir()}
	t.Cleanup(func() { _ = exec.Command("losetup", "-d", d.Dev).Run() })
	if err := d.Mount(); err != nil {
		Missing(t, "mount", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(d.Dir, unix.MNT_DETACH) })
	return d
}

// Mount mounts the file system.
func (d *Disk) Mount() error { return unix.Mount(d.Dev, d.Dir, "ext4", 0, "") }

// Unmount takes the file system away. Nobody may hold files of it.
func (d *Disk) Unmount() error { return unix.Unmount(d.Dir, 0) }

// Cut takes the power away: from now on nothing reaches the disk, and what was not fsynced is gone.
func (d *Disk) Cut(t testing.TB) {
	t.Helper()
	fd, err := unix.Open(d.Dir, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.IoctlSetPointerInt(fd, ext4Shutdown, noLogFlush); err != nil {
		Missing(t, "EXT4_IOC_SHUTDOWN", err)
	}
}

// restorePatience is how long Restore waits for others to let go of a disk.
const restorePatience = 30 * time.Second

// Restore mounts the file system again, as after a reboot. Nobody may hold files of it. While anything on the machine still has
// it mounted in a namespace of its own (a test beside this one may start such a thing at any moment), the kernel gives back the
// file system that was cut; so Restore looks whether it got a living one.
func (d *Disk) Restore(t testing.TB) {
	t.Helper()
	for end := time.Now().Add(restorePatience); ; {
		if err := errors.Join(d.Unmount(), d.Mount()); err != nil {
			t.Fatal(err)
		}
		err := d.alive()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the disk stays cut: %v", err)
		}
		runtime.Gosched()
	}
}

// alive tells whether the file system takes a write.
func (d *Disk) alive() error {
	f, err := os.CreateTemp(d.Dir, ".alive")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// Fill writes a file until so many bytes are left, and not less at any moment: what meets the very end of a disk in the middle
// of a write is another matter. Removing the file empties the disk again.
func (d *Disk) Fill(t testing.TB, name string, leave int64) {
	t.Helper()
	f, err := os.Create(filepath.Join(d.Dir, name))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	chunk := make([]byte, 1<<20)
	for d.Free(t) > leave+int64(len(chunk)) {
		if _, err := f.Write(chunk); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil { // space is taken when it is written, not before
			t.Fatal(err)
		}
	}
}

// Free is how many bytes are left.
func (d *Disk) Free(t testing.TB) int64 {
	t.Helper()
	var s unix.Statfs_t
	if err := unix.Statfs(d.Dir, &s); err != nil {
		t.Fatal(err)
	}
	return int64(s.Bavail) * s.Bsize
}
