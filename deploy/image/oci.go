package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// The media types of an image (OCI image specification 1.1).
const (
	indexType    = "application/vnd.oci.image.index.v1+json"
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// file is an entry of the root file system; a directory if its mode says so.
type file struct {
	name     string // without a slash in front
	mode     int64
	owner    int // user and group
	contents []byte
	dir      bool
}

// platform is one variant of an image.
type platform struct {
	arch  string // GOARCH
	files []file
}

// image is what is built. The same image gives the same bytes, whoever builds it and when.
type image struct {
	name, version, revision string
	created                 time.Time
	platforms               []platform
}

// The JSON documents of an image; only fields that are used.
type (
	descriptor struct {
		MediaType   string            `json:"mediaType"`
		Digest      string            `json:"digest"`
		Size        int               `json:"size"`
		Platform    *imagePlatform    `json:"platform,omitempty"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	imagePlatform struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
	}
	index struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Manifests     []descriptor `json:"manifests"`
	}
	manifest struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		Config        descriptor        `json:"config"`
		Layers        []descriptor      `json:"layers"`
		Annotations   map[string]string `json:"annotations"`
	}
	imageConfig struct {
		Created string `json:"created"`
		imagePlatform
		Config  runConfig `json:"config"`
		RootFS  rootFS    `json:"rootfs"`
		History []history `json:"history"`
	}
	runConfig struct {
		User         string              `json:"User"`
		ExposedPorts map[string]struct{} `json:"ExposedPorts"`
		Env          []string            `json:"Env"`
		Entrypoint   []string            `json:"Entrypoint"`
		Cmd          []string            `json:"Cmd"`
		Volumes      map[string]struct{} `json:"Volumes"`
		WorkingDir   string              `json:"WorkingDir"`
		Labels       map[string]string   `json:"Labels"`
		StopSignal   string              `json:"StopSignal"`
	}
	// loadable is an image as Docker reads it that knows no layouts, in the list that is manifest.json.
	loadable struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	rootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	}
	history struct {
		Created   string `json:"created"`
		CreatedBy string `json:"created_by"`
	}
)

// layout collects the blobs of an OCI image layout in the order in which they are added.
type layout struct {
	blobs []file
	held  map[string]bool
}

// blobPath is where a blob lies in a layout.
func blobPath(digest string) string { return "blobs/sha256/" + strings.TrimPrefix(digest, "sha256:") }

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// add keeps a blob and describes it.
func (l *layout) add(mediaType string, b []byte) descriptor {
	d := descriptor{MediaType: mediaType, Digest: digest(b), Size: len(b)}
	if !l.held[d.Digest] {
		l.held[d.Digest] = true
		l.blobs = append(l.blobs, file{name: blobPath(d.Digest), mode: 0o644, contents: b})
	}
	return d
}

// addJSON keeps a document.
func (l *layout) addJSON(mediaType string, doc any) (descriptor, error) {
	b, err := json.Marshal(doc)
	return l.add(mediaType, b), err
}

// write writes the image as a tar file that holds an OCI image layout: what `podman load`, `skopeo`, `crane`, `ctr image import` and
// `kind load image-archive` take. For a single platform there is a manifest.json beside, as in what `docker save` writes: a `docker load`
// without containerd's image store reads nothing else. It returns the compressed size of each platform's layer.
func (im *image) write(w io.Writer) (sizes []int, err error) {
	l := &layout{held: map[string]bool{}}
	all := index{SchemaVersion: 2, MediaType: indexType}
	var load []loadable
	for _, p := range im.platforms {
		d, m, err := im.platform(l, p)
		if err != nil {
			return nil, err
		}
		all.Manifests, sizes = append(all.Manifests, d), append(sizes, m.Layers[0].Size)
		load = append(load, loadable{Config: blobPath(m.Config.Digest), RepoTags: []string{im.reference()}, Layers: []string{blobPath(m.Layers[0].Digest)}})
	}
	top := all
	if len(all.Manifests) > 1 { // one image for several platforms is an index of its own
		d, err := l.addJSON(indexType, all)
		if err != nil {
			return nil, err
		}
		top.Manifests = []descriptor{d}
	}
	top.Manifests[0].Annotations = map[string]string{"io.containerd.image.name": im.wholeName(), "org.opencontainers.image.ref.name": im.reference()}
	doc, err := json.Marshal(top)
	if err != nil {
		return nil, err
	}
	files := append([]file{
		{name: "oci-layout", mode: 0o644, contents: []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{name: "index.json", mode: 0o644, contents: doc},
		{name: "blobs/", mode: 0o755, dir: true}, {name: "blobs/sha256/", mode: 0o755, dir: true},
	}, l.blobs...)
	if len(load) == 1 { // it can't tell for which processor an image is
		if doc, err = json.Marshal(load); err != nil {
			return nil, err
		}
		files = append(files, file{name: "manifest.json", mode: 0o644, contents: doc})
	}
	return sizes, writeTar(w, files, im.created)
}

// reference is the image's full name, as it stands in `docker images` and in pods.
func (im *image) reference() string { return im.name + ":" + im.version }

// wholeName is the reference with its registry: containerd looks for quorlog:1 as docker.io/library/quorlog:1, and takes the name of an
// image in a layout as it stands there.
func (im *image) wholeName() string {
	switch first, _, ok := strings.Cut(im.name, "/"); {
	case !ok:
		return "docker.io/library/" + im.reference()
	case first != "localhost" && !strings.ContainsAny(first, ".:"):
		return "docker.io/" + im.reference()
	}
	return im.reference()
}

// platform adds a platform's layer, configuration and manifest.
func (im *image) platform(l *layout, p platform) (d descriptor, m manifest, err error) {
	var plain, packed bytes.Buffer
	if err := writeTar(&plain, p.files, im.created); err != nil {
		return d, m, err
	}
	zip := gzip.NewWriter(&packed)
	if _, err := zip.Write(plain.Bytes()); err != nil {
		return d, m, err
	}
	if err := zip.Close(); err != nil {
		return d, m, err
	}
	layer := l.add(layerType, packed.Bytes())
	on := imagePlatform{Architecture: p.arch, OS: "linux"}
	config, err := l.addJSON(configType, im.config(on, digest(plain.Bytes())))
	if err != nil {
		return d, m, err
	}
	m = manifest{SchemaVersion: 2, MediaType: manifestType, Config: config, Layers: []descriptor{layer}, Annotations: im.labels()}
	d, err = l.addJSON(manifestType, m)
	d.Platform = &on
	return d, m, err
}

// config says how a container of the image runs. The address that clients are told is right for a container whose port 9092 is
// published on the same machine, as with `docker run -p 9092:9092`; everybody else gives arguments of their own.
func (im *image) config(on imagePlatform, layer string) imageConfig {
	when := im.created.Format(time.RFC3339)
	return imageConfig{
		Created: when, imagePlatform: on,
		Config: runConfig{
			User:         fmt.Sprintf("%d:%[1]d", user),
			ExposedPorts: map[string]struct{}{"9092/tcp": {}, "9093/tcp": {}, "9093/udp": {}},
			Env:          []string{"QUORLOG_DATA_DIR=/" + dataDir, "PATH=/"},
			Entrypoint:   []string{"/quorlog"},
			Cmd:          []string{"serve", "--listen", "0.0.0.0:9092", "--advertise", "localhost:9092"},
			Volumes:      map[string]struct{}{"/" + dataDir: {}},
			WorkingDir:   "/",
			Labels:       im.labels(),
			StopSignal:   "SIGTERM",
		},
		RootFS:  rootFS{Type: "layers", DiffIDs: []string{layer}},
		History: []history{{Created: when, CreatedBy: "deploy/image"}},
	}
}

// labels are the usual annotations of the specification.
func (im *image) labels() map[string]string {
	out := map[string]string{
		"org.opencontainers.image.title":    "quorlog",
		"org.opencontainers.image.version":  im.version,
		"org.opencontainers.image.source":   "https://github.com/quorlog/quorlog",
		"org.opencontainers.image.licenses": "Apache-2.0",
	}
	if im.revision != "" {
		out["org.opencontainers.image.revision"] = im.revision
	}
	return out
}

// writeTar writes files, each with the same time and without the names of users.
func writeTar(w io.Writer, files []file, when time.Time) error {
	t := tar.NewWriter(w)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Size: int64(len(f.contents)), Mode: f.mode, Uid: f.owner, Gid: f.owner, ModTime: when, Format: tar.FormatUSTAR}
		if f.dir {
			h.Typeflag = tar.TypeDir
		}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(f.contents); err != nil {
			return err
		}
	}
	return t.Close()
}
