package kopiastore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/format"

	"github.com/godwit-io/godwit/snapshot"
)

// passwordBlob holds, for as long as a password is replaced, what kopia keeps of
// the repository by the old password and by the new one. Kopia has two files that
// are encrypted by the password and writes one after the other: between the two
// neither password opens the repository, and stock kopia that is killed there
// leaves it so. With both pairs beside them each password opens it at any moment.
// Stock kopia takes no notice of a blob of this name.
const passwordBlob blob.ID = "godwit-password"

// errHalfway says that kopia's two files are of different passwords.
var errHalfway = errors.New("the repository's password is just being replaced by another: read the Secret again")

// formatFiles are kopia's two files, by one password.
type formatFiles struct {
	Repository []byte `json:"repository"`
	// BlobConfig is nil where there is none.
	BlobConfig []byte `json:"blobConfig,omitempty"`
}

func (f formatFiles) same(g formatFiles) bool {
	return bytes.Equal(f.Repository, g.Repository) && bytes.Equal(f.BlobConfig, g.BlobConfig)
}

// part is one of the files.
func (f *formatFiles) part(id blob.ID) *[]byte {
	switch id {
	case format.KopiaRepositoryBlobID:
		return &f.Repository
	case format.KopiaBlobCfgBlobID:
		return &f.BlobConfig
	}
	return nil
}

// formatMemory lets kopia open and write its two files without a store.
type formatMemory struct {
	blob.Storage
	files *formatFiles
}

// GetBlob reads.
func (m formatMemory) GetBlob(_ context.Context, id blob.ID, _, _ int64, out blob.OutputBuffer) error {
	part := m.files.part(id)
	if part == nil || *part == nil {
		return blob.ErrBlobNotFound
	}
	out.Reset()
	_, err := out.Write(*part)
	return err
}

// PutBlob writes.
func (m formatMemory) PutBlob(_ context.Context, id blob.ID, data blob.Bytes, _ blob.PutOptions) error {
	part := m.files.part(id)
	if part == nil {
		return fmt.Errorf("%q is none of kopia's two files", id)
	}
	var written bytes.Buffer
	_, err := data.WriteTo(&written)
	*part = written.Bytes()
	return err
}

// openBy opens the files by a password, in memory.
func (f formatFiles) openBy(ctx context.Context, password snapshot.Secret) (*format.Manager, error) {
	if len(f.Repository) == 0 {
		return nil, errNoRepository
	}
	return format.NewManagerWithCache(ctx, formatMemory{files: &f}, 0, password.Reveal(), time.Now, format.NewMemoryBlobCache(time.Now))
}

// changed gives the files by another password.
func (f formatFiles) changed(ctx context.Context, from, to snapshot.Secret) (formatFiles, error) {
	out := formatFiles{Repository: bytes.Clone(f.Repository), BlobConfig: bytes.Clone(f.BlobConfig)}
	m, err := format.NewManagerWithCache(ctx, formatMemory{files: &out}, 0, from.Reveal(), time.Now, format.NewMemoryBlobCache(time.Now))
	if err != nil {
		return formatFiles{}, err
	}
	return out, m.ChangePassword(ctx, to.Reveal())
}

// otherPassword is true for the error of files that are by another password, or
// by two. Kopia has no value for the latter.
func otherPassword(err error) bool {
	return errors.Is(err, repo.ErrInvalidPassword) || halfway(err)
}

func halfway(err error) bool {
	return err != nil && (errors.Is(err, errHalfway) || strings.Contains(err.Error(), "decrypt repository blobcfg"))
}

// readFormat reads the files as they stand in a store.
func readFormat(ctx context.Context, st blob.Storage) (formatFiles, error) {
	var f formatFiles
	for _, id := range []blob.ID{format.KopiaRepositoryBlobID, format.KopiaBlobCfgBlobID} {
		var found buffer
		err := st.GetBlob(ctx, id, 0, -1, &found)
		if id == format.KopiaBlobCfgBlobID && errors.Is(err, blob.ErrBlobNotFound) {
			continue
		}
		if err != nil {
			return formatFiles{}, fmt.Errorf("read %s: %w", id, err)
		}
		*f.part(id) = bytes.Clone(found.Bytes())
	}
	return f, nil
}

