package node

import (
	"context"
	"fmt"

	metadatav1 "github.com/kubernetes-csi/external-snapshot-metadata/client/apis/snapshotmetadataservice/v1beta1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/snapshot/cbt"
)

// tokenSeconds is how long a token for a sidecar lasts; the API gives no less.
const tokenSeconds int64 = 600

// Sidecars is a Tracker that asks the sidecars which drivers announce by a
// SnapshotMetadataService. It speaks for a ServiceAccount that can do nothing
// but get VolumeSnapshots in Godwit's namespace: that is all that a sidecar, or
// whoever passes for one, learns to do by a token.
type Sidecars struct {
	// Live reads past any cache; Client makes tokens.
	Live      client.Reader
	Client    client.Client
	Namespace string
	// Account is the name of the ServiceAccount.
	Account string
}

var (
	_ Tracker    = Sidecars{}
	_ cbt.Tokens = Sidecars{}
)

// About finds the driver's sidecar.
func (s Sidecars) About(ctx context.Context, of api.TransferSnapshot) (Answers, error) {
	asked := fmt.Sprintf("blocks of VolumeSnapshot %s/%s", s.Namespace, of.Name)
	var service metadatav1.SnapshotMetadataService
	err := s.Live.Get(ctx, types.NamespacedName{Name: of.Driver}, &service)
	switch {
	case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
		return nil, &cbt.Error{Reason: cbt.NotServed, Asked: asked, Problem: "no SnapshotMetadataService is named " + of.Driver}
	case apierrors.IsForbidden(err):
		return nil, &cbt.Error{Reason: cbt.Denied, Asked: asked, Err: err}
	case err != nil:
		return nil, fmt.Errorf("read SnapshotMetadataService %s: %w", of.Driver, err)
	}
	answers, err := cbt.Sidecar(
		cbt.Service{Address: service.Spec.Address, Audience: service.Spec.Audience, CA: service.Spec.CACert},
		s, cbt.Target{Namespace: s.Namespace, Name: of.Name},
	)
	if err != nil {
		return nil, err
	}
	return answers, nil
}

// Token makes a token of the ServiceAccount that is good for the audience alone.
func (s Sidecars) Token(ctx context.Context, audience string) (cbt.Token, error) {
	seconds := tokenSeconds
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Account}}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences: []string{audience}, ExpirationSeconds: &seconds,
	}}
	err := s.Client.SubResource("token").Create(ctx, account, request)
	if apierrors.IsForbidden(err) || apierrors.IsNotFound(err) {
		return "", &cbt.Error{Reason: cbt.Denied, Err: err}
	}
	if err != nil {
		return "", fmt.Errorf("token of ServiceAccount %s/%s: %w", s.Namespace, s.Account, err)
	}
	return cbt.Token(request.Status.Token), nil
}
