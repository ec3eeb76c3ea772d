package cli

import (
	"encoding/json"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

func TestSecretsAreNotShown(t *testing.T) {
	applied := metav1.ObjectMeta{Name: "x", Annotations: map[string]string{
		"kubectl.kubernetes.io/last-applied-configuration": `{"spec": "s3cr3t"}`, "team": "web",
	}}
	pair := &api.ClusterPair{ObjectMeta: applied}
	pair.Spec.Options = map[string]string{api.OptionToken: "s3cr3t", api.OptionIP: "10.0.0.1"}
	location := &api.BackupLocation{ObjectMeta: *applied.DeepCopy()}
	location.Location.S3Config = &api.S3Config{AccessKeyID: "key", SecretAccessKey: "s3cr3t"}
	for _, obj := range []client.Object{pair, location} {
		if err := prepare(obj); err != nil {
			t.Fatal(err)
		}
		shown, err := json.Marshal(obj)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(shown), "s3cr3t") || !strings.Contains(string(shown), "[redacted]") || !strings.Contains(string(shown), "web") {
			t.Errorf("%T: %s", obj, shown)
		}
	}
}
