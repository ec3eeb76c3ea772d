package kopiastore

import (
	"context"
	"errors"

	"github.com/godwit-io/godwit/snapshot"
)

var errNoTrees = errors.New("trees of files are not supported by this build")

// BackupTree is refused until it is built.
func (r *Repository) BackupTree(context.Context, string, snapshot.Image, snapshot.ImageID, snapshot.Progress) (snapshot.Image, error) {
	return snapshot.Image{}, errNoTrees
}

// RestoreTree is refused until it is built.
func (r *Repository) RestoreTree(context.Context, snapshot.ImageID, string, snapshot.Progress) (snapshot.Stats, error) {
	return snapshot.Stats{}, errNoTrees
}
