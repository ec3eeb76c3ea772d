package kopiastore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kopia/kopia/fs"
	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/repo/object"
	kopia "github.com/kopia/kopia/snapshot"
	"github.com/kopia/kopia/snapshot/snapshotfs"

	"github.com/godwit-io/godwit/snapshot"
)

const (
	// formatVersion grows when an older Godwit could misread an image.
	formatVersion = 1

	imageFile  = "godwit.json"
	volumeName = "volume"

	// kindTag tells images and rounds apart, and both from what others keep here.
	kindTag   = "tag:godwit"
	kindImage = "image"
	kindRound = "round"
)

// imageRecord is the content of godwit.json.
type imageRecord struct {
	Format int            `json:"format"`
	Image  snapshot.Image `json:"image"`
	// SegmentSize is the length of a segment in bytes.
	SegmentSize int64 `json:"segmentSize,omitempty"`
	// Zeros are the objects of chunks of zeros, by their length.
	Zeros map[int64]object.ID `json:"zeros,omitempty"`
}

// source is the history that images of a volume are in, for stock kopia.
func source(v snapshot.Volume) (kopia.SourceInfo, error) {
	if v.Cluster == "" || v.Namespace == "" || v.Name == "" || strings.Contains(v.Namespace+v.Name, "/") {
		return kopia.SourceInfo{}, fmt.Errorf("volume %q has no complete name", v)
	}
	return kopia.SourceInfo{Host: v.Cluster, UserName: userName, Path: "/" + v.Namespace + "/" + v.Name}, nil
}

// directory is what an image or a round is made of.
type directory struct {
	entries []*kopia.DirEntry
	source  kopia.SourceInfo
	tags    map[string]string
	text    string
	taken   time.Time
	size    int64
}

// fileEntry describes a file whose bytes are an object.
func fileEntry(name string, id object.ID, size int64, modified fs.UTCTimestamp) *kopia.DirEntry {
	return &kopia.DirEntry{
		Name: name, Type: kopia.EntryTypeFile, Permissions: configFileMode, FileSize: size, ModTime: modified, ObjectID: id,
	}
}

// writeFile stores small content among kopia's metadata, which is cached.
func writeFile(ctx context.Context, w repo.RepositoryWriter, name string, content []byte, modified fs.UTCTimestamp) (*kopia.DirEntry, error) {
	id, err := writeObject(ctx, w, content, object.WriterOptions{
		Description: name, Prefix: metadataPrefix, Compressor: compressor, MetadataCompressor: compressor,
	})
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	return fileEntry(name, id, int64(len(content)), modified), nil
}

// timestamp keeps the zero time out of kopia, whose nanoseconds do not reach back to it.
func timestamp(t time.Time) fs.UTCTimestamp {
	if t.IsZero() {
		t = time.Now()
	}
	return fs.UTCTimestampFromTime(t)
}

// saveImage adds godwit.json, and lists the directory once the rest of it is
// durable: a manifest that is listed before is not yet an image. Needed is the
// image whose content this one keeps, if any.
func (r *Repository) saveImage(ctx context.Context, w repo.DirectRepositoryWriter, record imageRecord, entries []*kopia.DirEntry, needed snapshot.ImageID) (snapshot.Image, error) {
	src, err := source(record.Image.Volume)
	if err != nil {
		return snapshot.Image{}, err
	}
	record.Format, record.Image.ID = formatVersion, ""
	data, err := json.Marshal(record)
	if err != nil {
		return snapshot.Image{}, fmt.Errorf("encode %s: %w", imageFile, err)
	}
	entry, err := writeFile(ctx, w, imageFile, data, timestamp(record.Image.Taken))
	if err != nil {
		return snapshot.Image{}, err
	}
	id, err := r.save(ctx, w, directory{
		entries: append(entries, entry), source: src, taken: record.Image.Taken, size: record.Image.Size,
		tags: map[string]string{kindTag: kindImage, "tag:round": record.Image.Round},
		text: fmt.Sprintf("%s of %s, round %s", record.Image.Kind, record.Image.Volume, record.Image.Round),
	}, needed)
	record.Image.ID = snapshot.ImageID(id)
	return record.Image, err
}

