package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// session is one run of the program against one cluster.
type session struct {
	env     Environment
	config  *genericclioptions.ConfigFlags
	program string

	output        string
	watch         bool
	allNamespaces bool
	// home is the namespace that Godwit is installed in.
	home string
}

// out writes one line for the user.
func (s *session) out(format string, args ...any) error {
	_, err := fmt.Fprintf(s.env.Streams.Out, format+"\n", args...)
	return err
}

// hint writes one line beside the output.
func (s *session) hint(format string, args ...any) error {
	_, err := fmt.Fprintf(s.env.Streams.ErrOut, format+"\n", args...)
	return err
}

// namespace is --namespace or else the one of the kubeconfig's context.
func (s *session) namespace() (string, error) {
	namespace, _, err := s.config.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return "", configError(err)
	}
	return namespace, nil
}

// client reaches the cluster that the flags choose. It knows its kinds without
// asking the cluster, so that each command makes only the requests it is for.
func (s *session) client() (client.WithWatch, error) {
	raw, err := s.config.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return nil, configError(err)
	}
	if len(raw.Clusters) == 0 && s.env.Getenv("KUBERNETES_SERVICE_HOST") == "" {
		// kubectl's library would try localhost:8080, which helps nobody.
		return nil, errNoCluster
	}
	config, err := s.config.ToRESTConfig()
	if err != nil {
		return nil, configError(err)
	}
	config.UserAgent = "godwitctl/" + s.env.Version
	config.WarningHandler = rest.NewWarningWriter(s.env.Streams.ErrOut, rest.WarningWriterOptions{Deduplicate: true})
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme, Mapper: newMapper()})
	if err != nil {
		return nil, configError(err)
	}
	return c, nil
}

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), api.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("register kinds: %w", err)
	}
	return scheme, nil
}

func newMapper() meta.RESTMapper {
	core, ours := corev1.SchemeGroupVersion, api.GroupVersion()
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{core, ours})
	mapper.Add(core.WithKind("Namespace"), meta.RESTScopeRoot)
	mapper.Add(ours.WithKind("SchedulePolicy"), meta.RESTScopeRoot)
	mapper.Add(ours.WithKind("ApplicationRegistration"), meta.RESTScopeRoot)
	for _, gvk := range []schema.GroupVersionKind{
		core.WithKind("ConfigMap"), core.WithKind("Secret"), core.WithKind("Event"),
		ours.WithKind("Action"), ours.WithKind("BackupLocation"), ours.WithKind("ClusterPair"), ours.WithKind("Migration"), ours.WithKind("MigrationSchedule"), ours.WithKind("NamespacedSchedulePolicy"),
		ours.WithKind("Standby"), ours.WithKind("Rule"), ours.WithKind("Drill"), ours.WithKind("VolumeTransfer"), ours.WithKind("TransferLimit"),
	} {
		mapper.Add(gvk, meta.RESTScopeNamespace)
	}
	return mapper
}

var errNoCluster = errors.New("no cluster is configured: name a kubeconfig with --kubeconfig or KUBECONFIG")

func configError(err error) error {
	if clientcmd.IsEmptyConfig(err) {
		return errNoCluster
	}
	return fmt.Errorf("kubeconfig: %w: check --kubeconfig and --context", err)
}

// fail says what was tried, what the cluster answered, and what to do about it.
func (s *session) fail(what string, err error) error {
	var unreachable *url.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return err
	case unknownKind(err):
		return fmt.Errorf("%s: this cluster does not know Godwit's kinds: install Godwit's chart in it, or choose another cluster with --context", what)
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("%s: the cluster does not accept these credentials: check --kubeconfig and --context", what)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%s: %w: ask the cluster's administrator for this right", what, err)
	case apierrors.IsAlreadyExists(err):
		return fmt.Errorf("%s: %w: choose another name, or delete that one first", what, err)
	case errors.As(err, &unreachable):
		return fmt.Errorf("%s: cannot reach the cluster: %w: check that it runs, and --kubeconfig and --context", what, err)
	default:
		return fmt.Errorf("%s: %w", what, err)
	}
}

// unknownKind tells the missing kind from the missing object: only then does
// the API server answer with a bare 404.
func unknownKind(err error) bool {
	if meta.IsNoMatchError(err) {
		return true
	}
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	for _, cause := range status.Status().Details.Causes {
		if cause.Type == metav1.CauseTypeUnexpectedServerResponse {
			return true
		}
	}
	return false
}

// missing reports that the object itself is not there.
func missing(err error) bool { return apierrors.IsNotFound(err) && !unknownKind(err) }
