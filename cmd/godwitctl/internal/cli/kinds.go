package cli

import (
	"slices"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/table"
	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// kind is one of Godwit's kinds as commands speak of it.
type kind struct {
	name    string
	use     string
	aliases []string
	short   string
	object  func() client.Object
	list    func() client.ObjectList
	layout  table.Layout
	// inHome says that its objects live in the namespace that Godwit is
	// installed in, unless another is named.
	inHome bool
	// cluster says that its objects live in no namespace.
	cluster bool
}

func clusterPairKind() kind {
	return kind{
		name: "ClusterPair", use: "clusterpair", aliases: []string{"clusterpairs", "cp"},
		short:  "trust from this cluster to another",
		object: func() client.Object { return &api.ClusterPair{} },
		list:   func() client.ObjectList { return &api.ClusterPairList{} },
		layout: table.ClusterPair(),
	}
}

func migrationKind() kind {
	return kind{
		name: "Migration", use: "migration", aliases: []string{"migrations"},
		short:  "moves of applications to other clusters",
		object: func() client.Object { return &api.Migration{} },
		list:   func() client.ObjectList { return &api.MigrationList{} },
		layout: table.Migration(),
	}
}

func backupLocationKind() kind {
	return kind{
		name: "BackupLocation", use: "backuplocation", aliases: []string{"backuplocations", "bl"},
		short:  "object stores that volumes go through",
		object: func() client.Object { return &api.BackupLocation{} },
		list:   func() client.ObjectList { return &api.BackupLocationList{} },
		layout: table.BackupLocation(),
	}
}

func standbyKind() kind {
	return kind{
		name: "Standby", use: "standby", aliases: []string{"standbies"},
		short:  "copies of applications that this cluster, a target, keeps",
		object: func() client.Object { return &api.Standby{} },
		list:   func() client.ObjectList { return &api.StandbyList{} },
		layout: table.Standby(),
		inHome: true,
	}
}

func volumeTransferKind() kind {
	return kind{
		name: "VolumeTransfer", use: "volumetransfer", aliases: []string{"volumetransfers", "vt"},
		short:  "single volumes on their way",
		object: func() client.Object { return &api.VolumeTransfer{} },
		list:   func() client.ObjectList { return &api.VolumeTransferList{} },
		layout: table.VolumeTransfer(),
		inHome: true,
	}
}

// choices lists kinds for a message.
func choices(kinds []kind) string {
	names := make([]string, 0, len(kinds))
	for _, k := range kinds {
		names = append(names, k.use)
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// where is the namespace that a command on this kind works in; empty is all.
func (s *session) where(k kind) (string, error) {
	switch {
	case s.allNamespaces, k.cluster:
		return "", nil
	case k.inHome && *s.config.Namespace == "":
		return s.home, nil
	default:
		return s.namespace()
	}
}

// place names a namespace in messages.
func place(namespace string) string {
	if namespace == "" {
		return "any namespace"
	}
	return "namespace " + namespace
}

// names lists objects for a message, or says that there are none.
func names[T client.Object](objs []T) string {
	if len(objs) == 0 {
		return "none"
	}
	all := make([]string, 0, len(objs))
	for _, obj := range objs {
		all = append(all, obj.GetName())
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}
