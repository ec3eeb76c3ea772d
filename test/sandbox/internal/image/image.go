// Package image makes and reads image archives without a registry or a Docker engine.
//
// An archive is a tar of an OCI image layout with one image of one layer, which containerd, docker
// and skopeo import. Everything in it is fixed by its content, times included: the same content has
// the same digest, and a digest that a node has need not be imported again.
package image

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Config is what a container of the image starts with.
type Config struct {
	Entrypoint []string `json:"Entrypoint,omitempty"`
	Cmd        []string `json:"Cmd,omitempty"`
	Env        []string `json:"Env,omitempty"`
	User       string   `json:"User,omitempty"`
	WorkingDir string   `json:"WorkingDir,omitempty"`
}

const (
	indexType    = "application/vnd.oci.image.index.v1+json"
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar"
	// nameAnnotation is where containerd looks for an image's name.
	nameAnnotation = "io.containerd.image.name"
)

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Platform    map[string]string `json:"platform,omitempty"`
}

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
}

// Normalize completes an image name as kubelet does before it asks the container runtime: app:dev
// is docker.io/library/app:dev.
func Normalize(name string) (string, error) {
	if name == "" || strings.ContainsAny(name, " @") || strings.ToLower(name) != name && !strings.Contains(name, ":") {
		return "", fmt.Errorf("image name %q: want [HOST/]NAME[:TAG] in lower case", name)
	}
	first, _, nested := strings.Cut(name, "/")
	if !nested || !strings.ContainsAny(first, ".:") && first != "localhost" {
		if !nested {
			name = "library/" + name
		}
		name = "docker.io/" + name
	}
	if !strings.Contains(name[strings.LastIndexByte(name, '/'):], ":") {
		name += ":latest"
	}
	return name, nil
}

// Write makes an archive at out from a layer, a tar file, and returns the image's digest. The
// archive appears whole or not at all.
func Write(out, name, layerFile string, cfg Config) (string, error) {
	name, err := Normalize(name)
	if err != nil {
		return "", err
	}
	layer, err := describeFile(layerType, layerFile)
	if err != nil {
		return "", err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": cfg,
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{layer.Digest}},
	})
	if err != nil {
		return "", err
	}
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": manifestType,
		"config": describe(configType, config), "layers": []descriptor{layer},
	})
	if err != nil {
		return "", err
	}
	d := describe(manifestType, manifest)
	d.Annotations = map[string]string{nameAnnotation: name, "org.opencontainers.image.ref.name": name}
	d.Platform = map[string]string{"architecture": runtime.GOARCH, "os": "linux"}
	top, err := json.Marshal(index{SchemaVersion: 2, MediaType: indexType, Manifests: []descriptor{d}})
	if err != nil {
		return "", err
	}
	return d.Digest, writeLayout(out, layerFile, layer, [][2]string{
		{"oci-layout", `{"imageLayoutVersion":"1.0.0"}`},
		{"index.json", string(top)},
		{blobPath(d.Digest), string(manifest)},
		{blobPath(describe(configType, config).Digest), string(config)},
	})
}

func writeLayout(out, layerFile string, layer descriptor, small [][2]string) error {
	f, err := os.CreateTemp(filepath.Dir(out), ".image-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // renamed when all went well
	defer f.Close()           //nolint:errcheck // closed below when all went well
	tw := tar.NewWriter(f)
	for _, e := range small {
		if err := tw.WriteHeader(&tar.Header{Name: e[0], Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(e[1]))}); err != nil {
			return err
		}
		if _, err := io.WriteString(tw, e[1]); err != nil {
			return err
		}
	}
	in, err := os.Open(layerFile)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // read only
	if err := tw.WriteHeader(&tar.Header{Name: blobPath(layer.Digest), Typeflag: tar.TypeReg, Mode: 0o644, Size: layer.Size}); err != nil {
		return err
	}
	if _, err := io.Copy(tw, in); err != nil {
		return err
	}
	if err := errors.Join(tw.Close(), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), out)
}

// Names reads the names of the images in an archive with their digests. One that is no OCI layout
// (from docker save) has names but tells no digests: they are empty.
func Names(archive string) (map[string]string, error) {
	f, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	names := map[string]string{}
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("not an image archive: %w", err)
		}
		switch h.Name {
		case "index.json":
			return indexNames(tr)
		case "manifest.json":
			if err := dockerNames(tr, names); err != nil {
				return nil, err
			}
		}
	}
	if len(names) == 0 {
		return nil, errors.New("not an image archive: it has neither index.json nor manifest.json with a name")
	}
	return names, nil
}

func indexNames(r io.Reader) (map[string]string, error) {
	var top index
	if err := json.NewDecoder(r).Decode(&top); err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	names := map[string]string{}
	for _, m := range top.Manifests {
		if name := m.Annotations[nameAnnotation]; name != "" {
			names[name] = m.Digest
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no image in index.json has a name (annotation %s)", nameAnnotation)
	}
	return names, nil
}

func dockerNames(r io.Reader, names map[string]string) error {
	var all []struct{ RepoTags []string }
	if err := json.NewDecoder(r).Decode(&all); err != nil {
		return fmt.Errorf("manifest.json: %w", err)
	}
	for _, i := range all {
		for _, tag := range i.RepoTags {
			name, err := Normalize(tag)
			if err != nil {
				return err
			}
			names[name] = ""
		}
	}
	return nil
}

func describe(mediaType string, b []byte) descriptor {
	sum := sha256.Sum256(b)
	return descriptor{MediaType: mediaType, Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: int64(len(b))}
}

func describeFile(mediaType, file string) (descriptor, error) {
	f, err := os.Open(file)
	if err != nil {
		return descriptor{}, err
	}
	defer f.Close() //nolint:errcheck // read only
	h := sha256.New()
	n, err := io.Copy(h, f)
	return descriptor{MediaType: mediaType, Digest: "sha256:" + hex.EncodeToString(h.Sum(nil)), Size: n}, err
}

func blobPath(digest string) string {
	return "blobs/" + strings.Replace(digest, ":", "/", 1)
}
