package target

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"golang.org/x/sync/errgroup"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/target/admission"
	"github.com/godwit-io/godwit/daemon/workload"
)

// decisionsAtOnce bounds the questions to the API server about what may be brought.
const decisionsAtOnce = 8

const resourceApplied = "Resource migrated successfully"

// round is a sealed round, read for this cluster.
type round struct {
	instructions workload.Instructions
	transformed  workload.Transformed
}

// applyObjects writes the round's objects in waves. How to undo each write is
// kept before it is made. Where objects that stand here are in dispute, none is
// written.
func (x *run) applyObjects(ctx context.Context) error {
	x.s.Status.Phase = api.StandbyApplications
	r, err := x.readObjects(ctx)
	if err != nil {
		return err
	}
	admitted, infos, err := x.admitObjects(ctx, r.transformed)
	if err != nil {
		return err
	}
	if err := x.keepAddresses(ctx, admitted, r.instructions); err != nil {
		return err
	}
	x.s.Status.TakesBack = r.instructions.Forget
	o := x.applyOptions(r.instructions)
	if err := x.settleDisputes(ctx, admitted, o); err != nil {
		return err
	}
	j, err := x.openJournal(ctx)
	if err != nil {
		return err
	}
	told, err := x.applyWaves(ctx, admitted, o, j)
	if err != nil {
		return err
	}
	if err := x.tieOwners(ctx, admitted, told, o); err != nil {
		return err
	}
	infos = append(infos, outcomeInfos(told, admitted)...)
	if len(r.instructions.Purge) > 0 {
		purged, err := x.purge(ctx, r, o, j)
		if err != nil {
			return err
		}
		infos = append(infos, purged...)
	}
	all := append(x.volumeInfos(), infos...)
	x.s.Status.Resources = listed(all)
	message := fmt.Sprintf("%d objects", len(infos))
	if n := len(all) - len(x.s.Status.Resources); n > 0 {
		message += fmt.Sprintf("; %d of those that went well are not listed, since a status cannot hold them all", n)
	}
	x.mark(conditionApplied, "Applied", message)
	return nil
}

// mostListed keeps a status below what the API server takes.
const mostListed = 3000

// listed leaves out objects that went well where there are too many to tell of.
func listed(infos []api.MigrationResourceInfo) []api.MigrationResourceInfo {
	if len(infos) <= mostListed {
		return infos
	}
	well := func(i api.MigrationResourceInfo) bool { return i.Status == api.MigrationStatusSuccessful }
	out := slices.DeleteFunc(slices.Clone(infos), well)
	for _, info := range infos {
		if len(out) >= mostListed {
			break
		}
		if well(info) {
			out = append(out, info)
		}
	}
	return out[:min(len(out), mostListed)]
}

func (x *run) applyOptions(i workload.Instructions) workload.ApplyOptions {
	o := workload.ApplyOptions{FieldManager: managedBy, Owner: x.s.Spec.PairID, Conflicts: i.Conflicts, GiveUpAddresses: !i.SkipServiceUpdate}
	if x.adopts() {
		o.Conflicts = comesBack(o.Conflicts)
	}
	return o
}

// settleDisputes looks at all objects before the first is written.
func (x *run) settleDisputes(ctx context.Context, objects []workload.Moved, o workload.ApplyOptions) error {
	disputes, err := workload.Disputes(ctx, x.Objects, plainObjects(objects), o)
	if err != nil {
		return err
	}
	if len(disputes) > 0 {
		return fmt.Errorf("%w: %s", errRefused, joined(disputes))
	}
	return nil
}

// joined keeps a message that a status can hold.
func joined(errs []error) string {
	const limit = 20
	lines := make([]string, 0, limit)
	for i, err := range errs {
		if i == limit {
			lines = append(lines, fmt.Sprintf("and %d more", len(errs)-limit))
			break
		}
		lines = append(lines, err.Error())
	}
	return strings.Join(lines, "; ")
}

func plainObjects(moved []workload.Moved) []unstructured.Unstructured {
	return workload.Transformed{Objects: moved}.Plain()
}

// readObjects reads the round's objects and changes them for this cluster.
func (x *run) readObjects(ctx context.Context) (round, error) {
	point, data, err := x.sealedRound(ctx)
	if err != nil {
		return round{}, err
	}
	if err := x.findVoucher(ctx, point.Round); err != nil {
		return round{}, err
	}
	instructions, objects, err := workload.Unpack(data)
	if err != nil {
		return round{}, fmt.Errorf("%w: objects of round %s: %w", errRefused, point.Round, err)
	}
	instructions.StartApplications = x.starts()
	x.instructDrill(&instructions)
	volumes := map[types.NamespacedName]workload.ClaimVolume{}
	for i := range x.s.Status.Volumes {
		v := &x.s.Status.Volumes[i]
		if v.Leaving {
			continue
		}
		class, err := x.classOf(ctx, v.Volume)
		if err != nil {
			return round{}, err
		}
		wanted, err := x.claimOf(v)
		if err != nil {
			return round{}, err
		}
		volumes[types.NamespacedName{Namespace: into(v), Name: v.Name}] = workload.ClaimVolume{
			PersistentVolume: v.Volume, StorageClass: class, AccessModes: wanted.AccessModes,
		}
	}
	r := round{instructions: instructions}
	r.transformed, err = x.transform(ctx, transformation{
		application: x.s.Spec.Application, at: point.Sealed, instructions: instructions, objects: objects, volumes: volumes,
	})
	var wrong *wrongRules
	if errors.As(err, &wrong) {
		return r, fmt.Errorf("%w: objects of round %s: %w", errRefused, point.Round, err)
	}
	x.isolate(&r.transformed)
	return r, err
}

