package cli

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/progress"
)

// result is what one run of the program gave.
type result struct {
	code     int
	out, err string
}

// runIn runs a command line with no terminal and the given input and environment.
func runIn(t *testing.T, input string, env map[string]string, args ...string) result {
	t.Helper()
	var out, errOut strings.Builder
	code := Run(t.Context(), environment(input, &out, &errOut, env), args)
	return result{code: code, out: out.String(), err: errOut.String()}
}

func environment(input string, out, errOut io.Writer, env map[string]string) Environment {
	return Environment{
		Streams:  genericiooptions.IOStreams{In: strings.NewReader(input), Out: out, ErrOut: errOut},
		Version:  "v1.2.3",
		Terminal: func() (progress.Size, bool) { return progress.Size{}, false },
		Getenv:   func(key string) string { return env[key] },
	}
}

func TestBadInputIsOneClearLine(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("KUBECONFIG", filepath.Join(folder, "none"))
	notPEM := filepath.Join(folder, "ca.pem")
	if err := os.WriteFile(notPEM, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys := "--bucket b --access-key a --secret-key-file " + secret + " "
	azure, google := "create backuplocation b --type azure --bucket x ", "create backuplocation b --type google --bucket x "
	for args, want := range map[string]string{
		"":                                  "godwitctl needs a command: get, create, plan, generate, delete, cancel, rollback, limit, perform, activate, deactivate, drill, suspend, resume, logs, must-gather, volume or version",
		"frobnicate":                        `godwitctl does not know "frobnicate"`,
		"get":                               "godwitctl get needs a kind: clusterpair, migration, backuplocation, migrationschedule, schedulepolicy, standby, action, drill, volumetransfer or transferlimit",
		"get pods":                          `godwitctl get does not know "pods"`,
		"get cp --nosuch":                   "unknown flag: --nosuch: see godwitctl get clusterpair --help",
		"get cp -o name":                    `--output "name" is not known: say table, wide, json or yaml`,
		"get migration -A -n cms":           "--namespace and --all-namespaces exclude each other",
		"get migration m -A":                "--all-namespaces and a name exclude each other",
		"get migration a b -w":              "--watch takes one name or none",
		"get migration":                     "no cluster is configured: name a kubeconfig with --kubeconfig or KUBECONFIG",
		"get cp --kubeconfig /nosuch/file":  "check --kubeconfig and --context",
		"get cp --context nosuch":           `context was not found for specified context: nosuch: check --kubeconfig and --context`,
		"create token -w":                   "--watch does not apply to godwitctl create token: leave it out",
		"create token x":                    "takes no name: leave out x",
		"create token --ttl 0s":             "--ttl 0s is no time to use the token in",
		"create token --ttl soon":           `invalid argument "soon" for "--ttl" flag`,
		"create migration":                  "exactly one name needs to be provided for migration name",
		"create migration a b":              "exactly one name needs to be provided for migration name",
		"create migration m --namespaces a": "ClusterPair name needs to be provided for migration",
		"create migration m -c p":           "need to provide atleast one namespace to migrate",
		"create migration m -c p --namespaces a --method x":                       `--method "x" is not known: say Auto, Block or Filesystem`,
		"create migration m -c p --namespaces a --storage-class-mapping x":        "x must be formatted as key=value",
		"create migration m -c p --namespaces a --wait --dry-run":                 "leave one out",
		"create migration m -c p --namespaces a --wait -o yaml":                   "leave one out",
		"create migration m -f x.yaml":                                            "leave out m",
		"create migration -f x.yaml --wait":                                       "leave out --wait",
		"create migration -f /nosuch.yaml":                                        "open /nosuch.yaml: no such file",
		"create backuplocation":                                                   "exactly one name needs to be provided for backuplocation name",
		"create backuplocation b":                                                 "give --bucket NAME",
		"create backuplocation b --bucket x":                                      "give --access-key or set AWS_ACCESS_KEY_ID",
		"create backuplocation b --bucket x --access-key a":                       "give --secret-key-file or set AWS_SECRET_ACCESS_KEY",
		"create backuplocation b --bucket x --access-key a --secret-key s":        "--secret-key takes only -, since others can read a command line",
		"create backuplocation b --bucket x --access-key a --secret-key-file /no": "--secret-key-file: open /no: no such file",
		"create backuplocation b --bucket x --access-key a --secret-key-file -":   "--secret-key-file: - is empty",
		"create backuplocation b --bucket x --access-key a --use-iam":             "leave out --access-key and --secret-key-file",
		"create backuplocation b --bucket x --sse rot13":                          `--sse "rot13" is not known`,
		"create backuplocation b --type swift --bucket x":                         `--type "swift" is not known: say s3, azure, google or nfs`,
		"create backuplocation b --type nfs --bucket x --region r":                "--region is for --type s3, and this is nfs: leave one out",
		"create backuplocation b --type nfs --bucket x":                           "give --server",
		"create backuplocation b --bucket x --server nas":                         "--server is for --type nfs, and this is s3",
		azure:                                    "give --account-name or set AZURE_STORAGE_ACCOUNT",
		azure + "--account-name a":               "give --account-key-file or set AZURE_STORAGE_KEY, or name an application",
		azure + "--account-name a --tenant-id t": "named by --tenant-id and --client-id: give both",
		azure + "--account-name a --tenant-id t --client-id c":                "give --client-secret-file or set AZURE_CLIENT_SECRET",
		azure + "--account-name a --client-id c --account-key-file " + secret: "by its key or by an application",
		azure + "--account-name a --environment Mars":                         `--environment "Mars" is not known`,
		azure + "--secret s --account-key-file " + secret:                     "the keys come from --secret",
		google:                                 "its HMAC keys by --access-key and --secret-key-file",
		google + "--key-file /no":              "--key-file: open /no: no such file",
		google + "--key-file - --access-key a": "leave out one of them",
		google + "--access-key a":              "its HMAC keys by --access-key and --secret-key-file",
		"create backuplocation b " + keys + "--ca-file /nosuch":                   "--ca-file: open /nosuch: no such file",
		"create backuplocation b " + keys + "--ca-file " + notPEM:                 "holds no certificate in PEM form",
		"create backuplocation b " + keys + "--disable-ssl --ca-file " + notPEM:   "leave one out",
		"create backuplocation b " + keys + "--disable-ssl --endpoint https://s3": "leave one out",
		"generate clusterpair":                                             "exactly one name needs to be provided for clusterpair name",
		"generate clusterpair No_Name":                                     `"No_Name" cannot be the name of a ClusterPair`,
		"generate clusterpair p -s token=x":                                "--storageoptions cannot set token",
		"generate clusterpair p -s port=1":                                 "--storageoptions cannot set port: use --endpoint",
		"create schedulepolicy":                                            "exactly one name needs to be provided for schedule policy name",
		"create sp p -t Hourly":                                            `--policy-type "Hourly" is not known: say Interval, Daily, Weekly or Monthly`,
		"create sp p -t Daily --time noon":                                 `--time: "noon" is no time of day`,
		"create sp p -t Daily -i 5":                                        "--interval-minutes does not apply to --policy-type Daily",
		"create sp p -t Weekly --day-of-week Caturday":                     `--day-of-week: "Caturday" is no day of the week`,
		"create sp p -t Monthly --date-of-month 32":                        "--date-of-month is 32",
		"create sp p -i 0":                                                 "--interval-minutes is 0: the least is 1",
		"create sp p --time-zone Mars":                                     `--time-zone "Mars" is no time zone`,
		"create migrationschedule m --namespaces a":                        "ClusterPair name needs to be provided for migration schedule",
		"create migrationschedule m -c p":                                  "need to provide atleast one namespace to migrate",
		"create migrationschedule m -c p --namespaces a -i 5 -s x":         "--interval and --schedule-policy-name exclude each other",
		"create migrationschedule m -c p --namespaces a --continuous -s x": "--continuous goes by no policy",
		"suspend":                        "suspend needs a kind: migrationschedule",
		"suspend migrationschedule":      "suspend migrationschedule needs either names or --clusterPair",
		"activate":                       "activate needs a kind: migration",
		"activate migration x":           "takes no name: leave out x",
		"deactivate migration -A -n cms": "--namespace and --all-namespaces exclude each other",
		"deactivate migration -a -n cms": "--namespace and --all exclude each other",
		"perform":                        "perform needs what to perform: failover",
		"perform failover":               "--migration-reference is missing",
		"delete migration":               "delete migration needs at least one name",
	} {
		t.Run(args, func(t *testing.T) {
			got := runIn(t, "", nil, append([]string{"godwitctl"}, strings.Fields(args)...)...)
			if got.code != exitFailure || got.out != "" {
				t.Errorf("exit code %d, output %q", got.code, got.out)
			}
			if !strings.HasPrefix(got.err, "error: ") || strings.Count(got.err, "\n") != 1 || !strings.Contains(got.err, want) {
				t.Errorf("got %q, want one line with %q", got.err, want)
			}
		})
	}
}

func TestNameOfTheProgram(t *testing.T) {
	got := runIn(t, "", nil, "/usr/local/bin/kubectl-godwit", "get")
	if !strings.HasPrefix(got.err, "error: kubectl godwit get needs a kind") {
		t.Errorf("got %q", got.err)
	}
}

func TestVersionOfTheClientAlone(t *testing.T) {
	got := runIn(t, "", nil, "godwitctl", "version", "--client")
	if got.code != 0 || !strings.HasPrefix(got.out, "Client: v1.2.3 (go") {
		t.Errorf("got %+v", got)
	}
}

func TestReadMigration(t *testing.T) {
	for doc, want := range map[string]string{
		"# nothing\n": "",
		"apiVersion: stork.libopenstorage.org/v1alpha1\nkind: Migration":         "change its kind or apiVersion",
		"apiVersion: godwit.io/v1alpha1\nkind: Migration\nspec: {clusterPar: x}": `unknown field "spec.clusterPar"`,
		"just text": "cannot unmarshal",
		"name: x":   `it is a "" of ""`,
	} {
		m, err := readMigration([]byte(doc))
		if want == "" {
			if m != nil || err != nil {
				t.Errorf("%q: %v, %v", doc, m, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", doc, err, want)
		}
	}
}