// save writes the directory and its manifest. Needed is an image that this
// one shares content with, and that must still be there.
func (r *Repository) save(ctx context.Context, w repo.DirectRepositoryWriter, d directory, needed snapshot.ImageID) (manifest.ID, error) {
	start := timestamp(d.taken)
	var builder snapshotfs.DirManifestBuilder
	for _, e := range d.entries {
		builder.AddEntry(e)
	}
	dir := builder.Build(start, "")
	root, err := snapshotfs.WriteDirManifest(ctx, w, "/", dir, compressor)
	if err != nil {
		return "", fmt.Errorf("write the image's directory: %w", err)
	}
	if err := w.Flush(ctx); err != nil {
		return "", fmt.Errorf("make the image durable: %w", err)
	}
	if needed != "" {
		if err := r.stillThere(ctx, needed); err != nil {
			return "", err
		}
	}
	m := &kopia.Manifest{
		Source: d.source, Description: d.text, StartTime: start, EndTime: fs.UTCTimestampFromTime(time.Now()), Tags: d.tags,
		RootEntry: &kopia.DirEntry{
			Name: "/", Type: kopia.EntryTypeDirectory, Permissions: configDirMode, ModTime: start, ObjectID: root, DirSummary: dir.Summary,
		},
	}
	m.Stats.TotalFileCount, m.Stats.TotalFileSize = int32(dir.Summary.TotalFileCount), d.size //nolint:gosec // a count for display
	if err := r.failed(); err != nil {
		return "", err
	}
	id, err := kopia.SaveSnapshot(ctx, w, m)
	if err != nil {
		return "", fmt.Errorf("list the image: %w", err)
	}
	if err := w.Flush(ctx); err != nil {
		return "", fmt.Errorf("list the image: %w", err)
	}
	return id, nil
}

// stillThere asks again, since another client may have removed the image.
func (r *Repository) stillThere(ctx context.Context, id snapshot.ImageID) error {
	if _, err := r.Image(ctx, id); errors.Is(err, snapshot.ErrNotFound) {
		return fmt.Errorf("%w: %w", snapshot.ErrNoBase, err)
	} else if err != nil {
		return err
	}
	return nil
}

// manifestOf loads the manifest of an image or a round.
func (r *Repository) manifestOf(ctx context.Context, id snapshot.ImageID, kind string) (*kopia.Manifest, error) {
	if err := r.refresh(ctx); err != nil {
		return nil, err
	}
	if id == "" {
		return nil, fmt.Errorf("%s without an id: %w", kind, snapshot.ErrNotFound)
	}
	m := &kopia.Manifest{}
	entry, err := r.rep.GetManifest(ctx, manifest.ID(id), m)
	if errors.Is(err, manifest.ErrNotFound) {
		return nil, fmt.Errorf("%s %s: %w", kind, id, snapshot.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", kind, id, explain(r.location, err))
	}
	if entry.Labels[manifest.TypeLabelKey] != kopia.ManifestType || entry.Labels[kindTag] != kind || m.IncompleteReason != "" {
		return nil, fmt.Errorf("%s is no %s: %w", id, kind, snapshot.ErrNotFound)
	}
	m.ID = manifest.ID(id)
	return m, nil
}

// files reads the top directory of a manifest, by name.
func (r *Repository) files(ctx context.Context, m *kopia.Manifest) (map[string]*kopia.DirEntry, error) {
	data, err := readObject(ctx, r.rep, m.RootObjectID())
	if err != nil {
		return nil, fmt.Errorf("read the directory of %s: %w", m.ID, r.damage(err))
	}
	var dir kopia.DirManifest
	if err := json.Unmarshal(data, &dir); err != nil {
		return nil, fmt.Errorf("read the directory of %s: %w: %w", m.ID, snapshot.ErrCorrupt, err)
	}
	files := map[string]*kopia.DirEntry{}
	for _, e := range dir.Entries {
		files[e.Name] = e
	}
	return files, nil
}

// readFile reads one small file of a manifest's directory.
func (r *Repository) readFile(ctx context.Context, files map[string]*kopia.DirEntry, name string) ([]byte, error) {
	entry := files[name]
	if entry == nil {
		return nil, fmt.Errorf("%s is missing: %w", name, snapshot.ErrCorrupt)
	}
	data, err := readObject(ctx, r.rep, entry.ObjectID)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, r.damage(err))
	}
	return data, nil
}

