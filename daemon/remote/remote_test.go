package remote

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func nfs(server, path string) corev1.PersistentVolumeSpec {
	var s corev1.PersistentVolumeSpec
	s.NFS = &corev1.NFSVolumeSource{Server: server, Path: path}
	return s
}

func csi(driver, handle string) corev1.PersistentVolumeSpec {
	var s corev1.PersistentVolumeSpec
	s.CSI = &corev1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: handle, VolumeAttributes: map[string]string{"share": "/a"}}
	return s
}

func on(key string, s corev1.PersistentVolumeSpec) corev1.PersistentVolumeSpec {
	s.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: corev1.NodeSelectorOpIn, Values: []string{"here"}}},
	}}}}
	return s
}

// TestPack keeps the name of the storage and nothing that is one cluster's own, and
// refuses what only one cluster can reach.
func TestPack(t *testing.T) {
	t.Parallel()
	full := on("topology.kubernetes.io/zone", csi("d", "h"))
	full.MountOptions = []string{"hard"}
	full.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1024Mi")}
	full.ClaimRef = &corev1.ObjectReference{Namespace: "shop", Name: "data", UID: "u"}
	full.PersistentVolumeReclaimPolicy, full.StorageClassName = corev1.PersistentVolumeReclaimDelete, "fast"
	data, err := Pack(full)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Unpack(data)
	if err != nil {
		t.Fatal(err)
	}
	if got.ClaimRef != nil || got.PersistentVolumeReclaimPolicy != "" || got.StorageClassName != "" {
		t.Errorf("what is the source's own came along: %+v", got)
	}
	if !Same(got, full) || got.MountOptions[0] != "hard" || got.NodeAffinity == nil || got.CSI.VolumeAttributes["share"] != "/a" {
		t.Errorf("it came as %+v", got)
	}
	var hostPath, local, both corev1.PersistentVolumeSpec
	hostPath.HostPath = &corev1.HostPathVolumeSource{Path: "/"}
	local.Local = &corev1.LocalVolumeSource{Path: "/"}
	both = nfs("s", "/p")
	both.HostPath = hostPath.HostPath
	for name, c := range map[string]struct {
		spec corev1.PersistentVolumeSpec
		says string
	}{
		"hostPath": {hostPath, "kind hostPath"}, "local": {local, "kind local"}, "two sources": {both, "kind unknown"},
		"none": {corev1.PersistentVolumeSpec{}, "kind unknown"}, "one node": {on(corev1.LabelHostname, csi("d", "h")), "node here alone"},
		"no handle": {csi("d", ""), "does not say where"}, "no path": {nfs("s", ""), "does not say where"},
	} {
		if _, err := Pack(c.spec); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestUnpack trusts nothing that comes over the wire.
func TestUnpack(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{
		"hostPath":         `{"hostPath":{"path":"/etc"}}`,
		"beside it":        `{"nfs":{"server":"s","path":"/p"},"hostPath":{"path":"/etc"}}`,
		"bound to another": `{"nfs":{"server":"s","path":"/p"},"claimRef":{"namespace":"shop","name":"data"}}`,
		"deletes":          `{"nfs":{"server":"s","path":"/p"},"persistentVolumeReclaimPolicy":"Delete"}`,
		"unknown":          `{"nfs":{"server":"s","path":"/p"},"novelty":1}`,
		"nothing":          `{}`, "garbage": `x`,
	} {
		if got, err := Unpack([]byte(data)); err == nil {
			t.Errorf("%s: taken as %+v", name, got)
		}
	}
	if _, err := Unpack([]byte(`{"nfs":{"server":"s","path":"/p"}}`)); err != nil {
		t.Error(err)
	}
}

func TestSame(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b corev1.PersistentVolumeSpec
		same bool
	}{
		{nfs("s", "/p"), nfs("s", "/p/"), true}, {nfs("s", "/p"), nfs("s", "/q"), false}, {nfs("s", "/p"), nfs("t", "/p"), false},
		{csi("d", "h"), csi("d", "h"), true}, {csi("d", "h"), csi("e", "h"), false}, {csi("d", "h"), nfs("d", "h"), false},
	} {
		if Same(c.a, c.b) != c.same {
			t.Errorf("%s and %s: %v", Name(c.a), Name(c.b), !c.same)
		}
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	s := csi("d", "h")
	s.CSI.NodePublishSecretRef = &corev1.SecretReference{Namespace: "n", Name: "a"}
	s.CSI.ControllerExpandSecretRef = &corev1.SecretReference{Namespace: "n", Name: "b"}
	if got := Secrets(s); len(got) != 2 || got[0].Name != "a" || got[1].Name != "b" {
		t.Errorf("%+v", got)
	}
	if len(Secrets(nfs("s", "/p"))) != 0 {
		t.Error("NFS needs none")
	}
}
