package target

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
)

const (
	annotationDefaultClass = "storageclass.kubernetes.io/is-default-class"
	// mostNamed bounds how many claims one message names.
	mostNamed = 5
)

// alike are claims of which the same is to be said, in the order of the first of each.
type alike struct {
	order  []string
	claims map[string][]string
}

func (a *alike) add(what string, c migrate.Claim) {
	if a.claims == nil {
		a.claims = make(map[string][]string)
	}
	if a.claims[what] == nil {
		a.order = append(a.order, what)
	}
	a.claims[what] = append(a.claims[what], c.Namespace+"/"+c.Name)
}

// problems says each thing once, of all the claims that it is about.
func (a *alike) problems(reason string) []migrate.Problem {
	var out []migrate.Problem
	for _, what := range a.order {
		names, word, more := a.claims[what], "claims", ""
		if len(names) == 1 {
			word = "claim"
		}
		if n := len(names) - mostNamed; n > 0 {
			names, more = names[:mostNamed], fmt.Sprintf(" and %d more", n)
		}
		out = append(out, migrate.Problem{Reason: reason, Message: fmt.Sprintf("%s %s%s: %s", word, strings.Join(names, ", "), more, what)})
	}
	return out
}

// checkClasses finds the classes that are wanted and not here.
func (s *session) checkClasses(ctx context.Context, claims []migrate.Claim) ([]migrate.Problem, error) {
	var classes storagev1.StorageClassList
	if err := s.Client.List(ctx, &classes); err != nil {
		return nil, fmt.Errorf("list storage classes: %w", err)
	}
	names := make([]string, 0, len(classes.Items))
	for _, class := range classes.Items {
		names = append(names, class.Name)
	}
	var missing alike
	for _, c := range claims {
		// To a volume that is there, a class is only a name.
		if len(c.Moved) > 0 || slices.ContainsFunc(classes.Items, func(class storagev1.StorageClass) bool {
			return class.Name == c.StorageClass || c.StorageClass == "" && class.Annotations[annotationDefaultClass] == "true"
		}) {
			continue
		}
		wanted := "storage class " + c.StorageClass
		if c.StorageClass == "" {
			wanted = "a default storage class"
		}
		missing.add(fmt.Sprintf("%s is wanted, which the target does not have (it has: %s): create it there, or map it with spec.storageClassMapping", wanted, strings.Join(names, ", ")), c)
	}
	return missing.problems("StorageClassNotFound"), nil
}

// checkClaims finds the claims that are here already. Data in them is somebody's.
func (s *session) checkClaims(ctx context.Context, claims []migrate.Claim) ([]migrate.Problem, error) {
	var there alike
	var brought map[types.NamespacedName]string
	for _, c := range claims {
		key := types.NamespacedName{Namespace: c.Namespace, Name: c.Name}
		err := s.Live.Get(ctx, key, &corev1.PersistentVolumeClaim{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read claim %s: %w", key, err)
		}
		if brought == nil {
			if brought, err = s.brought(ctx); err != nil {
				return nil, err
			}
		}
		what := "on the target already, and the data would be lost: delete it there, or leave it out"
		if application := brought[key]; application != "" {
			what = fmt.Sprintf("on the target already, brought by Migration or MigrationSchedule %s: take that back first (\"godwitctl rollback migration\"), or delete what it brought", application)
		}
		there.add(what, c)
	}
	return there.problems("ClaimExists"), nil
}

// brought are the claims that this pair's applications were given, by whose they are.
func (s *session) brought(ctx context.Context) (map[types.NamespacedName]string, error) {
	var standbies api.StandbyList
	if err := s.Live.List(ctx, &standbies, client.InNamespace(s.Namespace)); err != nil {
		return nil, fmt.Errorf("list standbies: %w", err)
	}
	out := make(map[types.NamespacedName]string)
	for i := range standbies.Items {
		standby := &standbies.Items[i]
		if standby.Spec.PairID != s.peer.PairID {
			continue
		}
		for j := range standby.Status.Volumes {
			if v := &standby.Status.Volumes[j]; v.HandedOver {
				out[types.NamespacedName{Namespace: into(v), Name: v.Name}] = standby.Spec.Application
			}
		}
	}
	return out, nil
}
