package arch

// Families that bans name.
func kubernetes() Family {
	return Family{Name: "Kubernetes", Prefixes: []string{
		"k8s.io", "sigs.k8s.io", "github.com/kubernetes-csi/external-snapshotter/client",
	}}
}

func kopia() Family { return Family{Name: "kopia", Prefixes: []string{"github.com/kopia/kopia"}} }

func grpc() Family { return Family{Name: "gRPC", Prefixes: []string{"google.golang.org/grpc"}} }

func devices() Family { return Family{Name: "devices", Prefixes: []string{"golang.org/x/sys"}} }

// Reasons that several bans share.
const (
	engineAlone   = "the engine moves bytes for any orchestrator; what it needs of Kubernetes is handed to it"
	oneStore      = "snapshot/kopiastore is the only importer of kopia, so that the format lives in one place"
	wireAtTheEdge = "wire types stop at their adapter; the domain is tested without a server"
	noWireInPods  = "reconcilers reach the other cluster through migrate.Target, which cmd wires"
	nodeHasDisks  = "only the node daemon opens devices; whatever else does would have to be privileged too"
	pureDecision  = "decisions are pure: everything observed comes in as a value, and the time too"
)

// Table is the plan of the house: which package may import what.
func Table() []Row {
	var table []Row
	table = append(table, engineRows()...)
	table = append(table, pairingRows()...)
	table = append(table, daemonRows()...)
	table = append(table, targetRows()...)
	table = append(table, edgeRows()...)
	return table
}

// TestDoubles are packages that only _test.go files may import.
func TestDoubles() []string { return []string{"snapshot/snapshottest", "pairing/pairingtest"} }

func engineRows() []Row {
	noKubernetes := Ban{Family: kubernetes(), Why: engineAlone}
	noKopia := Ban{Family: kopia(), Why: oneStore}
	return []Row{
		{
			Package: "snapshot", Outside: []string{"golang.org/x/sync"},
			Never: []Ban{noKubernetes, noKopia, {Family: grpc(), Why: wireAtTheEdge}},
			Why:   "the engine's words and its work stand on the standard library alone",
		},
		{
			Package: "snapshot/snapshottest", Uses: []string{"snapshot"}, Outside: []string{"golang.org/x/sync", "golang.org/x/sys"},
			Never: []Ban{noKubernetes, noKopia},
			Why:   "doubles know the interfaces and nothing of what implements them",
		},
		{
			Package: "snapshot/blockdev", Uses: []string{"snapshot"}, Outside: []string{"golang.org/x/sys", "golang.org/x/sync"},
			Never: []Ban{noKubernetes, noKopia},
			Why:   "devices and files need the kernel and the engine's words, nothing else",
		},
		{
			Package: "snapshot/kopiastore", Uses: []string{"snapshot"},
			Outside: []string{
				"github.com/kopia/kopia", "github.com/minio/minio-go/v7", "github.com/pkg/xattr",
				"github.com/klauspost/compress/s2", "github.com/klauspost/compress/zstd", "golang.org/x/sync", "golang.org/x/sys",
			},
			Never: []Ban{noKubernetes},
			Why:   "the store is kopia, the object store's client, and the codecs that kopia itself uses; anything more would tie the format to it",
		},
		{
			Package: "snapshot/cbt", Uses: []string{"snapshot"},
			Outside: []string{
				"google.golang.org/grpc", "google.golang.org/protobuf", "github.com/container-storage-interface/spec",
				"github.com/kubernetes-csi/external-snapshot-metadata",
			},
			Never: []Ban{
				noKopia,
				{Family: Family{Name: "controllers", Prefixes: []string{"sigs.k8s.io/controller-runtime"}}, Why: "changed blocks are asked of a socket, with a token that the caller brings"},
			},
			Why: "changed blocks come over CSI's own service and leave as the engine's extents",
		},
		{
			Package: "snapshot/csi", Uses: []string{"snapshot"}, Outside: []string{"k8s.io", "sigs.k8s.io", "github.com/kubernetes-csi/external-snapshotter/client"},
			Never: []Ban{noKopia},
			Why:   "the life of CSI snapshots is a matter of the API server alone",
		},
	}
}

