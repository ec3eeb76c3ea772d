package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// validateMigrations checks the Migrations of a file against the cluster, and
// creates none of them.
func (s *session) validateMigrations(cmd *cobra.Command, file string, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("--file checks the Migrations in %s, which have names: leave out %s", file, args[0])
	}
	for _, flag := range []string{"clusterPair", "namespaces", "wait", "output"} {
		if cmd.Flags().Changed(flag) {
			return fmt.Errorf("--file only checks the Migrations in %s: leave out --%s", file, flag)
		}
	}
	migrations, err := s.readMigrations(file)
	if err != nil {
		return err
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	for _, m := range migrations {
		if err := s.validateMigration(cmd.Context(), c, m, file); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) validateMigration(ctx context.Context, c client.Client, m *api.Migration, file string) error {
	if m.Namespace == "" {
		namespace, err := s.namespace()
		if err != nil {
			return err
		}
		m.Namespace = namespace
	}
	key := client.ObjectKeyFromObject(m)
	if err := s.pairThere(ctx, c, m); err != nil {
		return fmt.Errorf("Migration %s in %s: %w", key, file, err)
	}
	err := c.Create(ctx, m, client.DryRunAll)
	switch {
	case apierrors.IsAlreadyExists(err):
		// The cluster looks for a namesake only when the rest is well.
		return s.out("Migration %s in %s is valid; there is one of this name already", key, file)
	case err != nil:
		return s.fail(fmt.Sprintf("Migration %s in %s", key, file), err)
	default:
		return s.out("Migration %s in %s is valid", key, file)
	}
}

func (s *session) readMigrations(file string) (migrations []*api.Migration, err error) {
	in := s.env.Streams.In
	if file != "-" {
		opened, err := os.Open(file) //nolint:gosec // the user names the file
		if err != nil {
			return nil, fmt.Errorf("--file: %w", err)
		}
		defer func() { err = errors.Join(err, opened.Close()) }()
		in = opened
	}
	reader := utilyaml.NewYAMLReader(bufio.NewReader(in))
	for n := 1; ; n++ {
		doc, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		m, err := readMigration(doc)
		if err != nil {
			return nil, fmt.Errorf("document %d of %s: %w", n, file, err)
		}
		if m != nil {
			migrations = append(migrations, m)
		}
	}
	if len(migrations) == 0 {
		return nil, fmt.Errorf("%s holds no Migration", file)
	}
	return migrations, nil
}

// readMigration is nil for a document of comments alone.
func readMigration(doc []byte) (*api.Migration, error) {
	var head metav1.TypeMeta
	if err := yaml.Unmarshal(doc, &head); err != nil {
		return nil, err
	}
	if head == (metav1.TypeMeta{}) {
		var content any
		if err := yaml.Unmarshal(doc, &content); err != nil || content == nil {
			return nil, err
		}
	}
	if want := api.GroupVersion().String(); head.Kind != "Migration" || head.APIVersion != want {
		return nil, fmt.Errorf("it is a %q of %q: only a Migration of %s can be checked: change its kind or apiVersion",
			head.Kind, head.APIVersion, want)
	}
	body, err := yaml.YAMLToJSONStrict(doc)
	if err != nil {
		return nil, err
	}
	m := &api.Migration{}
	// Unlike yaml's own strictness, this one names the path of a wrong field.
	strict, err := json.UnmarshalStrict(body, m)
	return m, errors.Join(append(strict, err)...)
}
