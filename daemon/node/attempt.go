package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/log"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/snapshot"
)

// attempt is one way from a volume to its image, or back.
type attempt struct {
	*runner
	transfer   *api.VolumeTransfer
	repository snapshot.Repository
	volumes    published
	progress   snapshot.Progress
	// missed is the reason why a better method was not possible; empty where none
	// was to be expected.
	missed string
}

func (a *attempt) uploadBlocks(ctx context.Context) (_ result, err error) {
	image, done, err := a.begin(ctx, snapshot.Block)
	if err != nil || done != nil {
		return done.orEmpty(), err
	}
	path, err := a.volumes.device(a.transfer.Spec.Mount)
	if err != nil {
		return result{}, err
	}
	source, err := a.cfg.Devices.OpenSource(path)
	if err != nil {
		return result{}, err
	}
	defer func() { joinClose(&err, path, source.Close()) }()
	if image.Filesystem, err = a.cfg.Devices.Filesystem(source); err != nil {
		return result{}, fmt.Errorf("look for a filesystem on %s: %w", path, err)
	}
	var committed snapshot.Image
	var stats snapshot.Stats
	l := &ladder{attempt: a, source: source}
	err = l.climb(ctx, func(ctx context.Context, r rung) (err error) {
		// The snapshot of one round and time is one moment: a killed attempt is gone on with.
		request := snapshot.BackupRequest{Source: source, Image: image, Moment: image.Taken.String(), Extents: r.extents, Limiter: a.cfg.Limiters.Volumes, Budget: a.cfg.Budget, Progress: a.progress}
		request.Image.Method = r.method
		if r.method == snapshot.MethodDelta {
			request.Parent = r.parent
			committed, stats, err = snapshot.Backup(ctx, request, a.repository)
			return err
		}
		committed, err = a.withParent(ctx, snapshot.Block, func(parent snapshot.ImageID) (image snapshot.Image, err error) {
			request.Parent = parent
			image, stats, err = snapshot.Backup(ctx, request, a.repository)
			return image, err
		})
		return err
	})
	if err != nil {
		return result{}, err
	}
	return a.uploaded(committed, stats), nil
}

func (a *attempt) uploadTree(ctx context.Context) (_ result, err error) {
	image, done, err := a.begin(ctx, snapshot.Tree)
	if err != nil || done != nil {
		return done.orEmpty(), err
	}
	path, root, err := a.volumes.directory(a.transfer.Spec.Mount)
	if err != nil {
		return result{}, err
	}
	defer func() { joinClose(&err, path, root.Close()) }()
	image.Method = snapshot.MethodFiles
	a.note(ctx, image.Method, "the volume is read as files, which are compared with the last image's by size and times", "")
	var stats latest
	committed, err := a.withParent(ctx, snapshot.Tree, func(parent snapshot.ImageID) (snapshot.Image, error) {
		return a.repository.BackupTree(ctx, path, image, parent, func(s snapshot.Stats) {
			stats.tell(s)
			a.progress(s)
		})
	})
	if err != nil {
		return result{}, err
	}
	return a.uploaded(committed, stats.get()), nil
}

func (a *attempt) applyBlocks(ctx context.Context) (_ result, err error) {
	image, err := a.wanted(ctx, snapshot.Block)
	if err != nil {
		return result{}, err
	}
	path, err := a.volumes.device(a.transfer.Spec.Mount)
	if err != nil {
		return result{}, err
	}
	sink, err := a.cfg.Devices.OpenSink(path)
	if err != nil {
		return result{}, err
	}
	defer func() { joinClose(&err, path, sink.Close()) }()
	if sink.Size() < image.Size {
		// Opened a moment too early, a device may still have no size.
		if sink.Size() == 0 {
			return result{}, fmt.Errorf("%w: %s has no size", errUnpublished, path)
		}
		return result{}, final("the volume has %d bytes and the image %s has %d: make its claim larger", sink.Size(), image.ID, image.Size)
	}
	if a.transfer.Spec.Reconcile {
		stats, err := snapshot.Reconcile(ctx, snapshot.ReconcileRequest{
			Sink: sink, To: image.ID, Verify: snapshot.VerifyReadBack, Limiter: a.cfg.Limiters.Volumes, Budget: a.cfg.Budget, Progress: a.progress,
		}, a.repository)
		if err != nil {
			return result{}, err
		}
		return resultOf(image, stats), nil
	}
	request := snapshot.ApplyRequest{
		Sink: sink, To: image.ID, From: snapshot.ImageID(a.transfer.Spec.From),
		Verify: verifyMode(a.transfer.Spec.Verify), Limiter: a.cfg.Limiters.Volumes, Budget: a.cfg.Budget, Progress: a.progress,
	}
	if err := a.remember(ctx, &request); err != nil {
		return result{}, err
	}
	stats, err := snapshot.Apply(ctx, request, a.repository)
	if errors.Is(err, snapshot.ErrNoBase) {
		a.baseGone(ctx, request.From)
		request.From = ""
		stats, err = snapshot.Apply(ctx, request, a.repository)
	}
	if err != nil {
		return result{}, err
	}
	return resultOf(image, stats), nil
}