func pairingRows() []Row {
	noKubernetes := Ban{Family: kubernetes(), Why: "trust between clusters is decided without an API server; pairing/secretstore keeps it in one"}
	noGRPC := Ban{Family: grpc(), Why: wireAtTheEdge}
	return []Row{
		{
			Package: "pairing", Never: []Ban{noKubernetes, noGRPC},
			Why: "tokens, peers and certificates stand on the standard library, so that they can be read in one sitting",
		},
		{
			Package: "pairing/pairingtest", Uses: []string{"pairing"}, Never: []Ban{noKubernetes, noGRPC},
			Why: "doubles know the interfaces and nothing of what implements them",
		},
		{
			Package: "pairing/rpc", Uses: []string{"pairing", "proto"},
			Outside: []string{
				"google.golang.org/grpc", "google.golang.org/protobuf", "google.golang.org/genproto/googleapis/rpc",
				"golang.org/x/time",
			},
			Never: []Ban{noKubernetes, {Family: kopia(), Why: oneStore}},
			Why:   "it turns wire into domain and back",
		},
		{
			Package: "pairing/openstorage", Uses: []string{"pairing"},
			Outside: []string{
				"google.golang.org/grpc", "google.golang.org/protobuf", "github.com/libopenstorage/openstorage/api",
				"github.com/golang-jwt/jwt/v5", "github.com/golang/protobuf",
			},
			Never: []Ban{noKubernetes, {Family: kopia(), Why: oneStore}},
			Why:   "it turns the OpenStorage SDK's wire into domain and back",
		},
		{
			Package: "pairing/secretstore", Uses: []string{"pairing"}, Outside: []string{"k8s.io", "sigs.k8s.io/controller-runtime"},
			Never: []Ban{{Family: grpc(), Why: wireAtTheEdge}, {Family: kopia(), Why: oneStore}},
			Why:   "it keeps peers in Secrets and knows nothing of how they were made",
		},
	}
}

func daemonRows() []Row {
	const api, migrate, workload = "daemon/api/v1alpha1", "daemon/migrate", "daemon/workload"
	noKopia := Ban{Family: kopia(), Why: oneStore}
	noGRPC := Ban{Family: grpc(), Why: noWireInPods}
	noDevices := Ban{Ours: "snapshot/blockdev", Why: nodeHasDisks}
	noSyscalls := Ban{Family: devices(), Direct: true, Why: nodeHasDisks}
	return []Row{
		{
			Package: api, Outside: []string{"k8s.io/apimachinery"},
			Why: "whoever wants the types gets them without the product",
		},
		{
			Package: migrate, Uses: []string{"snapshot", "pairing"},
			NoStd: []string{"os", "os/exec", "net", "net/http", "syscall", "io/fs", "database/sql"},
			Never: []Ban{{Family: kubernetes(), Why: pureDecision}, noKopia, {Family: grpc(), Why: pureDecision}},
			Why:   pureDecision,
		},
		{
			Package: "daemon/schedule", Outside: []string{"github.com/robfig/cron/v3", "github.com/hashicorp/cronexpr"},
			NoStd: []string{"os", "os/exec", "net", "net/http", "syscall"},
			Never: []Ban{{Family: kubernetes(), Why: pureDecision}, noKopia},
			Why:   pureDecision,
		},
		{
			Package: "daemon/repository", Uses: []string{api, "snapshot", "pairing"}, Outside: []string{"k8s.io", "sigs.k8s.io"},
			Never: []Ban{noKopia, noGRPC, noDevices, noSyscalls},
			Why:   "it says where a pair's repository is, and never opens one",
		},
		{
			Package: "daemon/transfer", Uses: []string{api, "snapshot/csi"}, Outside: []string{"k8s.io", "sigs.k8s.io"},
			Never: []Ban{noKopia, noGRPC, noDevices, noSyscalls},
			Why:   "it makes and ends transfer objects; what they do is the node daemon's",
		},
		{
			Package: "daemon/remote", Outside: []string{"k8s.io"},
			Never: []Ban{noKopia, noGRPC, noDevices, noSyscalls},
			Why:   "it says what a PersistentVolume's storage is known by, and asks no cluster",
		},
		{
			Package: workload, Uses: []string{api}, Outside: []string{"k8s.io", "sigs.k8s.io", "golang.org/x/sync"},
			Never: []Ban{noKopia, {Family: grpc(), Why: "objects are collected and applied in one cluster; the round carries them between two"}, noDevices},
			Why:   "it works on unstructured objects through the dynamic client",
		},
		{
			Package: "daemon/metrics", Uses: []string{api}, Outside: []string{"k8s.io", "sigs.k8s.io", "github.com/prometheus/client_golang"},
			Never: []Ban{noKopia, noGRPC, noDevices, noSyscalls},
			Why:   "it reads objects and tells figures of them",
		},
		{
			Package: "daemon/rule", Uses: []string{api}, Outside: []string{"k8s.io"},
			Never: []Ban{noKopia, noGRPC, noDevices, noSyscalls},
			Why:   "it runs commands in pods when it is told to, and knows nothing of what they are for",
		},
		{
			Package: "daemon/hook", Uses: []string{migrate}, Outside: []string{"k8s.io", "sigs.k8s.io"},
			Never: []Ban{noKopia, noGRPC, noDevices, noSyscalls},
			Why:   "it runs Jobs when it is told to, on either cluster, and knows nothing of custom resources",
		},
		{
			Package: "daemon/controller",
			Uses: []string{
				api, migrate, "daemon/hook", "daemon/remote", "daemon/rule", "daemon/repository", "daemon/schedule", "daemon/transfer", workload, "snapshot", "snapshot/csi", "pairing", "pairing/secretstore",
			},
			Outside: []string{
				"k8s.io", "sigs.k8s.io", "golang.org/x/sync", "github.com/kubernetes-csi/external-snapshotter/client",
			},
			Never: []Ban{noKopia, noGRPC, noDevices, noSyscalls},
			Why:   "reconcilers load, observe, decide, do one thing and patch status; everything else is handed to them",
		},
		{
			Package:    "daemon/node",
			Uses:       []string{api, "snapshot", "snapshot/blockdev", "snapshot/cbt"},
			AnyOutside: true,
			Never: []Ban{
				{Family: kopia(), Direct: true, Why: oneStore},
				{Ours: workload, Why: "the node daemon is privileged, and therefore must not be able to change an application's objects"},
			},
			Why: "it runs one transfer on its node, and knows nothing of applications",
		},
		{
			Package: "daemon/sdk",
			Uses:    []string{api, "daemon/repository", "snapshot", "pairing", "pairing/openstorage"},
			Outside: []string{"k8s.io", "sigs.k8s.io", "github.com/libopenstorage/openstorage/api"},
			Never:   []Ban{noKopia, noDevices, noSyscalls},
			Why:     "it turns what the OpenStorage SDK asks for into Godwit's own objects, and does nothing that these could not say",
		},
		{
			Package: "daemon/rpc", Uses: []string{migrate, "proto", "pairing", "pairing/rpc"},
			Outside: []string{
				"google.golang.org/grpc", "google.golang.org/protobuf", "google.golang.org/genproto/googleapis/rpc",
			},
			Never: []Ban{{Family: kubernetes(), Why: wireAtTheEdge}, noKopia},
			Why:   "it turns wire into migrate.Target and back",
		},
	}
}

