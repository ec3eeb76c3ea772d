package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

func newMustGather(s *session) *cobra.Command {
	var second secondCluster
	var file string
	cmd := &cobra.Command{
		Use: "must-gather", Args: cobra.NoArgs,
		Short: "Pack what helps to find a fault: Godwit's objects, logs, events and versions, without secrets",
		Long: `Pack Godwit's objects, its pods with their logs, events, classes and versions
into one archive. No Secret goes into it; what objects and logs say of keys,
passwords and tokens is taken out. Look at it before you pass it on.

Example:
  ` + s.program + ` must-gather --target-context west -f godwit.tar.gz`,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.mustGather(cmd.Context(), file, second) },
	}
	second.add(cmd)
	cmd.Flags().StringVarP(&file, "file", "f", "godwit-must-gather.tar.gz", "Archive to write; it must not be there yet")
	return cmd
}

func (s *session) mustGather(ctx context.Context, file string, second secondCluster) error {
	out, err := os.OpenFile(filepath.Clean(file), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write the archive: %w: name another file with --file", err)
	}
	problems, err := s.gatherInto(ctx, out, second)
	if err = errors.Join(err, out.Close()); err != nil {
		return errors.Join(err, os.Remove(out.Name()))
	}
	if problems > 0 {
		if err := s.hint("%d things could not be read: problems.txt in the archive says which", problems); err != nil {
			return err
		}
	}
	return s.out("wrote %s", out.Name())
}

func (s *session) gatherInto(ctx context.Context, out io.Writer, second secondCluster) (problems int, err error) {
	files := map[string][]byte{}
	dirt := newSecrets()
	for _, p := range s.sites(second) {
		g := &gathering{site: p, files: map[string][]byte{}, secrets: dirt}
		if err := g.run(ctx); err != nil {
			return 0, err
		}
		problems += len(g.problems)
		g.files["problems.txt"] = []byte(strings.Join(g.problems, "\n") + "\n")
		for name, text := range g.files {
			files[p.role+"/"+name] = text
		}
	}
	return problems, archive(out, files, dirt, time.Now())
}

// gathering is what is collected of one cluster.
type gathering struct {
	site
	dynamic  dynamic.Interface
	core     kubernetes.Interface
	files    map[string][]byte
	secrets  *secrets
	problems []string
}

// miss notes what could not be read: an archive without it is better than none.
func (g *gathering) miss(what string, err error) {
	g.problems = append(g.problems, fmt.Sprintf("%s: %v", what, err))
}

func (g *gathering) run(ctx context.Context) error {
	core, config, err := g.kubernetes()
	if err != nil {
		return err
	}
	g.core = core
	if g.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return configError(err)
	}
	version, err := core.Discovery().ServerVersion()
	if err != nil {
		return g.fail("ask the "+g.role+" for its version", err)
	}
	g.files["versions.txt"] = fmt.Appendf(nil, "godwitctl %s\nKubernetes %s\n", g.env.Version, version)
	namespaces := map[string]bool{g.home: true}
	g.ownKinds(ctx, namespaces)
	g.readSecrets(ctx, slices.Sorted(maps.Keys(namespaces)))
	for _, r := range surroundings() {
		namespace := ""
		if r.atHome {
			namespace = g.home
		}
		g.list(ctx, r.resource, namespace, nil)
	}
	g.events(ctx, slices.Sorted(maps.Keys(namespaces)))
	g.logs(ctx)
	return ctx.Err()
}

type surrounding struct {
	resource schema.GroupVersionResource
	atHome   bool
}

// surroundings are what Godwit works with, beside its own kinds.
func surroundings() []surrounding {
	at := func(group, version, resource string, home bool) surrounding {
		return surrounding{schema.GroupVersionResource{Group: group, Version: version, Resource: resource}, home}
	}
	return []surrounding{
		at("", "v1", "pods", true), at("", "v1", "configmaps", true), at("", "v1", "services", true), at("", "v1", "persistentvolumeclaims", true),
		at("apps", "v1", "deployments", true), at("apps", "v1", "daemonsets", true), at("batch", "v1", "jobs", true),
		at("snapshot.storage.k8s.io", "v1", "volumesnapshots", true), at("snapshot.storage.k8s.io", "v1", "volumesnapshotclasses", false),
		at("groupsnapshot.storage.k8s.io", "v1", "volumegroupsnapshotclasses", false),
		at("storage.k8s.io", "v1", "storageclasses", false), at("storage.k8s.io", "v1", "csidrivers", false),
		at("", "v1", "nodes", false),
	}
}

