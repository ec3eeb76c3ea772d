// Package snapshot is the engine: it moves one volume between a device (or a
// directory) and a repository, and back.
//
// Its words: a Volume is one claim of one cluster; an Image is one Volume at
// one moment, kept in a repository; a Source is read, a Sink is written; an
// Extent is a range of bytes; a Round is one run over an application, sealed
// by a RecoveryPoint.
//
// It never knows Kubernetes, kopia or the network: a Store is handed to it.
package snapshot

import (
	"context"
	"errors"
	"io"
	"time"
)

// Errors that callers decide by.
var (
	// ErrNotFound says that an image or a recovery point is not in the repository.
	ErrNotFound = errors.New("not in the repository")
	// ErrNoBase says that the base of a delta is gone: a full copy is the answer.
	ErrNoBase = errors.New("the base is gone")
	// ErrCorrupt says that bytes read are not the bytes that were written.
	ErrCorrupt = errors.New("content does not match its hash")
	// ErrDiffers says that a volume does not hold what the image holds.
	ErrDiffers = errors.New("the volume differs from the image")
	// ErrBudget says that a transfer alone takes more memory than all may take together.
	ErrBudget = errors.New("too little memory is allowed")
)

// Volume names one claim of one cluster, for good: images of the same Volume
// are rounds of one history.
type Volume struct {
	// Cluster is the id of the cluster that owns the claim.
	Cluster string `json:"cluster"`
	// Namespace and Name are those of the PersistentVolumeClaim.
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// String gives cluster/namespace/name.
func (v Volume) String() string { return v.Cluster + "/" + v.Namespace + "/" + v.Name }

// ImageID names an image in its repository. The empty ImageID is no image.
type ImageID string

// Kind tells how an image holds its volume.
type Kind string

const (
	// Block is a volume kept as one file of fixed chunks.
	Block Kind = "Block"
	// Tree is a volume kept as a tree of files.
	Tree Kind = "Tree"
)

// Method is the rung of the ladder that found what to read.
type Method string

const (
	// MethodDelta read only what changed since the base, by changed-block tracking.
	MethodDelta Method = "Delta"
	// MethodAllocated read what the storage or the file says is allocated.
	MethodAllocated Method = "Allocated"
	// MethodScan read every byte.
	MethodScan Method = "Scan"
	// MethodFiles walked a tree of files.
	MethodFiles Method = "Files"
)

// Image describes one volume at one moment.
type Image struct {
	ID     ImageID   `json:"id"`
	Volume Volume    `json:"volume"`
	Kind   Kind      `json:"kind"`
	Round  string    `json:"round"`
	Taken  time.Time `json:"taken"`
	// Size is the device's size in bytes for Block, the sum of file sizes for Tree.
	Size int64 `json:"size"`
	// Filesystem is what was found on the device (ext4, xfs, …), empty for none.
	Filesystem string `json:"filesystem,omitempty"`
	// Method is the rung that was used.
	Method Method `json:"method"`
	// Base is the image whose chunks were kept, if any.
	Base ImageID `json:"base,omitempty"`
	// ChunkSize is the length of a chunk in bytes; zero for Tree.
	ChunkSize int64 `json:"chunkSize,omitempty"`
}

// Extent is a range of bytes of a volume.
type Extent struct {
	Offset, Length int64
}

// Source is what Backup reads. ReadAt must be safe for concurrent use.
type Source interface {
	io.ReaderAt
	// Size is in bytes and constant.
	Size() int64
}

// Sink is what Restore and Apply write. WriteAt and Zero must be safe for
// concurrent use on ranges that do not overlap.
type Sink interface {
	io.WriterAt
	// ReadAt serves reconcile and read-back.
	io.ReaderAt
	// Zero makes the range read as zeros, by the cheapest means the device has.
	Zero(offset, length int64) error
	// Sync returns when all that was written is durable.
	Sync() error
	// Size is in bytes and constant.
	Size() int64
}

// Stats counts bytes exactly. Each field only grows during one transfer.
type Stats struct {
	// Total is what the transfer expects to go through; it may be refined.
	Total int64
	// Done is how much of Total is through.
	Done int64
	// Read was read from the volume (or, for a Sink, read back from it).
	Read int64
	// Changed differs from the base; without one, from zeros.
	Changed int64
	// Uploaded left for the repository, after compression.
	Uploaded int64
	// Fetched came from the repository, as stored.
	Fetched int64
	// Written went to the Sink; zeroed ranges are not counted.
	Written int64
	// Files counts the files of a Tree.
	Files int64
}

// Progress is told how far a transfer is, at most a few times a second, from
// one goroutine at a time. It must not block.
type Progress func(Stats)

// Opener opens repositories; kopiastore implements it.
type Opener interface {
	// Open connects to the repository at r. With create it is made first where
	// there is none. The caller closes the Repository.
	Open(ctx context.Context, r Location, create bool) (Repository, error)
	// Probe connects, writes, reads and deletes a small object beside the
	// repository, and returns what is wrong in words that an operator can use.
	// Where only writing is refused, that is no error: see StoreTraits.ReadOnly.
	Probe(ctx context.Context, r Location) (StoreTraits, error)
}

// Passwords replaces the password of a repository. Each step may be done again, and
// whoever knows either password opens the repository from the first to the last:
// a process that is killed in between goes on where it was. What is open stays open.
//
// The password opens the repository's keys, and they stay as they are: whoever read
// them by the old password still has them.
type Passwords interface {
	// AdmitPassword lets next open the repository at l beside l's own password.
	AdmitPassword(ctx context.Context, l Location, next Secret) error
	// SettlePassword makes l's password, which was admitted, the repository's own.
	SettlePassword(ctx context.Context, l Location) error
	// EndFormerPassword leaves l's password, which was settled, the only one.
	EndFormerPassword(ctx context.Context, l Location) error
}

// StoreTraits is what a probe found out about a store.
type StoreTraits struct {
	// ReadOnly is true where the keys may read and not write, which is enough on
	// the side that only restores.
	ReadOnly bool
	// Versioning keeps what is deleted or written over; ObjectLock can keep
	// objects from being deleted at all.
	Versioning, ObjectLock Trait
}

// Trait is whether a store does something.
type Trait string

// The answers. A store that does not tell, or a kind that has no such thing, is
// TraitUnknown.
const (
	TraitUnknown Trait = ""
	TraitOn      Trait = "On"
	TraitOff     Trait = "Off"
)

// Repository is an open repository.
type Repository interface {
	Store
	Trees
	Rounds
	Epochs
	// Close flushes nothing: what was not committed is lost.
	Close(ctx context.Context) error
}

// Store keeps Block images. See Backup and Apply for its use.
type Store interface {
	// Begin starts a new image; parent may be empty. ErrNoBase if it is gone.
	Begin(ctx context.Context, image Image, parent ImageID) (Writer, error)
	// Open opens a committed Block image. ErrNotFound if it is not there.
	Open(ctx context.Context, id ImageID) (Reader, error)
	// Image describes a committed image of either kind. ErrNotFound if it is not there.
	Image(ctx context.Context, id ImageID) (Image, error)
	// Images lists the committed images of v, or of all volumes where v is
	// empty, oldest first.
	Images(ctx context.Context, v Volume) ([]Image, error)
	// Forget removes the image from the list; space returns by maintenance.
	Forget(ctx context.Context, id ImageID) error
}

// Trees keeps Tree images through the uploader of the repository itself, with
// what it does not keep (hard links, extended attributes, special files) beside.
type Trees interface {
	// BackupTree stores the tree under dir, which nobody should write meanwhile.
	BackupTree(ctx context.Context, dir string, image Image, parent ImageID, progress Progress) (Image, error)
	// RestoreTree makes dir hold exactly the tree of the image, and nothing else
	// but a lost+found that was there. Of files that dir has, only what differs is
	// fetched and written: Read in its Stats is what was read of dir to tell.
	RestoreTree(ctx context.Context, id ImageID, dir string, progress Progress) (Stats, error)
	// VerifyTree reads files under dir again and compares them with the image: each
	// with that chance, up to 1, and always the first. ErrDiffers names the file and
	// the offset of the first difference. Read in its Stats is what was read of dir.
	VerifyTree(ctx context.Context, id ImageID, dir string, share float64, progress Progress) (Stats, error)
	// CompareTree says in words where dir holds something else than the image; empty for
	// nowhere. Owners, modes and times do not count, nor does a lost+found.
	CompareTree(ctx context.Context, id ImageID, dir string, progress Progress) (differs string, stats Stats, err error)
}

// Rounds keeps recovery points.
type Rounds interface {
	// Seal stores p and returns once it is durable. Its images must be committed.
	Seal(ctx context.Context, p SealedRound) error
	// Sealed returns the round of that name. ErrNotFound if it is not there.
	Sealed(ctx context.Context, app, round string) (SealedRound, error)
	// Recoverable lists the rounds of an application, newest first, without objects;
	// those of all applications where app is empty.
	Recoverable(ctx context.Context, app string) ([]SealedRound, error)
	// ForgetRound removes from the list the round that p names by App, Round and
	// Cluster; its images stay. One that is not there is forgotten.
	ForgetRound(ctx context.Context, p RecoveryPoint) error
}
