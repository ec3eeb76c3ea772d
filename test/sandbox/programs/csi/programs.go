//go:build sidecars

// Package programs pins the CSI sidecars that the sandbox builds beside a driver: provisioner,
// attacher, resizer, snapshotter, snapshot-controller and snapshot-metadata. It has no code of its
// own; the build tag keeps the programs in go.mod without ever compiling this file.
package programs

import (
	_ "github.com/kubernetes-csi/external-attacher/v4/cmd/csi-attacher"
	_ "github.com/kubernetes-csi/external-provisioner/v5/cmd/csi-provisioner"
	_ "github.com/kubernetes-csi/external-resizer/v2/cmd/csi-resizer"
	_ "github.com/kubernetes-csi/external-snapshot-metadata/cmd/csi-snapshot-metadata"
	_ "github.com/kubernetes-csi/external-snapshotter/v8/cmd/csi-snapshotter"
	_ "github.com/kubernetes-csi/external-snapshotter/v8/cmd/snapshot-controller"
)