// targetRows are the receiving side's.
func targetRows() []Row {
	const api, migrate, workload = "daemon/api/v1alpha1", "daemon/migrate", "daemon/workload"
	noKopia := Ban{Family: kopia(), Why: oneStore}
	noGRPC := Ban{Family: grpc(), Why: noWireInPods}
	noDevices := Ban{Ours: "snapshot/blockdev", Why: nodeHasDisks}
	noSyscalls := Ban{Family: devices(), Direct: true, Why: nodeHasDisks}
	return []Row{
		{
			Package: "daemon/target/admission",
			Uses:    []string{workload, "pairing"}, Outside: []string{"k8s.io"},
			Never: []Ban{noKopia, noGRPC, noDevices, noSyscalls},
			Why:   "what a pair may bring is decided by what is asked of the cluster, and never written there",
		},
		{
			Package: "daemon/target/lacks",
			Uses:    []string{workload}, Outside: []string{"k8s.io", "sigs.k8s.io", "golang.org/x/sync"},
			Never: []Ban{noKopia, noGRPC, noDevices, noSyscalls},
			Why:   "what a cluster lacks is found by asking its API server, and by nothing that it could change",
		},
		{
			Package: "daemon/target",
			Uses:    []string{api, migrate, "daemon/hook", "daemon/remote", "daemon/repository", "daemon/target/admission", "daemon/target/lacks", "daemon/transfer", workload, "snapshot", "snapshot/csi", "pairing"},
			Outside: []string{"k8s.io", "sigs.k8s.io", "golang.org/x/sync"},
			Never:   []Ban{noKopia, noDevices, noSyscalls},
			Why:     "the agent holds volumes for nodes to write, and reads rounds through what cmd wires",
		},
	}
}

func edgeRows() []Row {
	noKopia := Ban{Family: kopia(), Direct: true, Why: oneStore}
	return []Row{
		{Package: "cmd", AnyOurs: true, AnyOutside: true, Never: []Ban{noKopia}},
		{
			Package: "proto", Outside: []string{"google.golang.org/grpc", "google.golang.org/protobuf"},
			Why: "generated code needs gRPC and protobuf only",
		},
		{Package: "test/arch", Why: "it judges the code, and therefore depends on none of it"},
		{
			Package: "test/arch/portable", Outside: []string{"golang.org/x/tools/go/packages"},
			Why: "it judges the code for another system, and therefore depends on none of it",
		},
		{Package: "test", AnyOurs: true, AnyOutside: true, Never: []Ban{noKopia}},
	}
}