// record reads godwit.json of an image.
func (r *Repository) record(ctx context.Context, m *kopia.Manifest) (imageRecord, map[string]*kopia.DirEntry, error) {
	var record imageRecord
	files, err := r.files(ctx, m)
	if err != nil {
		return record, nil, err
	}
	data, err := r.readFile(ctx, files, imageFile)
	if err != nil {
		return record, nil, err
	}
	if err := json.Unmarshal(data, &record); err != nil {
		return record, nil, fmt.Errorf("%s: %w: %w", imageFile, snapshot.ErrCorrupt, err)
	}
	if record.Format != formatVersion {
		return record, nil, fmt.Errorf("%s has format %d, this Godwit reads format %d: upgrade it", imageFile, record.Format, formatVersion)
	}
	record.Image.ID = snapshot.ImageID(m.ID)
	return record, files, nil
}

// Image describes a committed image.
func (r *Repository) Image(ctx context.Context, id snapshot.ImageID) (snapshot.Image, error) {
	m, err := r.manifestOf(ctx, id, kindImage)
	if err != nil {
		return snapshot.Image{}, err
	}
	record, _, err := r.record(ctx, m)
	if err != nil {
		return snapshot.Image{}, fmt.Errorf("image %s: %w", id, err)
	}
	return record.Image, nil
}

// Images lists the committed images of a volume, oldest first.
func (r *Repository) Images(ctx context.Context, v snapshot.Volume) ([]snapshot.Image, error) {
	src, err := source(v)
	if err != nil {
		return nil, err
	}
	found, err := r.list(ctx, &src, map[string]string{kindTag: kindImage})
	if err != nil {
		return nil, fmt.Errorf("list the images of %s: %w", v, err)
	}
	slices.SortFunc(found, func(a, b *kopia.Manifest) int {
		return cmp.Or(cmp.Compare(a.StartTime, b.StartTime), cmp.Compare(a.EndTime, b.EndTime))
	})
	var images []snapshot.Image
	for _, m := range found {
		record, _, err := r.record(ctx, m)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", m.ID, err)
		}
		images = append(images, record.Image)
	}
	return images, nil
}

// list loads manifests by source and tags. One that cannot be read fails the
// list: leaving it out would say that it is not there.
func (r *Repository) list(ctx context.Context, src *kopia.SourceInfo, tags map[string]string) ([]*kopia.Manifest, error) {
	if err := r.refresh(ctx); err != nil {
		return nil, err
	}
	ids, err := kopia.ListSnapshotManifests(ctx, r.rep, src, tags)
	if err != nil {
		return nil, explain(r.location, err)
	}
	var found []*kopia.Manifest
	for _, id := range ids {
		m, err := kopia.LoadSnapshot(ctx, r.rep, id)
		if err != nil {
			return nil, fmt.Errorf("manifest %s: %w", id, explain(r.location, err))
		}
		if m.IncompleteReason == "" {
			found = append(found, m)
		}
	}
	return found, nil
}

// Forget removes an image from the list. One that is not there is forgotten.
func (r *Repository) Forget(ctx context.Context, id snapshot.ImageID) error {
	m, err := r.manifestOf(ctx, id, kindImage)
	if errors.Is(err, snapshot.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	err = repo.WriteSession(ctx, r.rep, repo.WriteSessionOptions{Purpose: "forget"}, func(ctx context.Context, w repo.RepositoryWriter) error {
		return w.DeleteManifest(ctx, m.ID)
	})
	if err != nil {
		return fmt.Errorf("forget image %s: %w", id, explain(r.location, err))
	}
	return nil
}
