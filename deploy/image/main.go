// Command image builds Quorlog's container image without a container engine: it compiles the static binary, puts it alone into an
// image from scratch, and writes that as an OCI layout in a tar file. The same commit gives the same bytes. Docker's own image
// store, unlike containerd's, knows no layouts and takes an image for a single platform only.
//
//	go run ./deploy/image -o quorlog.tar
//	docker load -i quorlog.tar        # or podman load, ctr image import, kind load image-archive, skopeo copy oci-archive:quorlog.tar ...
//
// It starts no goroutine.
package main

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

const (
	// user is the user and group of the container's process: as high as those of distroless images, so that they are nobody's on
	// the machine.
	user = 65532
	// dataDir is where the node's data goes.
	dataDir = "var/lib/quorlog"
)

// options are the command line.
type options struct {
	out, name, version, arch, binary string
	max                              int // MiB that a compressed layer may have; 0: any number
}

func main() {
	var o options
	flag.StringVar(&o.out, "o", "quorlog.tar", "file to write")
	flag.StringVar(&o.name, "name", "quorlog", "the image's name, as ghcr.io/you/quorlog")
	flag.StringVar(&o.version, "version", "0.1.0-dev", "version of the program and tag of the image")
	flag.StringVar(&o.arch, "arch", runtime.GOARCH, "processors to build for, amd64,arm64,...")
	flag.StringVar(&o.binary, "binary", "", "put this binary into the image instead of compiling one; it must be static")
	flag.IntVar(&o.max, "max", 0, "fail if an image is larger than so many MiB, compressed")
	flag.Parse()
	if err := build(o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// build writes the image and says how large it is.
func build(o options, say io.Writer) error {
	im, err := assemble(o)
	if err != nil {
		return err
	}
	f, err := os.Create(o.out)
	if err != nil {
		return err
	}
	sizes, err := im.write(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(o.out))
	}
	for i, p := range im.platforms {
		fmt.Fprintf(say, "%s for linux/%s: %.1f MiB compressed, %.1f MiB unpacked\n", im.reference(), p.arch, mebibytes(sizes[i]), mebibytes(unpacked(p)))
		if o.max > 0 && sizes[i] > o.max<<20 {
			return fmt.Errorf("%w: more than %d MiB", errTooLarge, o.max)
		}
	}
	fmt.Fprintln(say, "wrote", o.out)
	return nil
}

func mebibytes(n int) float64 { return float64(n) / (1 << 20) }

func unpacked(p platform) (n int) {
	for _, f := range p.files {
		n += len(f.contents)
	}
	return n
}

// assemble collects what belongs into the image.
func assemble(o options) (*image, error) {
	created, err := epoch(os.Getenv("SOURCE_DATE_EPOCH"))
	if err != nil {
		return nil, err
	}
	im := &image{name: o.name, version: o.version, revision: revision(), created: created}
	for arch := range strings.SplitSeq(o.arch, ",") {
		if arch == "" {
			return nil, fmt.Errorf("-arch %q: expected amd64, arm64 or both with a comma", o.arch)
		}
		binary, err := binaryFor(o, arch)
		if err != nil {
			return nil, err
		}
		im.platforms = append(im.platforms, platform{arch: arch, files: root(binary)})
	}
	return im, nil
}

// epoch is the time of all files: that of the variable that reproducible builds agree on, or the beginning of time.
func epoch(v string) (time.Time, error) {
	seconds, err := strconv.ParseInt(cmp.Or(v, "0"), 10, 64)
	if err != nil || seconds < 0 {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH=%q: expected seconds since 1970", v)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// revision is the commit that is built; empty outside of a repository.
func revision() string {
	out, err := exec.Command("git", "rev-parse", "HEAD").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// root is the file system of the image: the binary, a name for its user, and the directory of the data.
func root(binary []byte) []file {
	return []file{
		{name: "etc/", mode: 0o755, dir: true},
		{name: "etc/passwd", mode: 0o644, contents: fmt.Appendf(nil, "root:x:0:0:root:/:/none\nquorlog:x:%d:%[1]d:quorlog:/:/none\n", user)},
		{name: "etc/group", mode: 0o644, contents: fmt.Appendf(nil, "root:x:0:\nquorlog:x:%d:\n", user)},
		{name: "quorlog", mode: 0o755, contents: binary},
		{name: "tmp/", mode: 0o1777, dir: true},
		{name: "var/", mode: 0o755, dir: true}, {name: "var/lib/", mode: 0o755, dir: true},
		{name: dataDir + "/", mode: 0o700, owner: user, dir: true},
	}
}

// errTooLarge: the image has grown beyond what it is to be.
var errTooLarge = errors.New("the image is too large")

// errNotStatic: there is no loader in the image that a dynamic binary needs.
var errNotStatic = errors.New("the binary is not static: build it with CGO_ENABLED=0")

// binaryFor reads the binary that is given, or compiles it.
func binaryFor(o options, arch string) ([]byte, error) {
	path := o.binary
	if path == "" {
		dir, err := os.MkdirTemp("", "quorlog-image")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		path = filepath.Join(dir, "quorlog")
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.version="+o.version, "-o", path, "github.com/quorlog/quorlog/cmd/quorlog")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("go build: %w\n%s", err, bytes.TrimSpace(out))
		}
	}
	binary, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return binary, checkStatic(binary)
}
