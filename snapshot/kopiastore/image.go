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

// errFormat says that a newer Godwit wrote it.
var errFormat = errors.New("upgrade Godwit")

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
	// incomplete says why it is no image yet; empty for one that is.
	incomplete string
	// replaces are manifests that go when this one comes.
	replaces []manifest.ID
	// hold is what keeps the content until then.
	hold *hold
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

// saveImage adds godwit.json, and lists the directory together with the rest
// of it: a manifest that is listed before is not yet an image. Needed is the
// image whose content this one keeps, if any.
func (r *Repository) saveImage(ctx context.Context, w repo.DirectRepositoryWriter, record imageRecord, entries []*kopia.DirEntry, d directory, needed snapshot.ImageID) (snapshot.Image, error) {
	src, err := source(record.Image.Volume)
	if err != nil {
		return snapshot.Image{}, err
	}
	entry, err := writeRecord(ctx, w, record)
	if err != nil {
		return snapshot.Image{}, err
	}
	record.Image.ID = ""
	d.entries, d.source, d.taken, d.size = append(entries, entry), src, record.Image.Taken, record.Image.Size
	d.tags = map[string]string{kindTag: kindImage, roundTag: record.Image.Round}
	d.text = fmt.Sprintf("%s of %s, round %s", record.Image.Kind, record.Image.Volume, record.Image.Round)
	id, err := r.save(ctx, w, d, needed)
	record.Image.ID = snapshot.ImageID(id)
	return record.Image, err
}

// writeRecord stores godwit.json.
func writeRecord(ctx context.Context, w repo.RepositoryWriter, record imageRecord) (*kopia.DirEntry, error) {
	record.Format, record.Image.ID = formatVersion, ""
	return writeJSON(ctx, w, imageFile, record, timestamp(record.Image.Taken))
}

func writeJSON[T any](ctx context.Context, w repo.RepositoryWriter, name string, content T, modified fs.UTCTimestamp) (*kopia.DirEntry, error) {
	data, err := json.Marshal(content)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", name, err)
	}
	return writeFile(ctx, w, name, data, modified)
}

// save writes the directory and its manifest. Needed is an image that this
// one shares content with, and that must still be there. Nobody else may be
// writing in the session unless it is incomplete.
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
	if d.incomplete != "" {
		// Others go on writing, and a pack of theirs may fail while this waits for
		// it: the next flush begins with that pack, or is the end of the manifest.
		if err := w.Flush(withOneList(ctx)); err != nil {
			return "", fmt.Errorf("make the image durable: %w", err)
		}
	}
	if needed != "" {
		if err := r.stillThere(ctx, needed); err != nil {
			return "", err
		}
	}
	m := &kopia.Manifest{
		Source: d.source, Description: d.text, StartTime: start, EndTime: fs.UTCTimestampFromTime(time.Now()), Tags: d.tags,
		IncompleteReason: d.incomplete,
		RootEntry: &kopia.DirEntry{
			Name: "/", Type: kopia.EntryTypeDirectory, Permissions: configDirMode, ModTime: start, ObjectID: root, DirSummary: dir.Summary,
		},
	}
	m.Stats.TotalFileCount, m.Stats.TotalFileSize = int32(dir.Summary.TotalFileCount), d.size //nolint:gosec // a count for display
	if err := r.failed(); err != nil {
		return "", err
	}
	return r.enlist(ctx, w, d, m)
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
	return r.listed(ctx, id, kind)
}

// listed loads a manifest that was there at the last refresh.
func (r *Repository) listed(ctx context.Context, id snapshot.ImageID, kind string) (*kopia.Manifest, error) {
	if id == "" {
		return nil, fmt.Errorf("%s without an id: %w", kind, snapshot.ErrNotFound)
	}
	m := &kopia.Manifest{}
	var entry *manifest.EntryMetadata
	err := r.sure(ctx, func() (err error) {
		entry, err = r.rep.GetManifest(ctx, manifest.ID(id), m)
		return err
	})
	if errors.Is(err, manifest.ErrNotFound) {
		return nil, fmt.Errorf("%s %s: %w", kind, id, snapshot.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", kind, id, r.damage(err))
	}
	if entry.Labels[manifest.TypeLabelKey] != kopia.ManifestType || entry.Labels[kindTag] != kind || m.IncompleteReason != "" {
		return nil, fmt.Errorf("%s is no %s: %w", id, kind, snapshot.ErrNotFound)
	}
	m.ID = manifest.ID(id)
	return m, nil
}

// files reads the top directory of a manifest, by name.
func (r *Repository) files(ctx context.Context, m *kopia.Manifest) (map[string]*kopia.DirEntry, error) {
	data, err := r.readObject(ctx, m.RootObjectID())
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
	data, err := r.readObject(ctx, entry.ObjectID)
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
	if record, err = decodeRecord(data); err != nil {
		return record, nil, err
	}
	record.Image.ID = snapshot.ImageID(m.ID)
	return record, files, nil
}

func decodeRecord(data []byte) (imageRecord, error) {
	var record imageRecord
	if err := json.Unmarshal(data, &record); err != nil {
		return record, fmt.Errorf("%s: %w: %w", imageFile, snapshot.ErrCorrupt, err)
	}
	if record.Format != formatVersion {
		return record, fmt.Errorf("%s has format %d, and this one reads format %d: %w", imageFile, record.Format, formatVersion, errFormat)
	}
	return record, nil
}

// layout is not checked: who reads by it sees that it is valid.
func (r imageRecord) layout() layout {
	return layout{r.Image.Size, r.SegmentSize, r.Image.ChunkSize}
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

// Images lists the committed images of a volume, or of all, oldest first.
func (r *Repository) Images(ctx context.Context, v snapshot.Volume) ([]snapshot.Image, error) {
	var of *kopia.SourceInfo
	if v != (snapshot.Volume{}) {
		src, err := source(v)
		if err != nil {
			return nil, err
		}
		of = &src
	}
	found, err := r.list(ctx, of, map[string]string{kindTag: kindImage})
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

// list loads the complete manifests of a source by tags.
func (r *Repository) list(ctx context.Context, src *kopia.SourceInfo, tags map[string]string) ([]*kopia.Manifest, error) {
	if err := r.refresh(ctx); err != nil {
		return nil, err
	}
	found, err := r.manifests(ctx, src, tags)
	return slices.DeleteFunc(found, func(m *kopia.Manifest) bool { return m.IncompleteReason != "" }), err
}

// manifests loads those that were there at the last refresh. One that cannot
// be read fails all: leaving it out would say that it is not there.
func (r *Repository) manifests(ctx context.Context, src *kopia.SourceInfo, tags map[string]string) ([]*kopia.Manifest, error) {
	var ids []manifest.ID
	err := r.sure(ctx, func() (err error) {
		ids, err = kopia.ListSnapshotManifests(ctx, r.rep, src, tags)
		return err
	})
	if err != nil {
		return nil, r.damage(err)
	}
	found := make([]*kopia.Manifest, len(ids))
	for i, id := range ids {
		if found[i], err = kopia.LoadSnapshot(ctx, r.rep, id); err != nil {
			return nil, fmt.Errorf("manifest %s: %w", id, explain(r.location, err))
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
