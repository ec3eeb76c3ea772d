package rpc

import (
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/pairing"
	godwitv1 "github.com/godwit-io/godwit/proto/godwit/v1"
)

// How an object fared, on the wire.
const (
	resourceOK     = "Successful"
	resourceFailed = "Failed"
	resourcePurged = "Purged"
)

func claimsTo(claims []migrate.Claim) []*godwitv1.VolumeClaim {
	var out []*godwitv1.VolumeClaim
	for _, c := range claims {
		out = append(out, &godwitv1.VolumeClaim{
			Namespace: c.Namespace, Name: c.Name, StorageClass: c.StorageClass, VolumeMode: c.VolumeMode,
			AccessModes: c.AccessModes, SizeBytes: c.SizeBytes, Volume: c.Volume, Moved: c.Moved,
		})
	}
	return out
}

func claimsFrom(claims []*godwitv1.VolumeClaim) []migrate.Claim {
	var out []migrate.Claim
	for _, c := range claims {
		out = append(out, migrate.Claim{
			Namespace: c.GetNamespace(), Name: c.GetName(), StorageClass: c.GetStorageClass(), VolumeMode: c.GetVolumeMode(),
			AccessModes: c.GetAccessModes(), SizeBytes: c.GetSizeBytes(), Volume: c.GetVolume(), Moved: c.GetMoved(),
		})
	}
	return out
}

func scheduleTo(s *migrate.Schedule) *godwitv1.Schedule {
	if s == nil {
		return nil
	}
	return &godwitv1.Schedule{Name: s.Name, Policy: s.Policy, AutoSuspend: s.AutoSuspend, Template: s.Template}
}

func scheduleFrom(s *godwitv1.Schedule) *migrate.Schedule {
	if s == nil {
		return nil
	}
	return &migrate.Schedule{Name: s.GetName(), Policy: s.GetPolicy(), AutoSuspend: s.GetAutoSuspend(), Template: s.GetTemplate()}
}

func statusTo(s migrate.TargetStatus) *godwitv1.StatusResponse {
	out := &godwitv1.StatusResponse{Phase: string(s.Phase), Message: s.Message}
	if !s.FirstReady.IsZero() {
		out.FirstReady = timestamppb.New(s.FirstReady)
	}
	for _, v := range s.Volumes {
		out.Volumes = append(out.Volumes, &godwitv1.VolumeStatus{
			Namespace: v.Namespace, Name: v.Name, Volume: v.Volume, Phase: v.Phase, Reason: v.Reason,
			BytesTotal: v.BytesTotal, BytesDone: v.BytesDone, BytesPerSecond: v.BytesPerSecond, SecondsLeft: v.ETASec,
			BytesWritten: v.BytesWritten,
		})
	}
	for _, r := range s.Retries {
		out.Retries = append(out.Retries, &godwitv1.Retry{
			Stage: r.Stage, Volume: r.Volume, Count: r.Count, Reason: r.Reason, First: timestamppb.New(r.First), Last: timestamppb.New(r.Last),
		})
	}
	for _, r := range s.Resources {
		told := resourceFailed
		switch {
		case r.Purged:
			told = resourcePurged
		case r.OK:
			told = resourceOK
		}
		out.Resources = append(out.Resources, &godwitv1.ResourceStatus{
			Group: r.Group, Version: r.Version, Kind: r.Kind, Namespace: r.Namespace, Name: r.Name,
			Status: told, Reason: r.Reason, TransformedBy: r.TransformedBy,
		})
	}
	return out
}

// statusFrom refuses a phase that it does not know: taking it for one of ours
// could end a Migration that is not done.
func statusFrom(s *godwitv1.StatusResponse) (migrate.TargetStatus, error) {
	out := migrate.TargetStatus{Phase: migrate.TargetPhase(s.GetPhase()), Message: s.GetMessage()}
	switch out.Phase {
	case migrate.TargetPending, migrate.TargetVolumes, migrate.TargetApplications, migrate.TargetReady, migrate.TargetFailed:
	default:
		return migrate.TargetStatus{}, fmt.Errorf("%w: phase %q is unknown here: run the same version of Godwit on both clusters",
			pairing.ErrAnswer, s.GetPhase())
	}
	if s.GetFirstReady() != nil {
		out.FirstReady = s.GetFirstReady().AsTime()
	}
	for _, v := range s.GetVolumes() {
		out.Volumes = append(out.Volumes, migrate.TargetVolume{
			Namespace: v.GetNamespace(), Name: v.GetName(), Volume: v.GetVolume(), Phase: v.GetPhase(), Reason: v.GetReason(),
			BytesTotal: v.GetBytesTotal(), BytesDone: v.GetBytesDone(),
			BytesPerSecond: v.GetBytesPerSecond(), ETASec: v.GetSecondsLeft(), BytesWritten: v.GetBytesWritten(),
		})
	}
	for _, r := range s.GetRetries() {
		if !r.GetFirst().IsValid() || !r.GetLast().IsValid() {
			continue // No status could hold it.
		}
		out.Retries = append(out.Retries, migrate.TargetRetry{
			Stage: r.GetStage(), Volume: r.GetVolume(), Count: r.GetCount(), Reason: r.GetReason(), First: r.GetFirst().AsTime(), Last: r.GetLast().AsTime(),
		})
	}
	for _, r := range s.GetResources() {
		out.Resources = append(out.Resources, migrate.TargetResource{
			Group: r.GetGroup(), Version: r.GetVersion(), Kind: r.GetKind(), Namespace: r.GetNamespace(), Name: r.GetName(),
			OK: r.GetStatus() == resourceOK || r.GetStatus() == resourcePurged, Purged: r.GetStatus() == resourcePurged,
			Reason: r.GetReason(), TransformedBy: r.GetTransformedBy(),
		})
	}
	return out, nil
}
