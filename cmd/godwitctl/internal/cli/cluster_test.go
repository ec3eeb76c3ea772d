package cli

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/yaml"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/pairing/secretstore"
)

// cluster is a real API server with Godwit's kinds, and a kubeconfig for it.
type cluster struct {
	client     client.Client
	kubeconfig string
	environ    *envtest.Environment
}

// newCluster starts etcd and kube-apiserver. GODWIT_KUBE_BIN is the program that
// is both, by the name it is called by, or a folder that holds the two.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	program := os.Getenv("GODWIT_KUBE_BIN")
	if program == "" {
		t.Skip("needs GODWIT_KUBE_BIN: make test sets it")
	}
	info, err := os.Stat(program)
	if err != nil {
		t.Fatal(err)
	}
	folder := program
	if !info.IsDir() {
		folder = t.TempDir()
		for _, name := range []string{"etcd", "kube-apiserver", "kubectl"} {
			if err := os.Symlink(program, filepath.Join(folder, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	log.SetLogger(logr.Discard())
	environ := &envtest.Environment{BinaryAssetsDirectory: folder, ControlPlaneStartTimeout: time.Minute}
	config, err := environ.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := environ.Stop(); err != nil {
			t.Errorf("stop the API server: %v", err)
		}
	})
	scheme, err := newScheme()
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(config, client.Options{Scheme: scheme, Mapper: newMapper()})
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, environ.KubeConfig, 0o600); err != nil {
		t.Fatal(err)
	}
	return &cluster{client: c, kubeconfig: kubeconfig, environ: environ}
}

func (c *cluster) installKinds(t *testing.T) {
	t.Helper()
	crds := filepath.Join("..", "..", "..", "..", "deploy", "chart", "crds")
	if _, err := envtest.InstallCRDs(c.environ.Config, envtest.CRDInstallOptions{Paths: []string{crds}, ErrorIfPathMissing: true}); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) create(t *testing.T, objs ...client.Object) {
	t.Helper()
	for _, obj := range objs {
		if err := c.client.Create(t.Context(), obj); err != nil {
			t.Fatal(err)
		}
	}
}

// run runs a command line against the cluster.
func (c *cluster) run(t *testing.T, line string) result {
	t.Helper()
	return c.runWith(t, "", line)
}

func (c *cluster) runWith(t *testing.T, input, line string) result {
	t.Helper()
	args := append([]string{"godwitctl", "--kubeconfig", c.kubeconfig}, strings.Fields(line)...)
	return runIn(t, input, map[string]string{"AWS_SECRET_ACCESS_KEY": "from the environment"}, args...)
}

// good runs a command line that must succeed, and gives its output.
func (c *cluster) good(t *testing.T, line string) string {
	t.Helper()
	got := c.run(t, line)
	if got.code != 0 {
		t.Fatalf("%s: exit code %d: %s%s", line, got.code, got.out, got.err)
	}
	return got.out
}

// bad runs a command line that must fail in one line with the words.
func (c *cluster) bad(t *testing.T, line, words string) {
	t.Helper()
	got := c.run(t, line)
	if got.code != exitFailure || got.out != "" || strings.Count(got.err, "\n") != 1 || !strings.Contains(got.err, words) {
		t.Errorf("%s: exit code %d, output %q, error %q, want one line with %q", line, got.code, got.out, got.err, words)
	}
}

