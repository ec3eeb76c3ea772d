package sdk

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/godwit-io/godwit/pairing/openstorage"
)

// Nodes is the backend of OpenStorageNode.
type Nodes struct{ *Backend }

var _ openstorage.Nodes = Nodes{}

// Current is openstorage.Nodes'.
func (b Nodes) Current() string { return b.NodeName }

// List is openstorage.Nodes'.
func (b Nodes) List(ctx context.Context) ([]openstorage.Node, error) {
	var list corev1.NodeList
	if err := b.Client.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	all := make([]openstorage.Node, 0, len(list.Items))
	for _, n := range list.Items {
		node := openstorage.Node{ID: n.Name, Hostname: n.Labels[corev1.LabelHostname], Labels: n.Labels}
		for _, a := range n.Status.Addresses {
			if a.Type == corev1.NodeInternalIP && node.Address == "" {
				node.Address = a.Address
			}
		}
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady {
				node.Ready = c.Status == corev1.ConditionTrue
			}
		}
		all = append(all, node)
	}
	return all, nil
}
