package secretstore

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/godwit-io/godwit/pairing"
)

const (
	// KindLabel tells our Secrets apart; its values are KindPeer and so on
	KindLabel = "godwit.io/kind"
	// DirectionLabel is on a peer's Secret.
	DirectionLabel = "godwit.io/direction"

	// KindPeer labels a Secret that holds a peer.
	KindPeer = "peer"
	// KindGrant labels a Secret that holds a grant.
	KindGrant = "grant"
	// KindAuthority labels the Secret that holds the authority.
	KindAuthority = "authority"

	recordKey = "record"
)

// Store keeps everything of one cluster in one namespace.
type Store struct {
	client    client.Client
	namespace string
}

// New gives the store in namespace.
func New(c client.Client, namespace string) *Store {
	return &Store{client: c, namespace: namespace}
}

// Grants is the cluster's pairing.GrantStore.
func (s *Store) Grants() *Grants { return &Grants{s} }

// Peers is the cluster's pairing.PeerStore.
func (s *Store) Peers() *Peers { return &Peers{s} }

func (s *Store) secret(name, kind, version string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.namespace, Name: name, ResourceVersion: version,
			Labels: map[string]string{KindLabel: kind, "app.kubernetes.io/part-of": "godwit"},
		},
		Type: corev1.SecretTypeOpaque,
	}
}

func (s *Store) get(ctx context.Context, name string) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	err := s.client.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: name}, secret)
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("secret %s/%s: %w", s.namespace, name, pairing.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read secret %s/%s: %w", s.namespace, name, err)
	}
	return secret, nil
}

func (s *Store) list(ctx context.Context, labels client.MatchingLabels) ([]corev1.Secret, error) {
	found := &corev1.SecretList{}
	if err := s.client.List(ctx, found, client.InNamespace(s.namespace), labels); err != nil {
		return nil, fmt.Errorf("list secrets in %s: %w", s.namespace, err)
	}
	return found.Items, nil
}

// put creates a secret without resourceVersion and otherwise replaces that version.
func (s *Store) put(ctx context.Context, secret *corev1.Secret) (*corev1.Secret, error) {
	write := func() error { return s.client.Create(ctx, secret) }
	if secret.ResourceVersion != "" {
		write = func() error { return s.client.Update(ctx, secret) }
	}
	created := secret.ResourceVersion == ""
	err := write()
	if apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err) || (!created && apierrors.IsNotFound(err)) {
		return nil, fmt.Errorf("secret %s/%s: %w", s.namespace, secret.Name, pairing.ErrConflict)
	}
	if err != nil {
		return nil, fmt.Errorf("write secret %s/%s: %w", s.namespace, secret.Name, err)
	}
	return secret, nil
}

func (s *Store) delete(ctx context.Context, name string) error {
	secret := s.secret(name, "", "")
	if err := s.client.Delete(ctx, secret); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete secret %s/%s: %w", s.namespace, name, err)
	}
	return nil
}

func encode[T any](record T) ([]byte, error) {
	body, err := json.Marshal(record)
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	return body, nil
}

func decode[T any](secret *corev1.Secret) (T, error) {
	var record T
	if err := json.Unmarshal(secret.Data[recordKey], &record); err != nil {
		// The parser's words may quote what is in the Secret.
		return record, fmt.Errorf("secret %s/%s: its %q is not readable: delete it and pair anew", secret.Namespace, secret.Name, recordKey)
	}
	return record, nil
}
