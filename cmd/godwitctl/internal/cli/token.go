package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/pairing/secretstore"
)

// tokenFlags say what a token is to be good for.
type tokenFlags struct {
	ttl            time.Duration
	endpoint       string
	backupLocation string
	admin          bool
	more           []string
	bidirectional  bool
}

func (f *tokenFlags) add(flags *pflag.FlagSet) {
	flags.DurationVar(&f.ttl, "ttl", pairing.DefaultTokenTTL, "How long the token is good")
	flags.StringVar(&f.endpoint, "endpoint", "", "HOST:PORT at which the source reaches this cluster, if it does not say itself")
	flags.BoolVar(&f.admin, "admin", false, "Let the pair bring any object, of every namespace, and objects without one")
	flags.StringSliceVar(&f.more, "namespaces", nil, "More namespaces that the pair covers, beside that of -n")
	flags.BoolVar(&f.bidirectional, "bidirectional", true, "Let this cluster send to the source by the same pairing, if the source wants it too")
	flags.StringVar(&f.backupLocation, "backuplocation", "", "BackupLocation of the namespace that volumes go through, if there are several")
}

func newCreateToken(s *session) *cobra.Command {
	var f tokenFlags
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Print a token that lets another cluster pair with this one",
		Long: `Print a token that lets another cluster pair with this one, for the namespace
that -n says. It is good once, and belongs into spec.options.token of a
ClusterPair on the source.`,
		Args: noNames,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := s.mint(cmd.Context(), f, false)
			if err != nil {
				return err
			}
			if err := s.out("%s", t.line); err != nil {
				return err
			}
			return s.hint("The token is good once, for %s, until %s.", t.covers, t.expires.Format(time.RFC822))
		},
	}
	f.add(cmd.Flags())
	return cmd
}

// minted is a new token and what goes with it into a ClusterPair.
type minted struct {
	line           string
	expires        time.Time
	namespace      string
	covers         string
	endpoint       string
	backupLocation string
}

// mint makes a token for the namespace, and stores its grant. Where the pair
// cannot do without a BackupLocation, needsLocation makes its absence an error.
func (s *session) mint(ctx context.Context, f tokenFlags, needsLocation bool) (minted, error) {
	if f.ttl <= 0 {
		return minted{}, fmt.Errorf("--ttl %s is no time to use the token in: say one such as 1h", f.ttl)
	}
	namespace, err := s.namespace()
	if err != nil {
		return minted{}, err
	}
	c, err := s.client()
	if err != nil {
		return minted{}, err
	}
	info, err := s.clusterInfo(ctx, c)
	if err != nil {
		return minted{}, err
	}
	fingerprint, err := info.authority(s.home)
	if err != nil {
		return minted{}, err
	}
	endpoint, err := info.reachableAt(f.endpoint)
	if err != nil {
		return minted{}, err
	}
	location, err := s.chooseLocation(ctx, c, namespace, f.backupLocation, needsLocation)
	if err != nil {
		return minted{}, err
	}
	scope, err := s.scope(f, namespace)
	if err != nil {
		return minted{}, err
	}
	request := pairing.MintRequest{
		Scope: scope, TTL: f.ttl, Endpoint: endpoint, Bidirectional: f.bidirectional,
		ClusterID: info.id, ClusterName: info.name, CAFingerprint: fingerprint,
	}
	if location != "" {
		request.BackupLocation = namespace + "/" + location
	}
	now := time.Now()
	token, err := pairing.Mint(ctx, secretstore.New(c, s.home).Grants(), request, now, rand.Reader)
	if err != nil {
		return minted{}, s.fail("make a token", err)
	}
	line, err := token.Encode()
	if err != nil {
		return minted{}, err
	}
	return minted{
		line: line, expires: now.Add(f.ttl), namespace: namespace, covers: covers(scope), endpoint: endpoint, backupLocation: location,
	}, nil
}

// scope is what a token is to cover. What a namespaced pair could not use anyway
// is refused here, where it can still be said.
func (s *session) scope(f tokenFlags, namespace string) (pairing.Scope, error) {
	if f.admin {
		if len(f.more) > 0 {
			return pairing.Scope{}, errors.New("--admin covers every namespace: leave out --namespaces")
		}
		return pairing.Scope{Admin: true}, nil
	}
	all := []string{namespace}
	for _, more := range f.more {
		if !slices.Contains(all, more) {
			all = append(all, more)
		}
	}
	for _, one := range all {
		if one == s.home || strings.HasPrefix(one, "kube-") {
			return pairing.Scope{}, fmt.Errorf("namespace %s belongs to the cluster itself, and a namespaced pair may bring nothing to it: name another, or say --admin", one)
		}
	}
	return pairing.Scope{Namespaces: all}, nil
}

func covers(scope pairing.Scope) string {
	if scope.Admin {
		return "every namespace and the cluster itself"
	}
	if len(scope.Namespaces) == 1 {
		return "namespace " + scope.Namespaces[0]
	}
	return "namespaces " + scope.String()
}

// chooseLocation is the BackupLocation that is named, or the only one.
func (s *session) chooseLocation(ctx context.Context, c client.Client, namespace, name string, needed bool) (string, error) {
	if name != "" {
		_, err := s.named(ctx, c, backupLocationKind(), namespace, []string{name})
		return name, err
	}
	var list api.BackupLocationList
	if err := c.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return "", s.fail("list BackupLocations in namespace "+namespace, err)
	}
	switch len(list.Items) {
	case 1:
		return list.Items[0].Name, nil
	case 0:
		if !needed {
			return "", nil
		}
		return "", s.noLocation(ctx, c, namespace)
	}
	all := make([]client.Object, 0, len(list.Items))
	for i := range list.Items {
		all = append(all, &list.Items[i])
	}
	return "", fmt.Errorf("namespace %s has several BackupLocations (%s): name one with --backuplocation", namespace, names(all))
}

// noLocation says how to get one, beginning with the namespace if need be.
func (s *session) noLocation(ctx context.Context, c client.Client, namespace string) error {
	err := c.Get(ctx, client.ObjectKey{Name: namespace}, &corev1.Namespace{})
	if missing(err) {
		return fmt.Errorf("namespace %s is not in this cluster: create it and a BackupLocation in it (%s create backuplocation NAME -n %s ...)",
			namespace, s.program, namespace)
	}
	return errors.Join(
		fmt.Errorf("namespace %s has no BackupLocation for volumes to go through: create one with: %s create backuplocation NAME -n %s --bucket BUCKET --endpoint HOST:PORT",
			namespace, s.program, namespace),
		s.fail("read namespace "+namespace, err))
}
