package sandbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/godwit-io/godwit/test/sandbox/internal/debian"
	"github.com/godwit-io/godwit/test/sandbox/internal/image"
	"github.com/godwit-io/godwit/test/sandbox/internal/program"
)

// Recipe is what an image is made from.
type Recipe struct {
	Name    string
	Config  image.Config
	Debs    []string // Debian packages, with all they depend on
	Without []string // packages to leave out all the same
	Copies  []Copy
	Users   []image.User
	Busybox bool // a shell and the usual commands, where packages bring none
}

// Copy is a file or folder of this machine and its place in the image.
type Copy struct{ From, To string }

// MakeImage writes the image's archive to out. The same recipe with the same content is made once;
// fresh makes it anew, with today's Debian packages.
func (s Sandbox) MakeImage(ctx context.Context, r Recipe, out string, fresh bool) error {
	if _, err := image.Normalize(r.Name); err != nil {
		return err
	}
	cache, err := program.CacheDir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(cache, "images"), 0o755); err != nil {
		return err
	}
	key, err := r.key()
	if err != nil {
		return err
	}
	archive := filepath.Join(cache, "images", key+".tar")
	if _, err := os.Stat(archive); err != nil || fresh {
		if err := s.cook(ctx, r, cache, archive); err != nil {
			return fmt.Errorf("make image %s: %w", r.Name, err)
		}
	}
	return place(archive, out)
}

func (s Sandbox) cook(ctx context.Context, r Recipe, cache, archive string) error {
	return s.makeImage(archive, r.Name, r.Config, func(l *image.Layer) error {
		if err := image.Basics(l, r.Users...); err != nil {
			return err
		}
		for _, c := range r.Copies {
			if err := l.Copy(c.From, c.To); err != nil {
				return err
			}
		}
		if len(r.Debs) > 0 {
			files, err := debian.Fetch(ctx, filepath.Join(cache, "debs"), r.Debs, r.Without, s.Progress)
			if err != nil {
				return err
			}
			for _, f := range files {
				if err := debian.Contents(ctx, f, l.Merge); err != nil {
					return err
				}
			}
		}
		if r.Busybox {
			if err := debian.EnsureBusybox(ctx, s.Progress); err != nil {
				return err
			}
			return image.Busybox(l, busybox)
		}
		return nil
	})
}

// key names the recipe and the content that it copies. Debian's packages go by name: an image does
// not change under a test because the mirror did.
func (r Recipe) key() (string, error) {
	h := sha256.New()
	b, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(h, "layout 1\n%s\n", b)
	for _, c := range r.Copies {
		if err := hashTree(h, c.From); err != nil {
			return "", fmt.Errorf("copy %s: %w", c.From, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:24], nil
}

func hashTree(h hash.Hash, root string) error {
	return filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Stat(p)
		if err != nil {
			return err
		}
		fmt.Fprintln(h, p, info.Mode(), info.Size())
		if !info.Mode().IsRegular() {
			return nil
		}
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // read only
		_, err = io.Copy(h, f)
		return err
	})
}

// place gives the archive its second name, or a copy on another filesystem.
func place(archive, out string) error {
	if err := os.Remove(out); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Link(archive, out); err == nil {
		return nil
	}
	in, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // read only
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, in)
	return errors.Join(err, f.Close())
}

// ParseCopy reads SRC=DST.
func ParseCopy(text string) (Copy, error) {
	from, to, ok := strings.Cut(text, "=")
	if !ok || from == "" || !strings.HasPrefix(to, "/") {
		return Copy{}, fmt.Errorf("copy %q: want SRC=/PATH/IN/IMAGE", text)
	}
	from, err := filepath.Abs(from)
	return Copy{From: from, To: to}, err
}

// ParseUser reads NAME=ID or NAME=ID:HOME.
func ParseUser(text string) (image.User, error) {
	var u image.User
	name, rest, ok := strings.Cut(text, "=")
	id, home, _ := strings.Cut(rest, ":")
	if _, err := fmt.Sscanf(id, "%d", &u.ID); err != nil || !ok || name == "" {
		return u, fmt.Errorf("user %q: want NAME=ID or NAME=ID:HOME", text)
	}
	u.Name, u.Home = name, home
	if home == "" {
		u.Home = "/"
	}
	return u, nil
}