func namespace(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// TestAgainstACluster runs the program as users do, on one API server, from the
// cluster without Godwit to the Migration that ends.
func TestAgainstACluster(t *testing.T) {
	c := newCluster(t)
	c.bad(t, "get migration", "this cluster does not know Godwit's kinds: install Godwit's chart in it")
	c.bad(t, "get cp x", "this cluster does not know Godwit's kinds")
	c.installKinds(t)
	c.create(t, namespace("cms"), namespace("godwit-system"))

	t.Run("nothing there", c.testNothingThere)
	t.Run("pairing", c.testPairing)
	t.Run("two rotations at once", c.testRotatedAtOnce)
	t.Run("must-gather", c.testMustGather)
	t.Run("migration", c.testMigration)
	t.Run("wait", c.testWait)
	t.Run("schedule", c.testSchedule)
	t.Run("failover", c.testFailover)
	t.Run("activate", c.testActivate)
	t.Run("failover on the target", c.testFailoverOnTarget)
	t.Run("delete", c.testDelete)
}

func (c *cluster) testNothingThere(t *testing.T) {
	for _, kind := range []string{"clusterpair", "clusterpairs", "cp", "migration", "migrations", "backuplocation", "standby", "volumetransfer", "migrationschedules", "sp"} {
		if got := c.good(t, "get "+kind); got != "No resources found.\n" {
			t.Errorf("get %s: %q", kind, got)
		}
	}
	c.bad(t, "get migration nosuch -n cms", "Migration nosuch is not in namespace cms (there: none): check the name, and the namespace with -n")
	c.bad(t, "create migration m -n cms -c nosuch --namespaces cms", "ClusterPair nosuch is not in namespace cms (there: none)")
	c.bad(t, "generate clusterpair prodcluster -n cms", "Godwit's controller does not run in this cluster (no ConfigMap godwit-cluster-info in namespace godwit-system)")
	c.bad(t, "create backuplocation relay -n nosuch --bucket b --access-key a", `namespaces "nosuch" not found`)
	if got := c.run(t, "version"); got.code != exitFailure || !strings.HasPrefix(got.out, "Client: v1.2.3") {
		t.Errorf("version without a controller: %+v", got)
	}
}

func (c *cluster) testPairing(t *testing.T) {
	info := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "godwit-system", Name: clusterInfoName},
		Data:       map[string]string{"clusterID": "11111111-2222-3333-4444-555555555555", "clusterName": "production"},
	}
	c.create(t, info)
	c.bad(t, "generate clusterpair prodcluster -n cms", "is not complete yet")
	info.Data["caFingerprint"] = strings.Repeat("ab", 32)
	if err := c.client.Update(t.Context(), info); err != nil {
		t.Fatal(err)
	}
	c.bad(t, "generate clusterpair prodcluster -n cms", "give --endpoint HOST:PORT, or set pairing.endpoint")
	c.bad(t, "generate clusterpair prodcluster -n cms --endpoint nowhere", `--endpoint: malformed pairing request: "nowhere" is no host:port`)
	c.bad(t, "generate clusterpair prodcluster -n cms --endpoint h:1", "namespace cms has no BackupLocation for volumes to go through: create one with: godwitctl create backuplocation NAME -n cms")
	c.bad(t, "generate clusterpair prodcluster -n other --endpoint h:1", "namespace other is not in this cluster")

	if got := c.good(t, "create backuplocation relay -n cms --bucket b/p --endpoint s3.example.com --access-key AKIA"); got != "BackupLocation relay created successfully\n" {
		t.Errorf("create backuplocation: %q", got)
	}
	c.checkLocation(t)
	info.Data["endpoint"] = "target.example.com:30931"
	if err := c.client.Update(t.Context(), info); err != nil {
		t.Fatal(err)
	}
	got := c.run(t, "generate clusterpair -n cms prodcluster -s mode=OneTimeMigration")
	if got.code != 0 || strings.Count(got.err, "\n") != 1 || !strings.Contains(got.err, "in its namespace cms") {
		t.Fatalf("generate clusterpair: %+v", got)
	}
	c.checkPair(t, got.out)

	c.good(t, "create backuplocation second -n cms --bucket b --access-key AKIA")
	c.bad(t, "generate clusterpair -n cms prodcluster", "namespace cms has several BackupLocations (relay, second): name one with --backuplocation")
	c.bad(t, "generate clusterpair -n cms prodcluster --backuplocation third", "BackupLocation third is not in namespace cms (there: relay, second)")
	if out := c.good(t, "generate clusterpair -n cms prodcluster --backuplocation second"); !strings.Contains(out, "backuplocation: second") {
		t.Errorf("the named BackupLocation is not in %s", out)
	}
	if _, err := pairing.ParseToken(c.good(t, "create token -n cms --backuplocation relay --ttl 5m")); err != nil {
		t.Errorf("create token: %v", err)
	}
	if of, others := c.good(t, "get tokens -n cms"), c.good(t, "get tokens -n other"); strings.Count(of, "Open") < 2 || others != "No resources found.\n" {
		t.Errorf("tokens of namespace cms %q, and of another %q", of, others)
	}
	if out := c.good(t, "version"); !strings.Contains(out, "Server: unknown, cluster production (11111111-2222-3333-4444-555555555555), reached at target.example.com:30931") {
		t.Errorf("version: %s", out)
	}
}