// admitObjects parts what the pair may bring from what it may not.
func (x *run) admitObjects(ctx context.Context, t workload.Transformed) ([]workload.Moved, []api.MigrationResourceInfo, error) {
	decisions := make([]admission.Decision, len(t.Objects))
	group, deciding := errgroup.WithContext(ctx)
	group.SetLimit(decisionsAtOnce)
	for i := range t.Objects {
		group.Go(func() error {
			d, err := x.judge(deciding, t.Objects[i], t.Objects)
			if err != nil {
				return fmt.Errorf("judge %s: %w", workload.RefOf(&t.Objects[i].Unstructured), err)
			}
			decisions[i] = d
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	var admitted []workload.Moved
	var infos []api.MigrationResourceInfo
	for i, moved := range t.Objects {
		info := infoOf(workload.RefOf(&moved.Unstructured), moved.By)
		switch d := decisions[i]; {
		case d.Refused != "":
			info.Status, info.Reason = api.MigrationStatusFailed, "refused: "+d.Refused
			infos = append(infos, info)
		case d.Leave:
			infos = append(infos, info)
		default:
			moved.Unstructured = d.Object
			admitted = append(admitted, moved)
		}
	}
	for _, s := range t.LeftOut {
		if s.Rule == workload.RuleUnserved {
			info := infoOf(s.Ref, nil)
			info.Status, info.Reason = api.MigrationStatusFailed, s.Reason
			infos = append(infos, info)
		}
	}
	return admitted, infos, nil
}

func infoOf(ref workload.Ref, by []string) api.MigrationResourceInfo {
	return api.MigrationResourceInfo{
		Group: ref.Group, Version: ref.Version, Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name,
		Status: api.MigrationStatusSuccessful, Reason: resourceApplied, TransformedBy: by,
	}
}

// outcomeInfos tells how each object fared. What cannot be mended by trying again
// is told and does not stop the others.
func outcomeInfos(outcomes []workload.Outcome, objects []workload.Moved) []api.MigrationResourceInfo {
	by := make(map[workload.Ref][]string, len(objects))
	for i := range objects {
		by[workload.RefOf(&objects[i].Unstructured)] = objects[i].By
	}
	infos := make([]api.MigrationResourceInfo, 0, len(outcomes))
	for _, o := range outcomes {
		info := infoOf(o.Ref, by[o.Ref])
		if o.Err != nil {
			info.Status, info.Reason = api.MigrationStatusFailed, o.Err.Error()
		}
		infos = append(infos, info)
	}
	return infos
}

func (x *run) classOf(ctx context.Context, volume string) (string, error) {
	var pv corev1.PersistentVolume
	if err := x.Client.Get(ctx, types.NamespacedName{Name: volume}, &pv); err != nil {
		return "", fmt.Errorf("read volume %s: %w", volume, err)
	}
	return pv.Spec.StorageClassName, nil
}

// volumeInfos lists the volumes that were made, as stork lists them.
func (x *run) volumeInfos() []api.MigrationResourceInfo {
	infos := make([]api.MigrationResourceInfo, 0, len(x.s.Status.Volumes))
	for _, v := range x.s.Status.Volumes {
		if v.Leaving {
			continue
		}
		infos = append(infos, api.MigrationResourceInfo{
			Version: "v1", Kind: "PersistentVolume", Name: v.Volume, Status: api.MigrationStatusSuccessful, Reason: resourceApplied,
		})
	}
	return infos
}

// purge deletes what an earlier run brought and this one does not.
func (x *run) purge(ctx context.Context, r round, o workload.ApplyOptions, j *journal) ([]api.MigrationResourceInfo, error) {
	namespace, name, _ := strings.Cut(x.s.Spec.Application, "/")
	options := workload.PurgeOptions{ApplyOptions: o, MigrationName: name, MigrationNamespace: namespace}
	for _, from := range r.instructions.Purge {
		to := from
		if mapped := r.instructions.Namespaces[from]; mapped != "" {
			to = mapped
		}
		if err := x.policy().CoverNamespace(to); err != nil {
			return nil, fmt.Errorf("%w: purge: %w", errRefused, err)
		}
		options.Namespaces = append(options.Namespaces, to)
	}
	var keep []workload.Ref
	for i := range r.transformed.Objects {
		keep = append(keep, workload.RefOf(&r.transformed.Objects[i].Unstructured))
	}
	for _, left := range r.transformed.LeftOut {
		keep = append(keep, left.Ref)
	}
	deleted, err := workload.Purge(ctx, x.Objects, keep, options, j)
	if err != nil {
		return nil, err
	}
	infos := make([]api.MigrationResourceInfo, 0, len(deleted))
	for _, d := range deleted {
		info := infoOf(d.Ref, nil)
		info.Status, info.Reason = api.MigrationStatusPurged, "Resource is no longer on the source"
		infos = append(infos, info)
	}
	return infos, nil
}
