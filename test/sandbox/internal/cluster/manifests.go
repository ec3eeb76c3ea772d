package cluster

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/godwit-io/godwit/test/sandbox/internal/kubeapi"
	"sigs.k8s.io/yaml"
)

// object is one Kubernetes object and where it is applied.
type object struct {
	path string
	yaml []byte
}

// plurals are the kinds that a sandbox applies; all are without namespace.
func plurals() map[string]string {
	return map[string]string{
		"CustomResourceDefinition": "customresourcedefinitions",
		"CSIDriver":                "csidrivers",
		"StorageClass":             "storageclasses",
		"VolumeSnapshotClass":      "volumesnapshotclasses",
		"VolumeGroupSnapshotClass": "volumegroupsnapshotclasses",
		"SnapshotMetadataService":  "snapshotmetadataservices",
	}
}

func parseObject(text []byte) (object, error) {
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name string `json:"name"`
		} `json:"metadata"`
	}
	if err := yaml.Unmarshal(text, &head); err != nil {
		return object{}, err
	}
	plural, ok := plurals()[head.Kind]
	if !ok {
		return object{}, fmt.Errorf("kind %q is none that a sandbox applies", head.Kind)
	}
	return object{path: fmt.Sprintf("/apis/%s/%s/%s", head.APIVersion, plural, head.Metadata.Name), yaml: text}, nil
}

func parseObjects(text string) ([]object, error) {
	var all []object
	for _, doc := range strings.Split(text, "\n---\n") {
		o, err := parseObject([]byte(doc))
		if err != nil {
			return nil, fmt.Errorf("%w in:\n%s", err, doc)
		}
		all = append(all, o)
	}
	return all, nil
}

// crds reads every CustomResourceDefinition in the folders.
func (c Cluster) crds() ([]object, error) {
	var all []object
	for _, dir := range c.CRDs {
		files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			if filepath.Base(f) == "kustomization.yaml" {
				continue
			}
			b, err := os.ReadFile(f)
			if err != nil {
				return nil, err
			}
			o, err := parseObject(b)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f, err)
			}
			all = append(all, o)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no CustomResourceDefinition in %v", c.CRDs)
	}
	return all, nil
}

// classes are the storage objects of the cluster.
func (c Cluster) classes() ([]object, error) {
	ca, err := os.ReadFile(c.pki("ca.crt"))
	if err != nil {
		return nil, err
	}
	return parseObjects(fmt.Sprintf(`apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: %[1]s}
spec: {attachRequired: true, podInfoOnMount: true, volumeLifecycleModes: [Persistent], fsGroupPolicy: File, storageCapacity: false}
---
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: %[2]s}
spec: {attachRequired: false, podInfoOnMount: true, volumeLifecycleModes: [Persistent], fsGroupPolicy: File, storageCapacity: false}
---
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: %[6]s}
spec: {attachRequired: false, podInfoOnMount: true, volumeLifecycleModes: [Persistent], fsGroupPolicy: File, storageCapacity: false}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: csi-block, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: %[1]s
reclaimPolicy: Delete
volumeBindingMode: Immediate
allowVolumeExpansion: true
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: csi-block-wffc}
provisioner: %[1]s
reclaimPolicy: Delete
volumeBindingMode: WaitForFirstConsumer
allowVolumeExpansion: true
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: csi-files}
provisioner: %[2]s
reclaimPolicy: Delete
volumeBindingMode: Immediate
allowVolumeExpansion: true
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: csi-filer}
provisioner: %[6]s
reclaimPolicy: Delete
volumeBindingMode: Immediate
allowVolumeExpansion: true
---
apiVersion: snapshot.storage.k8s.io/v1
kind: VolumeSnapshotClass
metadata: {name: csi-block, annotations: {snapshot.storage.kubernetes.io/is-default-class: "true"}}
driver: %[1]s
deletionPolicy: Delete
---
apiVersion: groupsnapshot.storage.k8s.io/v1
kind: VolumeGroupSnapshotClass
metadata: {name: csi-block, annotations: {groupsnapshot.storage.kubernetes.io/is-default-class: "true"}}
driver: %[1]s
deletionPolicy: Delete
---
apiVersion: cbt.storage.k8s.io/v1beta1
kind: SnapshotMetadataService
metadata: {name: %[1]s}
spec: {audience: %[1]s, address: "%[3]s:%[4]d", caCert: %[5]s}
`, BlockDriver, FilesDriver, c.ip(0), c.ports().SnapshotMetadata, base64.StdEncoding.EncodeToString(ca), FilerDriver))
}

// apply applies the definitions, then what needs them, each as soon as its kind is served.
func (c Cluster) apply(ctx context.Context, api *kubeapi.Client) error {
	crds, err := c.crds()
	if err != nil {
		return err
	}
	classes, err := c.classes()
	if err != nil {
		return err
	}
	errs := make([]error, len(crds)+len(classes))
	var all sync.WaitGroup
	for i, o := range append(crds, classes...) {
		all.Go(func() { errs[i] = applyOne(ctx, api, o) })
	}
	all.Wait()
	return errors.Join(errs...)
}

func applyOne(ctx context.Context, api *kubeapi.Client, o object) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := api.Apply(ctx, o.path, o.yaml)
		if err == nil || errors.Is(err, kubeapi.ErrRefused) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