func (c *cluster) checkLocation(t *testing.T) {
	t.Helper()
	var location api.BackupLocation
	if err := c.client.Get(t.Context(), client.ObjectKey{Namespace: "cms", Name: "relay"}, &location); err != nil {
		t.Fatal(err)
	}
	if location.Location.Path != "b/p" || location.Location.S3Config.Endpoint != "s3.example.com" || location.Location.S3Config.SecretAccessKey != "" {
		t.Errorf("location %+v", location.Location)
	}
	var secret corev1.Secret
	if err := c.client.Get(t.Context(), client.ObjectKey{Namespace: "cms", Name: location.Location.SecretConfig}, &secret); err != nil {
		t.Fatal(err)
	}
	if string(secret.Data["accessKeyID"]) != "AKIA" || string(secret.Data["secretAccessKey"]) != "from the environment" {
		t.Errorf("keys %q", secret.Data)
	}
	if len(secret.OwnerReferences) != 1 || secret.OwnerReferences[0].UID != location.UID {
		t.Errorf("the Secret would outlive its BackupLocation: %+v", secret.OwnerReferences)
	}
	c.checkOtherLocations(t)
	// A name that is taken leaves no Secret behind and does not touch the first one's.
	c.bad(t, "create backuplocation relay -n cms --bucket b --access-key x", "choose another name, or delete that one first")
}

// checkOtherLocations makes one of each type, with keys from files, and from a Secret
// that is there.
func (c *cluster) checkOtherLocations(t *testing.T) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "stores"}}); err != nil {
		t.Fatal(err)
	}
	for name, with := range map[string]struct {
		args string
		item api.BackupLocationItem
		keys map[string]string
	}{
		"s3": {
			"--bucket b --region r --access-key id --storage-class STANDARD_IA --sse AES256 --secret-key-file " + file,
			api.BackupLocationItem{Type: "s3", Path: "b", SecretConfig: "s3-backuplocation", S3Config: &api.S3Config{Endpoint: "s3.amazonaws.com", Region: "r", StorageClass: "STANDARD_IA", SSE: "AES256"}},
			map[string]string{"accessKeyID": "id", "secretAccessKey": "from a file"},
		},
		"role": {
			"--bucket b --endpoint s3:9000 --use-iam",
			api.BackupLocationItem{Type: "s3", Path: "b", S3Config: &api.S3Config{Endpoint: "s3:9000", UseIam: true}}, nil,
		},
		"azure": {
			"--type azure --bucket b/deep --account-name acc --environment AzureChinaCloud --account-key-file " + file,
			api.BackupLocationItem{Type: "azure", Path: "b/deep", SecretConfig: "azure-backuplocation", AzureConfig: &api.AzureConfig{StorageAccountName: "acc", Environment: "AzureChinaCloud"}},
			map[string]string{"storageAccountKey": "from a file"},
		},
		"application": {
			"-p azure --bucket b --account-name acc --tenant-id t --client-id c --client-secret-file " + file,
			api.BackupLocationItem{Type: "azure", Path: "b", SecretConfig: "application-backuplocation", AzureConfig: &api.AzureConfig{StorageAccountName: "acc", TenantID: "t", ClientID: "c"}},
			map[string]string{"clientSecret": "from a file"},
		},
		"google": {
			"--type google --bucket b --key-file " + file,
			api.BackupLocationItem{Type: "google", Path: "b", SecretConfig: "google-backuplocation", GoogleConfig: &api.GoogleConfig{}},
			map[string]string{"accountKey": "from a file"},
		},
		"hmac": {
			"--type google --bucket b --project-id p --access-key id --secret-key-file " + file,
			api.BackupLocationItem{Type: "google", Path: "b", SecretConfig: "hmac-backuplocation", GoogleConfig: &api.GoogleConfig{ProjectID: "p"}},
			map[string]string{"accessKeyID": "id", "secretAccessKey": "from a file"},
		},
		"nfs": {
			"--type nfs --bucket exports/godwit/ --server nas --sub-path team",
			api.BackupLocationItem{Type: "nfs", Path: "/exports/godwit", NFSConfig: &api.NFSConfig{ServerAddr: "nas", SubPath: "team"}}, nil,
		},
	} {
		c.checkOther(t, name, with.args, with.item, with.keys)
	}
	c.checkOther(t, "there", "--bucket b --endpoint s3:9000 --insecure-skip-verify --secret s3-backuplocation", api.BackupLocationItem{
		Type: "s3", Path: "b", SecretConfig: "s3-backuplocation", S3Config: &api.S3Config{Endpoint: "s3:9000", InsecureSkipVerify: true},
	}, nil)
	c.bad(t, "create backuplocation b -n stores --bucket b --secret nosuch", "--secret: find Secret nosuch in namespace stores")
}

