package controller

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

func TestSlowerMethodIsPassedOn(t *testing.T) {
	for name, c := range map[string]struct {
		status metav1.ConditionStatus
		reason string
		want   bool
	}{
		"the best":          {metav1.ConditionTrue, "Delta", false},
		"base lost":         {metav1.ConditionFalse, "BaseGone", true},
		"lied":              {metav1.ConditionFalse, "Lied", true},
		"no changed blocks": {metav1.ConditionFalse, "NotServed", false},
	} {
		recorder := events.NewFakeRecorder(10)
		x := &run{Migrations: &Migrations{Events: recorder}, m: &api.Migration{}}
		transfer := &api.VolumeTransfer{Status: api.VolumeTransferStatus{
			Method: "Scan", MethodReason: strings.Repeat("because ", 200),
			Conditions: []metav1.Condition{{Type: api.ConditionBestMethod, Status: c.status, Reason: c.reason}},
		}}
		x.tellMethod(api.MigrationVolumeInfo{Namespace: "cms", PersistentVolumeClaim: "data"}, transfer)
		got := ""
		select {
		case got = <-recorder.Events:
		default:
		}
		if (got != "") != c.want || len(got) > 1000 {
			t.Errorf("%s: event %q", name, got)
		}
		if c.want && !strings.Contains(got, "claim cms/data was read by method Scan ("+c.reason+"): because ") {
			t.Errorf("%s: event %q", name, got)
		}
	}
}
