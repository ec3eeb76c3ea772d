package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// defaultMode is what stork's ClusterPairs say that serve more than one move.
const defaultMode = "DisasterRecovery"

func newGenerate(s *session) *cobra.Command {
	generate := &cobra.Command{
		Use:   "generate",
		Short: "Print objects that are to be applied to another cluster",
		Args:  cobra.ArbitraryArgs,
		RunE:  group("what to generate", "clusterpair"),
	}
	generate.AddCommand(newGenerateClusterPair(s))
	return generate
}

func newGenerateClusterPair(s *session) *cobra.Command {
	var f tokenFlags
	var options map[string]string
	cmd := &cobra.Command{
		Use:     "clusterpair NAME",
		Aliases: []string{"clusterpairs", "cp"},
		Short:   "Print a ClusterPair that leads to this cluster",
		Long: `Print a ClusterPair that leads to this cluster. Run it on the target, and apply
what it prints to the source. The token in it is good once, for the namespace
that -n says.

Example:
  ` + s.program + ` --context TARGET generate clusterpair -n cms prodcluster > clusterpair.yaml
  kubectl --context SOURCE apply -f clusterpair.yaml`,
		Annotations: uses(usesOutput),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.generateClusterPair(cmd.Context(), f, options, args)
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().StringToStringVarP(&options, "storageoptions", "s", nil, "More options of the ClusterPair, such as mode=OneTimeMigration")
	return cmd
}

func (s *session) generateClusterPair(ctx context.Context, f tokenFlags, options map[string]string, args []string) error {
	name, err := exactlyOne("clusterpair", args)
	if err != nil {
		return err
	}
	if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
		return fmt.Errorf("%q cannot be the name of a ClusterPair: %s", name, problems[0])
	}
	if err := checkOptions(options); err != nil {
		return err
	}
	minted, err := s.mint(ctx, f, true)
	if err != nil {
		return err
	}
	pair, err := pairFor(name, minted, options)
	if err != nil {
		return err
	}
	if s.output != "json" {
		s.output = "yaml"
	}
	if err := s.objects().PrintObj(pair, s.env.Streams.Out); err != nil {
		return err
	}
	return s.hint("Apply this to the source, in its namespace %s. The token is good once, until %s.",
		minted.namespace, minted.expires.Format(time.RFC822))
}

// checkOptions leaves to their flags what flags are there for.
func checkOptions(options map[string]string) error {
	flags := map[string]string{
		api.OptionIP: "--endpoint", api.OptionPort: "--endpoint", api.OptionBackupLocation: "--backuplocation",
	}
	for key := range options {
		if flag := flags[key]; flag != "" {
			return fmt.Errorf("--storageoptions cannot set %s: use %s", key, flag)
		}
		if key == api.OptionToken {
			return errors.New("--storageoptions cannot set token: this command makes a new one")
		}
	}
	return nil
}

// pairFor is the ClusterPair without what only a cluster fills in.
func pairFor(name string, t minted, more map[string]string) (*unstructured.Unstructured, error) {
	host, port, err := net.SplitHostPort(t.endpoint)
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", t.endpoint, err)
	}
	options := map[string]string{
		api.OptionIP: host, api.OptionPort: port, api.OptionToken: t.line,
		api.OptionBackupLocation: t.backupLocation, api.OptionMode: defaultMode,
	}
	for key, value := range more {
		options[key] = value
	}
	pair := &api.ClusterPair{
		TypeMeta:   metav1.TypeMeta{APIVersion: api.GroupVersion().String(), Kind: "ClusterPair"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: t.namespace},
		Spec:       api.ClusterPairSpec{Options: options},
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(pair)
	if err != nil {
		return nil, fmt.Errorf("write ClusterPair %s: %w", name, err)
	}
	delete(content, "status")
	unstructured.RemoveNestedField(content, "metadata", "creationTimestamp")
	return &unstructured.Unstructured{Object: content}, nil
}