// remember lets an Apply that is cut short go on where it was, as long as this
// node's cache lasts. Nothing but time depends on it.
func (a *attempt) remember(ctx context.Context, r *snapshot.ApplyRequest) error {
	if a.cfg.CacheDir == "" {
		return nil
	}
	dir := filepath.Join(a.cfg.CacheDir, "journals")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make a folder for journals: %w", err)
	}
	volume := a.transfer.Spec.Mount.PersistentVolume
	r.Journal, r.SinkID = snapshot.JournalFile(filepath.Join(dir, volume)), volume
	r.Notice = func(text string) {
		log.FromContext(ctx).Info("the journal was not trusted", "transfer", a.transfer.Name, "because", text)
		a.event(a.transfer, corev1.EventTypeNormal, "JournalNotTrusted", text)
	}
	return nil
}

func (a *attempt) applyTree(ctx context.Context) (_ result, err error) {
	image, err := a.wanted(ctx, snapshot.Tree)
	if err != nil {
		return result{}, err
	}
	path, root, err := a.volumes.directory(a.transfer.Spec.Mount)
	if err != nil {
		return result{}, err
	}
	defer func() { joinClose(&err, path, root.Close()) }()
	stats, err := a.repository.RestoreTree(ctx, image.ID, path, a.progress)
	if err != nil {
		return result{}, err
	}
	if err := a.verifyTree(ctx, image.ID, path, &stats); err != nil {
		return result{}, err
	}
	return resultOf(image, stats), nil
}

// begin describes the image to make. Where an earlier attempt committed it and
// could not say so, that one is the result.
func (a *attempt) begin(ctx context.Context, kind snapshot.Kind) (snapshot.Image, *result, error) {
	spec := a.transfer.Spec
	image := snapshot.Image{Volume: volumeOf(spec.Volume), Kind: kind, Round: spec.Round, Taken: a.now().UTC()}
	if spec.Taken != nil {
		image.Taken = spec.Taken.UTC()
	}
	images, err := a.repository.Images(ctx, image.Volume)
	if err != nil {
		return image, nil, fmt.Errorf("list the images of %s: %w", image.Volume, err)
	}
	for _, made := range images {
		sameMoment := spec.Taken == nil || made.Taken.Equal(image.Taken)
		if made.Kind == kind && made.Round == spec.Round && sameMoment {
			log.FromContext(ctx).Info("an earlier attempt has committed the image", "transfer", a.transfer.Name, "image", made.ID)
			r := resultOf(made, snapshot.Stats{Total: made.Size, Done: made.Size})
			return image, &r, nil
		}
	}
	return image, nil, nil
}

// withParent calls upload with the image to compare with, and again with none
// where that is gone: a full copy is always right.
func (a *attempt) withParent(ctx context.Context, kind snapshot.Kind, upload func(snapshot.ImageID) (snapshot.Image, error)) (snapshot.Image, error) {
	parent := snapshot.ImageID(a.transfer.Spec.From)
	if parent == "" {
		images, err := a.repository.Images(ctx, volumeOf(a.transfer.Spec.Volume))
		if err != nil {
			return snapshot.Image{}, fmt.Errorf("list the images of %s: %w", volumeOf(a.transfer.Spec.Volume), err)
		}
		for _, image := range slices.Backward(images) {
			if image.Kind == kind {
				parent = image.ID
				break
			}
		}
	}
	image, err := upload(parent)
	if parent != "" && errors.Is(err, snapshot.ErrNoBase) {
		a.baseGone(ctx, parent)
		image, err = upload("")
	}
	return image, err
}

// wanted finds the image to apply and checks that it fits the volume's mode.
func (a *attempt) wanted(ctx context.Context, kind snapshot.Kind) (snapshot.Image, error) {
	spec := a.transfer.Spec
	if spec.Image == "" {
		return snapshot.Image{}, final("the transfer names no image to apply: make another transfer")
	}
	image, err := a.repository.Image(ctx, snapshot.ImageID(spec.Image))
	if err != nil {
		return image, fmt.Errorf("find image %s: %w", spec.Image, err)
	}
	if image.Volume != volumeOf(spec.Volume) {
		return image, final("image %s is of volume %s, and %s was asked for", image.ID, image.Volume, volumeOf(spec.Volume))
	}
	if image.Kind != kind {
		return image, final("image %s is a %s image and cannot be applied to a volume in mode %s", image.ID, image.Kind, spec.Mount.Mode)
	}
	return image, nil
}

// baseGone says that less was to be expected: a copy never becomes a full one
// in silence.
func (a *attempt) baseGone(ctx context.Context, base snapshot.ImageID) {
	log.FromContext(ctx).Info("the base is gone: all is copied", "transfer", a.transfer.Name, "base", base)
	a.event(a.transfer, corev1.EventTypeWarning, "BaseGone", fmt.Sprintf("image %s is not in the repository any more: all of the volume is copied", base))
}

func volumeOf(v api.TransferVolume) snapshot.Volume {
	return snapshot.Volume{Cluster: v.Cluster, Namespace: v.Namespace, Name: v.Name}
}

func resultOf(image snapshot.Image, stats snapshot.Stats) result {
	return result{image: image.ID, filesystem: image.Filesystem, size: image.Size, method: image.Method, stats: stats}
}

// uploaded is the result of a run that read its volume.
func (a *attempt) uploaded(image snapshot.Image, stats snapshot.Stats) result {
	r := resultOf(image, stats)
	r.missed = a.missed
	return r
}

// orEmpty lets a missing result stand beside an error.
func (r *result) orEmpty() result {
	if r == nil {
		return result{}
	}
	return *r
}