func (c *cluster) checkOther(t *testing.T, name, args string, item api.BackupLocationItem, keys map[string]string) {
	t.Helper()
	c.good(t, "create backuplocation "+name+" -n stores "+args)
	var location api.BackupLocation
	if err := c.client.Get(t.Context(), client.ObjectKey{Namespace: "stores", Name: name}, &location); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(location.Location, item) {
		t.Errorf("%s: %+v, want %+v", name, location.Location, item)
	}
	if keys == nil {
		return
	}
	var secret corev1.Secret
	if err := c.client.Get(t.Context(), client.ObjectKey{Namespace: "stores", Name: item.SecretConfig}, &secret); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for k, v := range secret.Data {
		got[k] = string(v)
	}
	if !reflect.DeepEqual(got, keys) {
		t.Errorf("%s: its Secret has %v", name, got)
	}
}

// checkPair applies what generate printed, and looks at the token in it.
func (c *cluster) checkPair(t *testing.T, printed string) {
	t.Helper()
	if strings.Contains(printed, "status") || strings.Contains(printed, "creationTimestamp") || !strings.Contains(printed, `port: "30931"`) {
		t.Errorf("printed:\n%s", printed)
	}
	pair := &api.ClusterPair{}
	if err := yaml.UnmarshalStrict([]byte(printed), pair); err != nil {
		t.Fatal(err)
	}
	o := pair.Spec.Options
	if pair.Name != "prodcluster" || pair.Namespace != "cms" || o["ip"] != "target.example.com" || o["backuplocation"] != "relay" || o["mode"] != "OneTimeMigration" {
		t.Errorf("pair %+v", pair)
	}
	token, err := pairing.ParseToken(o["token"])
	if err != nil {
		t.Fatal(err)
	}
	grant, err := secretstore.New(c.client, "godwit-system").Grants().Get(t.Context(), token.ID)
	if err != nil {
		t.Fatal(err)
	}
	if !grant.Matches([]byte(token.Secret.Reveal())) || grant.Scope.String() != "cms" || grant.BackupLocation != "cms/relay" || grant.Expires.Sub(grant.Created) != pairing.DefaultTokenTTL {
		t.Errorf("grant %+v", grant)
	}
	if token.Endpoint != "target.example.com:30931" || token.ClusterName != "production" {
		t.Errorf("token %s", token)
	}
	c.create(t, pair)
}

