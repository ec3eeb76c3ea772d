package table

import (
	"cmp"
	"fmt"
	"strconv"
	"time"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/quantity"
	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// ClusterPair is the layout of ClusterPairs.
func ClusterPair() Layout {
	return Layout{
		Columns: columns([]string{"Name", "Storage-Status", "Scheduler-Status", "Created"},
			[]string{"Remote", "Expires", "Message"}),
		Cells: cells(func(p *api.ClusterPair, _ time.Time) []any {
			_, message := ready(p.Status.Conditions, api.ConditionReady)
			return []any{
				p.Name, string(p.Status.StorageStatus), string(p.Status.SchedulerStatus), created(p),
				p.Status.RemoteClusterName, moment(p.Status.CertificateExpires), message,
			}
		}),
	}
}

// BackupLocation is the layout of BackupLocations. Keys are never shown.
func BackupLocation() Layout {
	return Layout{
		Columns: columns([]string{"Name", "Path", "Access-Key-ID", "Secret-Access-Key", "Region", "Endpoint", "SSL-Disabled"},
			[]string{"Ready", "Message"}),
		Cells: cells(func(b *api.BackupLocation, _ time.Time) []any {
			s3 := api.S3Config{}
			if b.Location.S3Config != nil {
				s3 = *b.Location.S3Config
			}
			status, message := ready(b.Status.Conditions, api.ConditionReady)
			return []any{
				b.Name, b.Location.Path,
				keptIn(s3.AccessKeyID, b.Location.SecretConfig), hidden(s3.SecretAccessKey, b.Location.SecretConfig),
				s3.Region, s3.Endpoint, strconv.FormatBool(s3.DisableSSL),
				status, message,
			}
		}),
	}
}

// keptIn is the value itself or, where the object has none, the Secret that has it.
func keptIn(value, secret string) string {
	if value == "" && secret != "" {
		return "secret/" + secret
	}
	return value
}

func hidden(value, secret string) string {
	if value != "" {
		return "********"
	}
	return keptIn(value, secret)
}

// Standby is the layout of Standbys.
func Standby() Layout {
	return Layout{
		Columns: columns([]string{"Name", "Application", "Round", "Lag", "Phase", "Activation", "Volumes", "Size", "Points", "Resources", "Created"},
			[]string{"Message"}),
		Cells: cells(func(s *api.Standby, now time.Time) []any {
			whole := 0
			for _, v := range s.Status.Volumes {
				if v.Image != "" {
					whole++
				}
			}
			applied := 0
			for _, r := range s.Status.Resources {
				if r.Status == api.MigrationStatusSuccessful {
					applied++
				}
			}
			return []any{
				s.Name, s.Spec.Application, s.Status.Round, since(s.Status.Taken, now), string(s.Status.Phase), activationOf(s),
				fmt.Sprintf("%d/%d", whole, len(s.Spec.Volumes)), quantity.Bytes(s.Status.SizeBytes), pointsOf(s),
				fmt.Sprintf("%d/%d", applied, len(s.Status.Resources)),
				created(s), cmp.Or(s.Status.Message, inTheWay(s)),
			}
		}),
	}
}

// activationOf tells whether the application runs by this standby, or could.
func activationOf(s *api.Standby) string {
	switch a := s.Status.Activatable; {
	case s.Spec.Activation != nil && s.Status.Activating && s.Status.Phase == api.StandbyReady:
		return "active"
	case s.Spec.Activation != nil:
		return "activating"
	case a == nil:
		return none
	case a.Ready:
		return "ready"
	}
	return "blocked"
}

// inTheWay says what keeps a standby from being activated.
func inTheWay(s *api.Standby) string {
	if a := s.Status.Activatable; a != nil && !a.Ready && s.Spec.Activation == nil {
		return a.Message
	}
	return ""
}

// TransferLimit is the layout of TransferLimits.
func TransferLimit() Layout {
	return Layout{
		Columns: columns([]string{"Name", "Store-Rate", "Store-Requests", "Volume-Rate", "Volume-Requests", "Windows", "Paused", "Created"}, []string{"Time-Zone"}),
		Cells: cells(func(l *api.TransferLimit, _ time.Time) []any {
			rate := func(r api.TransferRate) (bytes, requests string) {
				bytes, requests = none, none
				if r.BytesPerSecond != nil {
					bytes = r.BytesPerSecond.String() + "/s"
				}
				if r.RequestsPerSecond > 0 {
					requests = strconv.FormatInt(r.RequestsPerSecond, 10) + "/s"
				}
				return bytes, requests
			}
			storeBytes, storeRequests := rate(l.Spec.Store)
			volumeBytes, volumeRequests := rate(l.Spec.Volumes)
			return []any{
				l.Name, storeBytes, storeRequests, volumeBytes, volumeRequests, strconv.Itoa(len(l.Spec.Windows)),
				strconv.FormatBool(l.Spec.Store.Paused || l.Spec.Volumes.Paused), created(l),
				l.Spec.TimeZone,
			}
		}),
	}
}

// VolumeTransfer is the layout of VolumeTransfers.
func VolumeTransfer() Layout {
	return Layout{
		Columns: columns([]string{"Name", "Direction", "Volume", "Node", "Phase", "Done", "Total", "Rate", "Left", "Created"},
			[]string{"Method", "Round", "Attempts", "Message"}),
		Cells: cells(func(t *api.VolumeTransfer, _ time.Time) []any {
			rate, left := none, none
			if p := t.Status.Progress; t.Status.Phase == api.TransferRunning && p.BytesPerSecond > 0 {
				rate = quantity.Bytes(p.BytesPerSecond) + "/s"
				left = quantity.Duration(time.Duration(p.SecondsLeft) * time.Second)
			}
			return []any{
				t.Name, string(t.Spec.Direction), t.Spec.Volume.Namespace + "/" + t.Spec.Volume.Name, t.Spec.Node,
				string(t.Status.Phase), quantity.Bytes(t.Status.Progress.BytesDone), quantity.Bytes(t.Status.Progress.BytesTotal),
				rate, left, created(t),
				t.Status.Method, t.Spec.Round, strconv.Itoa(int(t.Status.Attempts)), t.Status.Message,
			}
		}),
	}
}