// readAside reads the pairs that are kept while a password is replaced.
func readAside(ctx context.Context, st blob.Storage) ([]formatFiles, error) {
	var found buffer
	err := st.GetBlob(ctx, passwordBlob, 0, -1, &found)
	if errors.Is(err, blob.ErrBlobNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", passwordBlob, err)
	}
	var aside []formatFiles
	if err := json.Unmarshal(found.Bytes(), &aside); err != nil {
		return nil, fmt.Errorf("read %s: %w", passwordBlob, err)
	}
	return aside, nil
}

// opened finds the pair that a password opens.
func opened(ctx context.Context, password snapshot.Secret, pairs ...formatFiles) (formatFiles, *format.Manager) {
	for _, f := range pairs {
		if m, err := f.openBy(ctx, password); err == nil {
			return f, m
		}
	}
	return formatFiles{}, nil
}

// AdmitPassword is snapshot.Passwords'.
func (o *Opener) AdmitPassword(ctx context.Context, l snapshot.Location, next snapshot.Secret) error {
	return o.withFormat(ctx, l, func(st blob.Storage, stands formatFiles, aside []formatFiles) error {
		if next == "" || next == l.Password {
			return errors.New("the new password is empty, or the one that it has")
		}
		if _, by := opened(ctx, next, append(aside, stands)...); by != nil {
			return nil
		}
		// What stands goes first: what is aside may be of an earlier time.
		mine, by := opened(ctx, l.Password, append([]formatFiles{stands}, aside...)...)
		if by == nil {
			return repo.ErrInvalidPassword
		}
		made, err := mine.changed(ctx, l.Password, next)
		if err != nil {
			return fmt.Errorf("encrypt kopia's files by the new password: %w", err)
		}
		data, err := json.Marshal([]formatFiles{mine, made})
		if err != nil {
			return fmt.Errorf("write %s: %w", passwordBlob, err)
		}
		return put(ctx, st, by, passwordBlob, data)
	})
}

// SettlePassword is snapshot.Passwords'.
func (o *Opener) SettlePassword(ctx context.Context, l snapshot.Location) error {
	return o.withFormat(ctx, l, func(st blob.Storage, stands formatFiles, aside []formatFiles) error {
		if _, by := opened(ctx, l.Password, stands); by != nil {
			return nil
		}
		f, by := opened(ctx, l.Password, aside...)
		if by == nil {
			return fmt.Errorf("it was not admitted before: %w", repo.ErrInvalidPassword)
		}
		// In kopia's own order.
		for _, id := range []blob.ID{format.KopiaBlobCfgBlobID, format.KopiaRepositoryBlobID} {
			if err := put(ctx, st, by, id, *f.part(id)); err != nil {
				return err
			}
		}
		return nil
	})
}

// EndFormerPassword is snapshot.Passwords'.
func (o *Opener) EndFormerPassword(ctx context.Context, l snapshot.Location) error {
	return o.withFormat(ctx, l, func(st blob.Storage, stands formatFiles, _ []formatFiles) error {
		// Nothing is deleted that may be the only way in.
		if _, err := stands.openBy(ctx, l.Password); err != nil {
			return err
		}
		if err := st.DeleteBlob(ctx, passwordBlob); err != nil && !errors.Is(err, blob.ErrBlobNotFound) {
			return fmt.Errorf("delete %s: %w", passwordBlob, err)
		}
		return nil
	})
}

// put writes a file as kopia does, with the lock that the repository has.
func put(ctx context.Context, st blob.Storage, by *format.Manager, id blob.ID, data []byte) error {
	lock, err := by.BlobCfgBlob(ctx)
	if err != nil {
		return fmt.Errorf("read how blobs are locked: %w", err)
	}
	if err := st.PutBlob(ctx, id, smallBlob(data), blob.PutOptions{RetentionMode: lock.RetentionMode, RetentionPeriod: lock.RetentionPeriod}); err != nil {
		return fmt.Errorf("write %s: %w", id, err)
	}
	return nil
}

func (o *Opener) withFormat(ctx context.Context, l snapshot.Location, do func(blob.Storage, formatFiles, []formatFiles) error) error {
	l = normal(l)
	st, err := o.reached(ctx, l, false)
	if err != nil {
		return fmt.Errorf("replace the password of repository %s: %w", describe(l), err)
	}
	stands, err := readFormat(ctx, st)
	var aside []formatFiles
	if err == nil {
		aside, err = readAside(ctx, st)
	}
	if err == nil {
		err = do(st, stands, aside)
	}
	if err = errors.Join(explain(l, err), st.Close(ctx)); err != nil {
		return fmt.Errorf("replace the password of repository %s: %w", describe(l), err)
	}
	return nil
}