func (c *cluster) testMigration(t *testing.T) {
	create := "create migration cmsmigration -n cms --namespaces cms,shop -c prodcluster --storage-class-mapping a=b --method block"
	if got := c.good(t, create+" --dry-run"); !strings.Contains(got, "can be created (dry run: it was not)") {
		t.Errorf("dry run: %q", got)
	}
	if got := c.good(t, "get migration -n cms"); got != "No resources found.\n" {
		t.Errorf("a dry run created %q", got)
	}
	if got := c.good(t, create); got != "Migration cmsmigration created successfully\n" {
		t.Errorf("create migration: %q", got)
	}
	c.bad(t, create, `"cmsmigration" already exists: choose another name, or delete that one first`)
	c.bad(t, "create migration Not_A_Name -n cms --namespaces cms -c prodcluster", "Not_A_Name")

	m := &api.Migration{}
	if err := yaml.Unmarshal([]byte(c.good(t, "get migration cmsmigration -n cms -o yaml")), m); err != nil {
		t.Fatal(err)
	}
	s := m.Spec
	if m.Kind != "Migration" || !*s.StartApplications || !*s.IncludeResources || s.Method != api.MethodBlock || s.StorageClassMapping["a"] != "b" || len(s.Namespaces) != 2 {
		t.Errorf("created %+v", m)
	}
	m.Status = api.MigrationStatus{Stage: "Final", Status: "Successful", Summary: &api.MigrationSummary{
		TotalNumberOfVolumes: 2, NumberOfMigratedVolumes: 2, TotalNumberOfResources: 9, NumberOfMigratedResources: 9, TotalBytesMigrated: 12345,
		ElapsedTimeForVolumeMigration: "5m0s", ElapsedTimeForResourceMigration: "1m0s",
	}}
	if err := c.client.Status().Update(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	rows := strings.Split(c.good(t, "get migrations -A -c prodcluster"), "\n")
	if strings.Join(strings.Fields(rows[0]), " ") != "NAMESPACE NAME CLUSTERPAIR STAGE STATUS VOLUMES RESOURCES CREATED ELAPSED TOTAL BYTES TRANSFERRED" ||
		!strings.HasSuffix(strings.TrimSpace(rows[1]), "Volumes (5m0s) Resources (1m0s)   12345") {
		t.Errorf("table:\n%s", strings.Join(rows, "\n"))
	}
	if got := c.good(t, "get migrations -n cms -c otherpair"); got != "No resources found.\n" {
		t.Errorf("of another pair: %q", got)
	}
	if got := c.good(t, "get migration cmsmigration -n cms -w"); !strings.Contains(got, "Final, Successful, volumes 2/2, resources 9/9\n") {
		t.Errorf("progress of one that ended: %q", got)
	}
	if got := c.good(t, "get cp -n cms -o json"); !strings.Contains(got, `"kind": "List"`) || !strings.Contains(got, `"kind": "ClusterPair"`) {
		t.Errorf("json: %s", got)
	}
	c.testFiles(t)
}

func (c *cluster) testFiles(t *testing.T) {
	t.Helper()
	file := "apiVersion: godwit.io/v1alpha1\nkind: Migration\nmetadata: {name: x, namespace: cms}\nspec: {clusterPair: prodcluster, namespaces: [cms]}\n"
	for input, want := range map[string]string{
		file: "Migration cms/x in - is valid\n",
		"# first\n---\n" + strings.Replace(file, "name: x", "name: cmsmigration", 1): "Migration cms/cmsmigration in - is valid; there is one of this name already\n",
		strings.Replace(file, "[cms]", "[]", 1):                                      "spec.namespaces",
		strings.Replace(file, "prodcluster", "nosuch", 1):                            "ClusterPair nosuch is not in namespace cms",
		"": "- holds no Migration",
	} {
		got := c.runWith(t, input, "create migration -f -")
		if !strings.Contains(got.out+got.err, want) {
			t.Errorf("%s: %+v, want %q", input, got, want)
		}
	}
}

// testWait waits for a Migration that goes on while it is watched.
func (c *cluster) testWait(t *testing.T) {
	for name, end := range map[string]api.MigrationStatus{
		"good": {Stage: "Final", Status: "Successful"},
		"bad": {Stage: "Final", Status: "PartialSuccess", Resources: []api.MigrationResourceInfo{
			{Kind: "Service", Namespace: "cms", Name: "db", Status: "Failed", Reason: "no such port"},
		}},
	} {
		done := make(chan result, 1)
		go func() {
			done <- c.run(t, "create migration "+name+" -n cms --namespaces cms -c prodcluster --wait")
		}()
		m := &api.Migration{}
		eventually(t, func() bool {
			return c.client.Get(t.Context(), client.ObjectKey{Namespace: "cms", Name: name}, m) == nil
		})
		m.Status = api.MigrationStatus{Status: "Pending", Conditions: []metav1.Condition{{
			Type: api.ConditionReady, Status: "False", Reason: "PairNotReady", Message: "the pair is not Ready", LastTransitionTime: metav1.Now(),
		}}}
		if err := c.client.Status().Update(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		// Longer than the least time between two lines.
		<-time.After(3500 * time.Millisecond)
		m.Status = end
		if err := c.client.Status().Update(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		got := <-done
		if !strings.Contains(got.out, "Pending, waiting: the pair is not Ready") {
			t.Errorf("%s: the reason to wait is not in %q", name, got.out)
		}
		switch {
		case name == "good" && (got.code != 0 || !strings.HasSuffix(got.out, "Migration good completed successfully\n")):
			t.Errorf("good: %+v", got)
		case name == "bad" && (got.code != exitFailure || !strings.Contains(got.err, "Migration cms/bad ended as PartialSuccess: Service cms/db: no such port")):
			t.Errorf("bad: %+v", got)
		}
	}
	c.testInterrupt(t)
}

func (c *cluster) testInterrupt(t *testing.T) {
	t.Helper()
	c.good(t, "create migration longone -n cms --namespaces cms -c prodcluster")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var out, errOut strings.Builder
	env := environment("", &out, &errOut, nil)
	code := Run(ctx, env, []string{"godwitctl", "--kubeconfig", c.kubeconfig, "get", "migration", "longone", "-n", "cms", "-w"})
	if code != exitInterrupted || !strings.Contains(errOut.String(), "Migration cms/longone goes on. Watch it again with: godwitctl get migration longone -n cms -w") {
		t.Errorf("exit code %d, %q, %q", code, out.String(), errOut.String())
	}
	if got := c.good(t, "get migration longone -n cms"); !strings.Contains(got, "longone") {
		t.Errorf("the Migration is gone: %s", got)
	}
}

func (c *cluster) testDelete(t *testing.T) {
	c.testRollback(t)
	c.testLimits(t)
	if got := c.good(t, "cancel migration longone -n cms"); got != "Migration longone is being cancelled: what it did is taken back on both clusters\n" {
		t.Errorf("cancel: %q", got)
	}
	c.bad(t, "cancel migration good -n cms", "Migration good has ended as Successful: there is nothing to cancel")
	c.bad(t, "cancel migration nobody -n cms", "Migration nobody is not in namespace cms")
	if got := c.good(t, "delete migration longone good -n cms"); got != "Migration longone deleted successfully\nMigration good deleted successfully\n" {
		t.Errorf("delete: %q", got)
	}
	c.bad(t, "delete migration longone -n cms", "Migration longone is not in namespace cms (there: bad, cmsmigration)")
	m := &api.Migration{}
	if err := c.client.Get(t.Context(), client.ObjectKey{Namespace: "cms", Name: "bad"}, m); err != nil {
		t.Fatal(err)
	}
	m.Finalizers = []string{api.Finalizer}
	if err := c.client.Update(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if got := c.good(t, "delete migration bad -n cms"); !strings.Contains(got, "is being deleted") {
		t.Errorf("delete with a finalizer: %q", got)
	}
	c.good(t, "delete clusterpair prodcluster -n cms")
	c.good(t, "delete backuplocation relay second -n cms")
}

// eventually looks again and again until it is so.
func eventually(t *testing.T, so func() bool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.After(20 * time.Second)
	for !so() {
		select {
		case <-timeout:
			t.Fatal("it did not come to be")
		case <-ticker.C:
		}
	}
}
