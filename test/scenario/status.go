package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// Expected is what a successful Migration's status has to say.
type Expected struct {
	// Methods are how the volumes were moved, by claim.
	Methods map[string]api.TransferMethod
	// Resources have to be told, Absent must not be, each as
	// "GROUP/KIND NAMESPACE/NAME".
	Resources, Absent []string
}

// CheckStatus holds the status of a Migration against what stork's users see in
// theirs, and tells all that differs.
func CheckStatus(m api.Migration, e Expected) error {
	s := m.Status
	if s.Stage != api.MigrationStageFinal || s.Status != api.MigrationStatusSuccessful || s.FinishTimestamp == nil {
		return fmt.Errorf("the Migration ended otherwise: %s; resources %+v", Describe(m), s.Resources)
	}
	problems := append(checkVolumes(s, e), checkResources(s, e)...)
	if s.Summary == nil || s.Summary.NumberOfMigratedVolumes != int64(len(e.Methods)) ||
		s.Summary.NumberOfMigratedResources != int64(len(s.Resources)) || s.Summary.TotalBytesMigrated == 0 {
		problems = append(problems, fmt.Errorf("summary %+v", s.Summary))
	}
	return errors.Join(problems...)
}

func checkVolumes(s api.MigrationStatus, e Expected) []error {
	var problems []error
	if len(s.Volumes) != len(e.Methods) {
		problems = append(problems, fmt.Errorf("%d volumes moved, want %d", len(s.Volumes), len(e.Methods)))
	}
	for _, v := range s.Volumes {
		if v.Status != api.MigrationStatusSuccessful || v.Reason != "Migration successful for volume" || !strings.HasPrefix(v.Volume, "pvc-") || v.BytesTotal == 0 {
			problems = append(problems, fmt.Errorf("volume %+v", v))
		}
		if v.Method != e.Methods[v.PersistentVolumeClaim] || v.MethodReason == "" {
			problems = append(problems, fmt.Errorf("claim %s moved by method %q (%s), want %q",
				v.PersistentVolumeClaim, v.Method, v.MethodReason, e.Methods[v.PersistentVolumeClaim]))
		}
	}
	return problems
}

func checkResources(s api.MigrationStatus, e Expected) []error {
	var problems []error
	var told []string
	for _, r := range s.Resources {
		told = append(told, fmt.Sprintf("%s/%s %s/%s", r.Group, r.Kind, r.Namespace, r.Name))
		if r.Status != api.MigrationStatusSuccessful || r.Reason != "Resource migrated successfully" {
			problems = append(problems, fmt.Errorf("resource %+v", r))
		}
		if r.Kind == "Pod" {
			problems = append(problems, fmt.Errorf("pod %s moved, and a controller makes it", r.Name))
		}
	}
	wanted := slices.Clone(e.Resources)
	for _, v := range s.Volumes {
		wanted = append(wanted, "core/PersistentVolume /"+v.Volume)
	}
	for _, want := range wanted {
		if !slices.Contains(told, want) {
			problems = append(problems, fmt.Errorf("%s is not among the resources: %v", want, told))
		}
	}
	for _, unwanted := range e.Absent {
		if slices.Contains(told, unwanted) {
			problems = append(problems, fmt.Errorf("%s moved, and should not have", unwanted))
		}
	}
	return problems
}

// AwaitEvents waits until the Migration has each of these events, as "REASON
// MESSAGE", beside those of its volumes.
func (g *Ground) AwaitEvents(ctx context.Context, m api.Migration, wanted ...string) error {
	for _, v := range m.Status.Volumes {
		wanted = append(wanted, "Successful Volume "+v.Volume+" migrated successfully",
			"Successful /v1, Kind=PersistentVolume /"+v.Volume+": Resource migrated successfully")
	}
	return Await(ctx, 20*time.Second, "the events of the Migration", func(ctx context.Context) (bool, string, error) {
		text, err := g.Source.events(ctx, m.Namespace, "involvedObject.name="+m.Name)
		for _, want := range wanted {
			if !strings.Contains(text, want) {
				return false, "without " + want + ": " + text, err
			}
		}
		return true, "", err
	})
}
