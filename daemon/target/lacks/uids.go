package lacks

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/godwit-io/godwit/daemon/workload"
)

// annotationUIDRange is where OpenShift keeps which users a namespace's pods run
// as, and so who may read its files.
const annotationUIDRange = "openshift.io/sa.scc.uid-range"

// uids names what would let two namespaces read each other's files. The range is
// kept all the same: the files on the volumes belong to those users.
func (s *search) uids(ctx context.Context) error {
	var namespaces corev1.NamespaceList
	for i := range s.coming.Objects {
		obj := &s.coming.Objects[i].Unstructured
		text, annotated := obj.GetAnnotations()[annotationUIDRange]
		if obj.GetKind() != "Namespace" || obj.GroupVersionKind().Group != "" || !annotated {
			continue
		}
		if namespaces.Items == nil {
			if err := s.Live.List(ctx, &namespaces); err != nil {
				return fmt.Errorf("list namespaces: %w", err)
			}
		}
		ref := workload.RefOf(obj)
		wanted, ok := uidRange(text)
		if !ok {
			s.lack(ref, SharedUIDs, false, "its %s is %q, which is no range of users: correct it on the source, or by spec.overrides", annotationUIDRange, text)
			continue
		}
		for _, n := range namespaces.Items {
			theirs := n.Annotations[annotationUIDRange]
			if taken, ok := uidRange(theirs); ok && n.Name != obj.GetName() && wanted.overlaps(taken) {
				s.lack(ref, SharedUIDs, false, "its %s (%s) overlaps that of namespace %s here (%s): pods of both could run as the same users and read each other's files; give namespace %s another range, or change this one by spec.overrides and the owners of the files with it",
					annotationUIDRange, text, n.Name, theirs, n.Name)
			}
		}
	}
	return nil
}

// users is a range of user ids, both ends in it.
type users struct{ first, last uint64 }

func (u users) overlaps(o users) bool { return u.first <= o.last && o.first <= u.last }

// uidRange reads start/size and start-end, as OpenShift does.
func uidRange(text string) (users, bool) {
	separator := "/"
	if strings.Contains(text, "-") {
		separator = "-"
	}
	first, second, found := strings.Cut(text, separator)
	if !found {
		return users{}, false
	}
	a, errA := strconv.ParseUint(first, 10, 32)
	b, errB := strconv.ParseUint(second, 10, 32)
	if errA != nil || errB != nil {
		return users{}, false
	}
	if separator == "/" {
		return users{a, a + b - 1}, b > 0
	}
	return users{a, b}, a <= b
}
