package cli

import (
	"archive/tar"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// testMustGather puts secrets wherever they can be, and looks for each of them in
// the archive, as it is and as base64.
func (c *cluster) testMustGather(t *testing.T) {
	const password, key, token, shell = "hunter2-in-a-secret", "AKIA/in+a=location", "t0ken-of-a-pair-0123456789", "mysql -pin-a-command"
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "godwit-system", Name: "gathered"}}
	secret.Data = map[string][]byte{"repositoryPassword": []byte(password), "region": []byte("eu-somewhere-1")}
	location := &api.BackupLocation{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "gathered"}}
	location.Location.Type, location.Location.Path = "s3", "bucket"
	location.Location.S3Config = &api.S3Config{Endpoint: "http://s3", Region: "eu-somewhere-1", AccessKeyID: "whoever-it-is", SecretAccessKey: key}
	pair := &api.ClusterPair{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "gathered"}}
	pair.Annotations = map[string]string{"kubectl.kubernetes.io/last-applied-configuration": `{"spec":{"options":{"token":"` + token + `"}}}`}
	pair.Spec.Options = map[string]string{"ip": "192.0.2.1", "token": token}
	rule := &api.Rule{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "gathered"}}
	rule.Rules = []api.RuleItem{{PodSelector: map[string]string{"app": "a"}, Actions: []api.RuleAction{{Type: "command", Value: shell}}}}
	event := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "gathered"}, Reason: "Leaked", Message: "the store said " + key + " and " + password}
	event.InvolvedObject = corev1.ObjectReference{Kind: "ClusterPair", Namespace: "cms", Name: "gathered"}
	settings := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "godwit-system", Name: "gathered"}}
	settings.Data = map[string]string{"raw": "x" + password + "y", "coded": base64.StdEncoding.EncodeToString([]byte(token)), "kept": "eu-somewhere-1"}
	c.create(t, secret, location, pair, rule, event, settings)

	file := filepath.Join(t.TempDir(), "gathered.tar.gz")
	out := c.good(t, "must-gather -f "+file)
	if !strings.Contains(out, "wrote "+file) {
		t.Errorf("it says %q", out)
	}
	files := unpack(t, file)
	var all strings.Builder
	for name, text := range files {
		all.WriteString(name + "\n" + text)
	}
	for _, s := range []string{password, key, token, shell, "whoever-it-is"} {
		for _, form := range []string{s, base64.StdEncoding.EncodeToString([]byte(s))} {
			if strings.Contains(all.String(), form) {
				t.Errorf("the archive has the secret %q", form)
			}
		}
	}
	for name, want := range map[string]string{
		"objects/godwit.io_clusterpairs.yaml": "ip: 192.0.2.1", "objects/godwit.io_backuplocations.yaml": "eu-somewhere-1",
		"objects/godwit.io_rules.yaml": "app: a", "objects/secrets.txt": "godwit-system/gathered Opaque: region, repositoryPassword",
		"objects/configmaps.yaml": "kept: eu-somewhere-1", "events.txt": "ClusterPair cms/gathered Leaked: the store said [stripped] and [stripped]",
		"versions.txt": "Kubernetes v1.", "problems.txt": "",
	} {
		text, there := files["godwit-must-gather/source/"+name]
		if !there || !strings.Contains(text, want) {
			t.Errorf("%s (%t) does not say %q: %.300s", name, there, want, text)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the archive: %v, %v", info, err)
	}
	c.bad(t, "must-gather -f "+file, "name another file with --file")
}

func unpack(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := os.Open(filepath.Clean(file))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = string(text)
	}
}

// TestLinesOfAMigration picks what speaks of a Migration out of a log, in its time.
func TestLinesOfAMigration(t *testing.T) {
	t.Parallel()
	m := &api.Migration{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "move", UID: "1a2b3c4d-0000"}}
	m.Status.Round, m.Status.Application = "20260101T000000Z-1a2b3c4d", "cms/cms"
	text := `2026-01-01T00:00:02.5Z {"msg":"other","namespace":"cms","name":"another"}
2026-01-01T00:00:03Z {"msg":"by name","namespace":"cms","name":"move"}
2026-01-01T00:00:01.25Z {"msg":"transfer","VolumeTransfer":"godwit-1a2b3c4d-ff"}
2026-01-01T00:00:04Z {"msg":"standby","name":"cms-cms-0a0b0c0d"}
no time at all 20260101T000000Z-1a2b3c4d
2026-01-01T00:00:05Z {"msg":"round","round":"20260101T000000Z-1a2b3c4d"}
2026-01-01T00:00:06Z {"msg":"elsewhere","namespace":"shop","name":"move"}
`
	var got []string
	for _, l := range (containerLog{pod: "controller", text: []byte(text)}).lines("target", speaksOf(m)) {
		got = append(got, l.at.Format("05.00 ")+l.where+" "+l.text[8:15])
	}
	want := []string{"03.00 target controller by name", "01.25 target controller transfe", "04.00 target controller standby", "05.00 target controller round\","}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	at := metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 7, 0, time.UTC))
	m.Status.Hooks = []api.HookStatus{{Name: "warm", Cluster: api.HookTarget, Finished: &at, Log: "one\ntwo\n"}, {Name: "open"}}
	if lines := hookLines(m); len(lines) != 2 || lines[1].where != "target hook warm" || lines[1].text != "two" {
		t.Errorf("hooks: %+v", lines)
	}
}
