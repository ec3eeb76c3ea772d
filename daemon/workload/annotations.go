package workload

import (
	"strings"
)

// Annotations and labels on the objects that Godwit moves. The keys of stork are
// kept, since its users' tools and habits read them.
const (
	// AnnotationOwner names who keeps this object on the target.
	AnnotationOwner = "godwit.io/owner"
	// AnnotationSuspend keeps spec.suspend of a CronJob or Job while it is held.
	AnnotationSuspend = "godwit.io/suspend"
	// AnnotationMigrated marks, as annotation, every object that a migration wrote
	// and, as label, those that it holds at zero.
	AnnotationMigrated = "stork.libopenstorage.org/migrated"
	// AnnotationMigrationName is the Migration that wrote the object.
	AnnotationMigrationName = "stork.libopenstorage.org/migrationName"
	// AnnotationMigrationNamespace is that Migration's namespace.
	AnnotationMigrationNamespace = "stork.libopenstorage.org/migrationNamespace"
	// AnnotationMigrationTime is the time of the run, in UTC.
	AnnotationMigrationTime = "stork.libopenstorage.org/migrationTime"
	// Held is the node selector of a DaemonSet, and the scheduling gate of a Pod,
	// that keep them from running.
	Held = "godwit.io/held"
	// AnnotationHash is of what the source wanted of the object.
	AnnotationHash = "stork.libopenstorage.org/resource-hash"
	// AnnotationReplicas keeps spec.replicas while a workload is held at zero.
	AnnotationReplicas = "stork.libopenstorage.org/migrationReplicas"

	// labelRole is on what snapshot/csi makes to hold volumes for nodes.
	labelRole = "godwit.io/role"
	// annotationTransformation is on what a ResourceTransformation changed.
	annotationTransformation = "stork.libopenstorage.org/resourcetransformation-name"
	// annotationReplicasOld is how stork's own examples misspell it; it is read.
	annotationReplicasOld = "stork.openstorage.org/migrationReplicas"

	migrationTimeFormat = "2006-01-02-150405"
)

// asked tells whether the object carries a user's wish, in Godwit's or in stork's
// spelling.
func asked(annotations map[string]string, wish string) bool {
	for _, prefix := range []string{"godwit.io/", "stork.libopenstorage.org/"} {
		if annotations[prefix+wish] == "true" {
			return true
		}
	}
	return false
}

// SkipAsked tells whether the user asked for an object with these annotations to
// be left out.
func SkipAsked(annotations map[string]string) bool { return asked(annotations, "skip-resource") }

// residue tells whether a label or annotation only says what one cluster's
// controllers did, which would be a lie in another.
//
// kubectl.kubernetes.io/last-applied-configuration is no residue: without it the
// user's next `kubectl apply` on the target could not remove what their manifest
// no longer has.
func residue(key string) bool {
	switch key {
	case AnnotationOwner, AnnotationHash,
		"batch.kubernetes.io/job-tracking",
		"cni.projectcalico.org/containerID",
		"cni.projectcalico.org/podIP",
		"cni.projectcalico.org/podIPs",
		"control-plane.alpha.kubernetes.io/leader",
		"endpoints.kubernetes.io/last-change-trigger-time",
		"endpoints.kubernetes.io/over-capacity",
		"k8s.ovn.org/pod-networks",
		"k8s.v1.cni.cncf.io/network-status",
		"kubernetes.io/config.seen",
		"openshift.io/image.dockerRepositoryCheck",
		"service.alpha.openshift.io/serving-cert-generation-error", "service.alpha.openshift.io/serving-cert-generation-error-num",
		"service.alpha.openshift.io/serving-cert-signed-by",
		"service.beta.openshift.io/serving-cert-generation-error", "service.beta.openshift.io/serving-cert-generation-error-num",
		"service.beta.openshift.io/serving-cert-signed-by",
		"kubernetes.io/metadata.name",
		"kubernetes.io/service-account.uid",
		"volume.beta.kubernetes.io/storage-class",
		"volume.beta.kubernetes.io/storage-provisioner":
		return true
	}
	for _, prefix := range []string{
		"deployment.kubernetes.io/",
		"pv.kubernetes.io/",
		"volume.kubernetes.io/",
	} {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	// Rancher's keys name projects and users of one Rancher.
	domain, _, _ := strings.Cut(key, "/")
	return domain == "cattle.io" || strings.HasSuffix(domain, ".cattle.io")
}

// withoutResidue returns what is left, or nil when nothing is.
func withoutResidue(in map[string]string) map[string]string {
	out := make(map[string]string, len(in))
	for k, v := range in {
		if !residue(k) {
			out[k] = v
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
