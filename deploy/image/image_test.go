package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// entry is a file of an archive.
type entry struct {
	*tar.Header
	body []byte
}

func contents(t *testing.T, r io.Reader) map[string]*entry {
	t.Helper()
	out := map[string]*entry{}
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		if out[h.Name] != nil {
			t.Errorf("%s comes twice", h.Name)
		}
		out[h.Name] = &entry{h, body}
	}
}

// blob is a document or a layer of a layout, held against its digest.
func blob(t *testing.T, all map[string]*entry, d descriptor) []byte {
	t.Helper()
	h := all["blobs/sha256/"+strings.TrimPrefix(d.Digest, "sha256:")]
	if h == nil {
		t.Fatalf("no blob %s", d.Digest)
	}
	b := h.body
	if digest(b) != d.Digest || len(b) != d.Size {
		t.Fatalf("%s is %s of %d bytes", d.Digest, digest(b), len(b))
	}
	return b
}

func parsed[T any](t *testing.T, b []byte) (doc T) {
	t.Helper()
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// The binary, packed and taken apart again: what a container engine would do.
func TestImage(t *testing.T) {
	out := filepath.Join(t.TempDir(), "quorlog.tar")
	var said bytes.Buffer
	o := options{out: out, name: "registry.example/quorlog", version: "1.2.3", arch: "amd64", binary: static(t)}
	if err := build(o, &said); err != nil {
		t.Fatal(err)
	}
	t.Log(said.String())
	written, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	all := contents(t, bytes.NewReader(written))
	if all["oci-layout"] == nil || all["index.json"] == nil {
		t.Fatalf("no layout")
	}
	top := parsed[index](t, all["index.json"].body)
	if len(top.Manifests) != 1 || top.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != "registry.example/quorlog:1.2.3" {
		t.Fatalf("%+v", top)
	}
	m := parsed[manifest](t, blob(t, all, top.Manifests[0]))
	checkForDocker(t, all, m)
	config := parsed[imageConfig](t, blob(t, all, m.Config))
	if config.Architecture != "amd64" || config.Config.User != "65532:65532" || !slices.Equal(config.Config.Entrypoint, []string{"/quorlog"}) {
		t.Errorf("%+v", config)
	}
	unzip, err := gzip.NewReader(bytes.NewReader(blob(t, all, m.Layers[0])))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(unzip)
	if err != nil || digest(plain) != config.RootFS.DiffIDs[0] {
		t.Fatalf("the layer is %s, %v", digest(plain), err)
	}
	root := contents(t, bytes.NewReader(plain))
	if h := root["quorlog"]; h == nil || h.Mode != 0o755 || h.Uid != 0 {
		t.Errorf("binary: %+v", h)
	}
	if h := root["var/lib/quorlog/"]; h == nil || h.Uid != user || h.Mode != 0o700 || h.Typeflag != tar.TypeDir {
		t.Errorf("data directory: %+v", h)
	}
	o.max = 1
	if err := build(o, io.Discard); !errors.Is(err, errTooLarge) {
		t.Errorf("more than 1 MiB: %v", err)
	}
}

// checkForDocker holds what Docker reads that knows no layouts: without it `docker load` fails.
func checkForDocker(t *testing.T, all map[string]*entry, m manifest) {
	t.Helper()
	if all["manifest.json"] == nil {
		t.Fatal("no manifest.json")
	}
	images := parsed[[]map[string]any](t, all["manifest.json"].body)
	if len(images) != 1 {
		t.Fatalf("%v", images)
	}
	inside := func(d descriptor) string { return "blobs/sha256/" + strings.TrimPrefix(d.Digest, "sha256:") }
	want := map[string]any{
		"Config": inside(m.Config), "RepoTags": []any{"registry.example/quorlog:1.2.3"}, "Layers": []any{inside(m.Layers[0])},
	}
	if !reflect.DeepEqual(images[0], want) {
		t.Errorf("%v, want %v", images[0], want)
	}
	for _, d := range []descriptor{m.Config, m.Layers[0]} {
		if all[inside(d)] == nil {
			t.Errorf("%s is not there", inside(d))
		}
	}
}

// A containerd looks for the whole name of what a pod or `docker run` calls by a short one.
func TestWholeNames(t *testing.T) {
	for name, want := range map[string]string{
		"quorlog": "docker.io/library/quorlog:1", "you/quorlog": "docker.io/you/quorlog:1", "ghcr.io/you/quorlog": "ghcr.io/you/quorlog:1",
		"localhost/quorlog": "localhost/quorlog:1", "registry:5000/quorlog": "registry:5000/quorlog:1",
	} {
		im := &image{name: name, version: "1", platforms: []platform{{"amd64", root([]byte("one"))}}}
		var b bytes.Buffer
		if _, err := im.write(&b); err != nil {
			t.Fatal(err)
		}
		top := parsed[index](t, contents(t, &b)["index.json"].body)
		if got := top.Manifests[0].Annotations["io.containerd.image.name"]; got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// static is the tested binary if it can be put into an image; without cgo it is built so that it can.
func static(t *testing.T) string {
	t.Helper()
	path := testcluster.Binary(t)
	binary, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkStatic(binary); err != nil {
		testcluster.Missing(t, "a static binary", err)
	}
	return path
}

func TestManyPlatforms(t *testing.T) {
	im := &image{name: "q", version: "1", platforms: []platform{{"amd64", root([]byte("one"))}, {"arm64", root([]byte("two"))}}}
	var b, again bytes.Buffer
	for _, w := range []io.Writer{&b, &again} {
		if _, err := im.write(w); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(b.Bytes(), again.Bytes()) {
		t.Error("the same image is not the same bytes")
	}
	all := contents(t, &b)
	if all["manifest.json"] != nil { // it has no way to say for which processor an image is
		t.Error("manifest.json of several platforms")
	}
	top := parsed[index](t, all["index.json"].body)
	if len(top.Manifests) != 1 || top.Manifests[0].MediaType != indexType {
		t.Fatalf("%+v", top)
	}
	inner := parsed[index](t, blob(t, all, top.Manifests[0]))
	var archs []string
	for _, d := range inner.Manifests {
		archs = append(archs, d.Platform.Architecture)
		m := parsed[manifest](t, blob(t, all, d))
		if config := parsed[imageConfig](t, blob(t, all, m.Config)); config.Architecture != d.Platform.Architecture {
			t.Errorf("%s says it is for %s", d.Platform.Architecture, config.Architecture)
		}
	}
	if !slices.Equal(archs, []string{"amd64", "arm64"}) {
		t.Error(archs)
	}
}

func TestNotForAnImage(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"a script": text, "nothing": text + "x", "a dynamic one": dynamic(t)} {
		o := options{out: filepath.Join(t.TempDir(), "x.tar"), arch: "amd64", binary: path}
		if err := build(o, io.Discard); err == nil {
			t.Errorf("%s was taken", name)
		}
		if _, err := os.Stat(o.out); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s left a file: %v", name, err)
		}
	}
	if err := build(options{out: filepath.Join(t.TempDir(), "x.tar"), arch: "amd64,", binary: static(t)}, io.Discard); err == nil {
		t.Error("an image for no processor")
	}
	if _, err := epoch("yesterday"); err == nil {
		t.Error("yesterday is a number")
	}
}

// dynamic is some program of the machine that needs a loader; elsewhere a missing file does as well.
func dynamic(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat("/bin/ls"); err != nil {
		return filepath.Join(t.TempDir(), "none")
	}
	return "/bin/ls"
}
