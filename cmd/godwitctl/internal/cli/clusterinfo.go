package cli

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/godwit-io/godwit/pairing"
)

// clusterInfoName is the ConfigMap in which a cluster's controller says who it is.
const clusterInfoName = "godwit-cluster-info"

// clusterInfo is what a cluster's controller says of itself.
type clusterInfo struct {
	id, name    string
	endpoint    string
	fingerprint string
	version     string
}

// clusterInfo asks the cluster; where Godwit does not run it says what to do.
func (s *session) clusterInfo(ctx context.Context, c client.Client) (clusterInfo, error) {
	var found corev1.ConfigMap
	err := c.Get(ctx, client.ObjectKey{Namespace: s.home, Name: clusterInfoName}, &found)
	if missing(err) {
		return clusterInfo{}, fmt.Errorf("Godwit's controller does not run in this cluster (no ConfigMap %s in namespace %s): "+
			"install its chart, or say its namespace with --godwit-namespace, or another cluster with --context", clusterInfoName, s.home)
	}
	if err != nil {
		return clusterInfo{}, s.fail(fmt.Sprintf("read ConfigMap %s/%s", s.home, clusterInfoName), err)
	}
	return clusterInfo{
		id: found.Data["clusterID"], name: found.Data["clusterName"], endpoint: found.Data["endpoint"],
		fingerprint: found.Data["caFingerprint"], version: found.Data["version"],
	}, nil
}

// reachableAt is where the source reaches this cluster.
func (i clusterInfo) reachableAt(flag string) (string, error) {
	endpoint := i.endpoint
	if flag != "" {
		endpoint = flag
	}
	if endpoint == "" {
		return "", errors.New("this cluster does not say where other clusters reach it: give --endpoint HOST:PORT, or set pairing.endpoint in the chart's values")
	}
	if err := pairing.CheckEndpoint(endpoint); err != nil {
		return "", fmt.Errorf("--endpoint: %w: say HOST:PORT as the source reaches it", err)
	}
	return endpoint, nil
}

// authority is the fingerprint that tokens pin.
func (i clusterInfo) authority(home string) (pairing.Fingerprint, error) {
	var f pairing.Fingerprint
	raw, err := hex.DecodeString(i.fingerprint)
	if err != nil || len(raw) != len(f) || i.id == "" {
		return f, fmt.Errorf("ConfigMap %s/%s is not complete yet: wait until Godwit's controller runs, and look at its log if it does not", home, clusterInfoName)
	}
	copy(f[:], raw)
	return f, nil
}
