package controller

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/godwit-io/godwit/daemon/migrate"
)

// ruleFor says what becomes of a claim.
func (x *run) ruleFor(pvc *corev1.PersistentVolumeClaim) migrate.VolumeRule {
	rules := make([]migrate.VolumeRule, 0, len(x.m.Spec.Volumes))
	for _, v := range x.m.Spec.Volumes {
		r := migrate.VolumeRule{
			Name: v.Name, Labels: v.Labels, Class: v.StorageClass,
			Action: migrate.VolumeAction(v.Action), Method: migrate.Method(v.Method), TargetClass: v.TargetStorageClass,
		}
		if v.Size != nil {
			r.SizeBytes = v.Size.Value()
		}
		for _, mode := range v.AccessModes {
			r.AccessModes = append(r.AccessModes, string(mode))
		}
		rules = append(rules, r)
	}
	rule := migrate.RuleFor(rules, factsOf(pvc))
	if rule.Method == "" {
		rule.Method = migrate.Method(x.m.Spec.Method)
	}
	return rule
}

func factsOf(pvc *corev1.PersistentVolumeClaim) migrate.ClaimFacts {
	size := pvc.Status.Capacity[corev1.ResourceStorage]
	f := migrate.ClaimFacts{Namespace: pvc.Namespace, Name: pvc.Name, Labels: pvc.Labels, SizeBytes: size.Value()}
	if pvc.Spec.StorageClassName != nil {
		f.Class = *pvc.Spec.StorageClassName
	}
	return f
}

// adapt gives a claim on the target what its rule asks for.
func (x *run) adapt(c *migrate.Claim, pvc *corev1.PersistentVolumeClaim) {
	rule := x.ruleFor(pvc)
	if rule.TargetClass != "" {
		c.StorageClass = rule.TargetClass
	}
	c.SizeBytes = max(c.SizeBytes, rule.SizeBytes)
	if len(rule.AccessModes) > 0 {
		c.AccessModes = rule.AccessModes
	}
}

// observeSizes says by what a Migration is larger than its limits allow.
func (x *run) observeSizes(ctx context.Context) error {
	s := migrate.Sizes{Namespaces: len(x.m.Status.Namespaces), Volumes: len(x.claims)}
	most := migrate.Sizes{Namespaces: migrate.DefaultMostNamespaces, Pods: migrate.DefaultMostPods, Volumes: migrate.DefaultMostVolumes}
	if l := x.m.Spec.Limits; l != nil {
		for of, set := range map[*int]*int32{&most.Namespaces: l.Namespaces, &most.Pods: l.Pods, &most.Volumes: l.Volumes} {
			if set != nil {
				*of = int(*set)
			}
		}
	}
	for _, namespace := range x.m.Status.Namespaces {
		// Their names alone: there may be many.
		var pods metav1.PartialObjectMetadataList
		pods.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
		if err := x.Live.List(ctx, &pods, client.InNamespace(namespace), client.MatchingLabels(x.m.Spec.Selectors)); err != nil {
			return fmt.Errorf("count the pods of namespace %s: %w", namespace, err)
		}
		s.Pods += len(pods.Items)
	}
	x.observed.TooLarge, x.warnings = s.Exceeds(most)
	return nil
}
