package lacks

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/daemon/workload/shape"
)

// mostListed is how many images a node tells of, unless its kubelet is told otherwise.
const mostListed = 50

// images tells what is known of the images without asking any registry: whose
// network and logins Godwit has are not those of the nodes.
func (s *search) images(ctx context.Context) error {
	present, registries := s.onNodes()
	users := make(map[string][]podsOf)
	for _, p := range s.pods {
		for _, c := range append(slices.Clone(p.pod.Spec.InitContainers), p.pod.Spec.Containers...) {
			if c.Image != "" && !slices.ContainsFunc(users[c.Image], func(u podsOf) bool { return u.ref == p.ref }) {
				users[c.Image] = append(users[c.Image], p)
			}
			if c.ImagePullPolicy == corev1.PullNever && !present[normal(c.Image)] && s.allListed() {
				s.lack(p.ref, ImageNeverHere, false, "container %s never pulls its image %s (imagePullPolicy), and no node here has it: load it onto the nodes, or change the policy by spec.overrides", c.Name, c.Image)
			}
		}
	}
	for _, image := range slices.Sorted(maps.Keys(users)) {
		told := workload.Image{Name: image, Known: workload.ImageUnknown}
		switch name := normal(image); {
		case present[name]:
			told.Known = workload.ImageOnNode
		case registries[registryOf(name)]:
			told.Known = workload.ImageRegistryInUse
		default:
			s.lack(users[image][0].ref, ImageUnknown, false, "nothing here says that its image %s can be pulled: no node tells of it, or of another one of registry %s; see to it that nodes here reach that registry, or rename images with the change-image-name ConfigMap",
				image, registryOf(name))
		}
		for _, user := range users[image] {
			told.Users = append(told.Users, user.ref)
		}
		s.found.Images = append(s.found.Images, told)
	}
	return s.logins(ctx)
}

// onNodes are the images that nodes tell of, and the registries they are from.
func (s *search) onNodes() (present, registries map[string]bool) {
	present, registries = make(map[string]bool), make(map[string]bool)
	for _, node := range s.nodes {
		for _, image := range node.Status.Images {
			for _, name := range image.Names {
				name = normal(name)
				present[name], registries[registryOf(name)] = true, true
			}
		}
	}
	return present, registries
}

// allListed tells whether the nodes can be taken to tell of all their images.
func (s *search) allListed() bool {
	return !slices.ContainsFunc(s.nodes, func(n corev1.Node) bool { return len(n.Status.Images) >= mostListed })
}

// normal spells an image as nodes do.
func normal(image string) string {
	first, rest, found := strings.Cut(image, "/")
	if !found || !strings.ContainsAny(first, ".:") && first != "localhost" {
		rest = image
		if !found {
			rest = "library/" + image
		}
		first = "docker.io"
	}
	last := rest[strings.LastIndex(rest, "/")+1:]
	if !strings.ContainsAny(last, ":@") {
		rest += ":latest"
	}
	return first + "/" + rest
}

func registryOf(normal string) string {
	registry, _, _ := strings.Cut(normal, "/")
	return registry
}

// logins names registry logins that neither come nor stand here.
func (s *search) logins(ctx context.Context) error {
	for _, p := range s.pods {
		wanted, err := s.pullSecrets(ctx, p)
		if err != nil {
			return err
		}
		for _, name := range wanted {
			if s.comes("", "Secret", p.pod.Namespace, name) {
				continue
			}
			there, err := s.there(ctx, &corev1.Secret{}, p.pod.Namespace, name)
			if err != nil {
				return err
			}
			if !there {
				s.lack(p.ref, NoPullSecret, false, "its pods log in to a registry by Secret %s/%s, which neither comes nor stands on the target: make it there", p.pod.Namespace, name)
			}
		}
	}
	return nil
}

// pullSecrets are the pod's own, or those of its account.
func (s *search) pullSecrets(ctx context.Context, p podsOf) ([]string, error) {
	var names []string
	for _, secret := range p.pod.Spec.ImagePullSecrets {
		names = append(names, secret.Name)
	}
	account := p.pod.Spec.ServiceAccountName
	if len(names) > 0 || account == "" {
		return names, nil
	}
	for i := range s.coming.Objects {
		obj := &s.coming.Objects[i].Unstructured
		if obj.GetKind() == "ServiceAccount" && obj.GetNamespace() == p.pod.Namespace && obj.GetName() == account {
			for _, login := range shape.List(obj.Object, "imagePullSecrets") {
				names = append(names, shape.Text(login, "name"))
			}
			return names, nil
		}
	}
	var there corev1.ServiceAccount
	if err := s.Live.Get(ctx, client.ObjectKey{Namespace: p.pod.Namespace, Name: account}, &there); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("read account %s/%s: %w", p.pod.Namespace, account, err)
	}
	for _, secret := range there.ImagePullSecrets {
		names = append(names, secret.Name)
	}
	return names, nil
}
