package kubelet

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// image is a container image that was read from an OCI layout.
type image struct {
	config struct {
		Config struct {
			Env        []string
			Entrypoint []string
			Cmd        []string
		} `json:"config"`
	}
	layers [][]byte // tar files
}

// errImage: the file holds no image.
var errImage = errors.New("kubelet: no image")

type blobRef struct{ Digest string }

// openImage reads the layout that deploy/image writes.
func openImage(path string) (*image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	blobs := map[string][]byte{}
	err = eachFile(f, func(h *tar.Header, contents []byte) error {
		blobs[h.Name] = contents
		return nil
	})
	if err != nil {
		return nil, err
	}
	var index struct{ Manifests []blobRef }
	if err := json.Unmarshal(blobs["index.json"], &index); err != nil || len(index.Manifests) != 1 {
		return nil, fmt.Errorf("%w: index.json: %v", errImage, err)
	}
	get := func(ref blobRef) []byte { return blobs["blobs/sha256/"+strings.TrimPrefix(ref.Digest, "sha256:")] }
	var manifest struct {
		Config blobRef
		Layers []blobRef
	}
	if err := json.Unmarshal(get(index.Manifests[0]), &manifest); err != nil {
		return nil, fmt.Errorf("%w: manifest: %w", errImage, err)
	}
	im := &image{}
	if err := json.Unmarshal(get(manifest.Config), &im.config); err != nil {
		return nil, fmt.Errorf("%w: configuration: %w", errImage, err)
	}
	for _, ref := range manifest.Layers {
		zip, err := gzip.NewReader(bytes.NewReader(get(ref)))
		if err != nil {
			return nil, fmt.Errorf("%w: layer: %w", errImage, err)
		}
		layer, err := io.ReadAll(zip)
		if err != nil {
			return nil, fmt.Errorf("%w: layer: %w", errImage, err)
		}
		im.layers = append(im.layers, layer)
	}
	return im, nil
}

// unpack writes the image's files, with their modes and owners, below a directory.
func (im *image) unpack(root string) error {
	for _, layer := range im.layers {
		err := eachFile(bytes.NewReader(layer), func(h *tar.Header, contents []byte) error {
			path := filepath.Join(root, filepath.FromSlash(h.Name))
			if h.Typeflag == tar.TypeDir {
				return errors.Join(os.MkdirAll(path, 0o755), own(path, h))
			}
			return errors.Join(os.WriteFile(path, contents, 0o600), own(path, h))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// own gives a file its owner, and then its mode, which a change of the owner may have cut.
func own(path string, h *tar.Header) error {
	return errors.Join(os.Chown(path, h.Uid, h.Gid), os.Chmod(path, fs.FileMode(h.Mode).Perm()))
}

func eachFile(r io.Reader, do func(*tar.Header, []byte) error) error {
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		contents, err := io.ReadAll(archive)
		if err == nil {
			err = do(h, contents)
		}
		if err != nil {
			return err
		}
	}
}