// ownKinds gathers all of Godwit's objects, and the namespaces that they are in.
func (g *gathering) ownKinds(ctx context.Context, namespaces map[string]bool) {
	group := api.GroupVersion()
	kinds, err := g.core.Discovery().ServerResourcesForGroupVersion(group.String())
	if err != nil {
		g.miss("find Godwit's kinds", err)
		return
	}
	for _, kind := range kinds.APIResources {
		if strings.Contains(kind.Name, "/") {
			continue
		}
		g.list(ctx, group.WithResource(kind.Name), "", func(o *unstructured.Unstructured) {
			if o.GetNamespace() != "" {
				namespaces[o.GetNamespace()] = true
			}
		})
	}
}

func (g *gathering) list(ctx context.Context, r schema.GroupVersionResource, namespace string, each func(*unstructured.Unstructured)) {
	name := strings.Trim(r.Group+"/"+r.Resource, "/")
	list, err := g.dynamic.Resource(r).Namespace(namespace).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return // The cluster does not serve it.
	}
	if err != nil {
		g.miss("list "+name, err)
		return
	}
	var text bytes.Buffer
	for i := range list.Items {
		o := &list.Items[i]
		if each != nil {
			each(o)
		}
		g.secrets.strip(o)
		one, err := yaml.Marshal(o.Object)
		if err != nil {
			g.miss("write "+name, err)
			return
		}
		text.WriteString("---\n")
		text.Write(one)
	}
	g.files["objects/"+strings.ReplaceAll(name, "/", "_")+".yaml"] = text.Bytes()
}

// readSecrets looks at Secrets only to know what must not be in the archive, and
// tells their names.
func (g *gathering) readSecrets(ctx context.Context, namespaces []string) {
	var names bytes.Buffer
	for _, namespace := range namespaces {
		list, err := g.core.CoreV1().Secrets(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			g.miss("list the Secrets of namespace "+namespace+", whose values are therefore not looked for in logs", err)
			continue
		}
		for _, s := range list.Items {
			_, _ = fmt.Fprintf(&names, "%s/%s %s: %s\n", namespace, s.Name, s.Type, strings.Join(slices.Sorted(maps.Keys(s.Data)), ", "))
			for key, value := range s.Data {
				g.secrets.learn(key, string(value))
			}
		}
	}
	g.files["objects/secrets.txt"] = names.Bytes()
}

func (g *gathering) events(ctx context.Context, namespaces []string) {
	var text bytes.Buffer
	for _, namespace := range namespaces {
		list, err := g.core.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			g.miss("list the events of namespace "+namespace, err)
			continue
		}
		slices.SortFunc(list.Items, func(a, b corev1.Event) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
		for _, e := range list.Items {
			_, _ = fmt.Fprintf(&text, "%s %s %s %s/%s %s: %s\n", e.CreationTimestamp.UTC().Format(time.RFC3339), e.Type,
				e.InvolvedObject.Kind, e.InvolvedObject.Namespace, e.InvolvedObject.Name, e.Reason, oneLine(e.Message))
		}
	}
	g.files["events.txt"] = text.Bytes()
}

func (g *gathering) logs(ctx context.Context) {
	pods, err := g.core.CoreV1().Pods(g.home).List(ctx, metav1.ListOptions{LabelSelector: godwitPods})
	if err != nil {
		g.miss("list Godwit's pods", err)
		return
	}
	for i := range pods.Items {
		err := eachLog(ctx, g.core, &pods.Items[i], nil, func(l containerLog) {
			name := l.pod + "/" + l.container
			if l.previous {
				name += ".previous"
			}
			g.files["logs/"+name+".log"] = l.text
		})
		if err != nil {
			g.miss("read logs", err)
		}
	}
}

// archive packs the files, none of which says a secret.
func archive(out io.Writer, files map[string][]byte, s *secrets, at time.Time) error {
	z := gzip.NewWriter(out)
	t := tar.NewWriter(z)
	clean := s.cleaner()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text := clean(files[name])
		h := &tar.Header{Name: "godwit-must-gather/" + name, Mode: 0o600, Size: int64(len(text)), ModTime: at}
		if err := t.WriteHeader(h); err != nil {
			return fmt.Errorf("write the archive: %w", err)
		}
		if _, err := t.Write(text); err != nil {
			return fmt.Errorf("write the archive: %w", err)
		}
	}
	if err := errors.Join(t.Close(), z.Close()); err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	return nil
}
