package cli

import (
	"errors"
	"fmt"
	"io"
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// policy is what Godwit takes of a PropagationPolicy of Karmada. Where it puts
// what it selects, and how many, is Karmada's affair.
type policy struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        metav1.ObjectMeta `json:"metadata"`
	Spec            struct {
		ConflictResolution          api.ConflictResolution `json:"conflictResolution"`
		PreserveResourcesOnDeletion bool                   `json:"preserveResourcesOnDeletion"`
		ResourceSelectors           []api.ResourceSelector `json:"resourceSelectors"`
	} `json:"spec"`
}

// migrationOfPolicy is the Migration that adopts what a policy selects: without
// volumes, since what runs on the target keeps its own. Nil for anything else.
func migrationOfPolicy(doc []byte, pair, namespace string) (*api.Migration, error) {
	var p policy
	if err := yaml.Unmarshal(doc, &p); err != nil || p.Kind != "PropagationPolicy" {
		return nil, err
	}
	if pair == "" {
		return nil, fmt.Errorf("PropagationPolicy %s names clusters of Karmada: name the ClusterPair with --clusterPair", p.Metadata.Name)
	}
	if p.Metadata.Namespace != "" {
		namespace = p.Metadata.Namespace
	}
	no, yes := false, true
	m := &api.Migration{Spec: api.MigrationSpec{ClusterPair: pair, Namespaces: []string{namespace}, IncludeVolumes: &no, StartApplications: &yes}}
	m.Name, m.Namespace = p.Metadata.Name, namespace
	m.Spec.ResourceSelectors = p.Spec.ResourceSelectors
	m.Spec.ConflictResolution = p.Spec.ConflictResolution
	m.Spec.PreserveResourcesOnDeletion = &p.Spec.PreserveResourcesOnDeletion
	return m, nil
}

// readPlannable reads Migrations, or one PropagationPolicy.
func (s *session) readPlannable(f planFlags) ([]*api.Migration, error) {
	if f.file == "-" {
		return s.readMigrations(f.file)
	}
	m, err := s.readPolicy(f.file, f.pair)
	if err != nil {
		return nil, err
	}
	if m != nil {
		return []*api.Migration{m}, nil
	}
	if f.pair != "" {
		return nil, errors.New("--clusterPair is for a PropagationPolicy: a Migration names its own")
	}
	return s.readMigrations(f.file)
}

// readPolicy is nil for a file of anything else.
func (s *session) readPolicy(file, pair string) (m *api.Migration, err error) {
	opened, err := os.Open(file) //nolint:gosec // the user names the file
	if err != nil {
		return nil, fmt.Errorf("--file: %w", err)
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	doc, err := io.ReadAll(io.LimitReader(opened, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	namespace, err := s.namespace()
	if err != nil {
		return nil, err
	}
	m, err = migrationOfPolicy(doc, pair, namespace)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return m, nil
}

// takePolicy adds what a policy says to a Migration.
func (s *session) takePolicy(m *api.Migration, file string) error {
	from, err := s.readPolicy(file, m.Spec.ClusterPair)
	if err != nil {
		return err
	}
	if from == nil {
		return fmt.Errorf("--policy: %s holds no PropagationPolicy", file)
	}
	m.Spec.ResourceSelectors, m.Spec.ConflictResolution = from.Spec.ResourceSelectors, from.Spec.ConflictResolution
	m.Spec.PreserveResourcesOnDeletion = from.Spec.PreserveResourcesOnDeletion
	return nil
}
