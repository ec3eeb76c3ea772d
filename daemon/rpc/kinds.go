package rpc

import (
	"github.com/godwit-io/godwit/daemon/migrate"
	godwitv1 "github.com/godwit-io/godwit/proto/godwit/v1"
)

func kindsTo(kinds []migrate.KindVersions) []*godwitv1.KindVersions {
	var out []*godwitv1.KindVersions
	for _, k := range kinds {
		out = append(out, &godwitv1.KindVersions{Group: k.Group, Kind: k.Kind, Versions: k.Versions})
	}
	return out
}

func kindsFrom(kinds []*godwitv1.KindVersions) []migrate.KindVersions {
	var out []migrate.KindVersions
	for _, k := range kinds {
		out = append(out, migrate.KindVersions{Group: k.GetGroup(), Kind: k.GetKind(), Versions: k.GetVersions()})
	}
	return out
}
