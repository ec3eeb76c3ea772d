package cli

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/quantity"
	"github.com/godwit-io/godwit/snapshot"
)

// shortestPassword keeps the keys of a new repository from being guessed.
const shortestPassword = 16

// leastMemory is what a transfer needs to move at all.
const leastMemory = 32 << 20

// ownMemory is what the program takes beside the volume's data: indexes, and
// buffers of the network.
const ownMemory = 32 << 20

// gcPercent is how much garbage may come with what is in use: most of that is
// buffers, which cost nothing to look through again.
const gcPercent = 50

// repoForms are the ways to name a repository.
const repoForms = "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, azure://CONTAINER/PREFIX or file:///PATH"

// volumeFlags are those that all volume commands share.
type volumeFlags struct {
	repo, endpoint, region, caFile string
	passwordFile, cacheDir         string
	cpuProfile, rate, memory       string
	json, quiet                    bool
	workers                        int
}

func (f *volumeFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.repo, "repo", "", "The repository: "+repoForms+" (required)")
	flags.StringVar(&f.endpoint, "endpoint", "", "Host, host:port or URL of the object store (or AWS_ENDPOINT_URL; default AWS); of Azure what follows the account (or AZURE_STORAGE_DOMAIN)")
	flags.StringVar(&f.region, "region", "", "Region of an S3 bucket (or AWS_REGION)")
	flags.StringVar(&f.caFile, "ca-file", "", "PEM file with the authority of the store's certificate (or AWS_CA_BUNDLE)")
	flags.StringVar(&f.passwordFile, "password-file", "", "File that holds the repository's password (or KOPIA_PASSWORD)")
	flags.StringVar(&f.cacheDir, "cache-dir", "", "Folder for a bounded cache of indexes (default: in the user's cache folder)")
	flags.StringVar(&f.rate, "rate", "", "Move at most so many bytes a second, such as 50MiB: to and from a device or a file; for a folder, to and from the repository (default: no bound)")
	flags.StringVar(&f.memory, "memory", "160MiB", "Hold at most so much of the volume in memory")
	flags.StringVar(&f.cpuProfile, "cpu-profile", "", "Write a CPU profile to this file")
	flags.BoolVar(&f.json, "json", false, "Write the result as JSON")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "Show no progress")
	flags.IntVar(&f.workers, "workers", 0, "How many work on a device or a file at once (default: the engine's choice)")
}

// bounds are --rate and --memory.
func (f *volumeFlags) bounds() (*snapshot.Limiter, *snapshot.Budget, error) {
	memory, err := quantity.ParseBytes(f.memory)
	if err != nil || memory < leastMemory {
		return nil, nil, fmt.Errorf("--memory %q is no size of at least %s", f.memory, quantity.Bytes(leastMemory))
	}
	if f.rate == "" {
		return nil, snapshot.NewBudget(memory), nil
	}
	rate, err := quantity.ParseBytes(strings.TrimSuffix(f.rate, "/s"))
	if err != nil || rate < 1 {
		return nil, nil, fmt.Errorf("--rate %q is no rate: say how many bytes a second, such as 50MiB", f.rate)
	}
	limiter, err := snapshot.NewLimiter(snapshot.Limits{Rate: snapshot.Rate{Bytes: rate}})
	return limiter, snapshot.NewBudget(memory), err
}

// location says where the repository is, from flags and environment.
func (s *session) location(f *volumeFlags) (snapshot.Location, error) {
	l, err := s.place(f)
	if err != nil {
		return l, err
	}
	if l.Password, err = s.password(f); err != nil {
		return l, err
	}
	if l.Host, err = os.Hostname(); err != nil {
		return l, fmt.Errorf("find the name of this machine: %w", err)
	}
	l.CacheDir = f.cacheDir
	if l.CacheDir == "" {
		// Without a home there is no lasting cache, and the store makes one for this run.
		if base, err := os.UserCacheDir(); err == nil {
			l.CacheDir = filepath.Join(base, "godwit", "repositories")
		}
	}
	return l, nil
}

// place reads --repo.
func (s *session) place(f *volumeFlags) (snapshot.Location, error) {
	if f.repo == "" {
		return snapshot.Location{}, errors.New("which repository? Say --repo " + repoForms)
	}
	u, err := url.Parse(f.repo)
	switch {
	case err != nil:
		// The error would repeat what may be a key.
		return snapshot.Location{}, errors.New("--repo is no URL: say " + repoForms)
	case u.User != nil:
		return snapshot.Location{}, fmt.Errorf("--repo must not hold keys: the environment does, as %s volume --help shows", s.program)
	case u.RawQuery != "" || u.Fragment != "":
		return snapshot.Location{}, fmt.Errorf("--repo %s has more than a place: leave out what follows ? or #", f.repo)
	case u.Scheme == "file" && u.Host == "" && strings.HasPrefix(u.Path, "/") && u.Path != "/":
		return snapshot.Location{Type: snapshot.Filesystem, Path: filepath.Clean(u.Path)}, f.unused("a folder", "endpoint", "region", "ca-file")
	case u.Host == "":
	case u.Scheme == "s3":
		return s.bucket(f, u)
	case u.Scheme == "gs":
		return s.googleBucket(f, u)
	case u.Scheme == "azure":
		return s.container(f, u)
	}
	return snapshot.Location{}, fmt.Errorf("--repo %q is not known: say %s", f.repo, repoForms)
}

// unused refuses flags that mean nothing for a kind of store.
func (f *volumeFlags) unused(store string, flags ...string) error {
	said := map[string]string{"endpoint": f.endpoint, "region": f.region, "ca-file": f.caFile}
	for _, flag := range flags {
		if said[flag] != "" {
			return fmt.Errorf("--%s is not for %s: leave it out", flag, store)
		}
	}
	return nil
}

// prefixOf is what the path of a bucket's URL says.
func prefixOf(u *url.URL) string {
	if prefix := strings.Trim(u.Path, "/"); prefix != "" {
		return prefix + "/"
	}
	return ""
}

func (s *session) bucket(f *volumeFlags, u *url.URL) (snapshot.Location, error) {
	l := snapshot.Location{
		Type: snapshot.S3, Bucket: u.Host, Prefix: prefixOf(u),
		AccessKeyID: s.env.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: snapshot.Secret(s.env.Getenv("AWS_SECRET_ACCESS_KEY")),
		Region: firstOf(f.region, s.env.Getenv("AWS_REGION"), s.env.Getenv("AWS_DEFAULT_REGION")),
	}
	switch {
	case l.AccessKeyID == "" || l.SecretAccessKey == "":
		return l, errors.New("the bucket's keys are missing: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	case s.env.Getenv("AWS_SESSION_TOKEN") != "":
		return l, errors.New("AWS_SESSION_TOKEN is set, and keys that expire are not served yet: use lasting keys and unset it")
	}
	endpoint := firstOf(f.endpoint, s.env.Getenv("AWS_ENDPOINT_URL_S3"), s.env.Getenv("AWS_ENDPOINT_URL"))
	switch {
	case endpoint == "" && l.Region != "":
		endpoint = "s3." + l.Region + ".amazonaws.com"
	case endpoint == "":
		endpoint = "s3.amazonaws.com"
	}
	l.Endpoint, l.DisableTLS = hostOf(endpoint)
	file := firstOf(f.caFile, s.env.Getenv("AWS_CA_BUNDLE"))
	if file == "" || l.DisableTLS {
		return l, nil
	}
	pem, err := os.ReadFile(file) //nolint:gosec // the user names it
	if err != nil {
		return l, fmt.Errorf("--ca-file: %w", err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		return l, fmt.Errorf("--ca-file: %s holds no certificate in PEM form", file)
	}
	l.CABundle = pem
	return l, nil
}

// googleBucket is opened by the key of a service account.
func (s *session) googleBucket(f *volumeFlags, u *url.URL) (snapshot.Location, error) {
	l := snapshot.Location{Type: snapshot.GCS, Bucket: u.Host, Prefix: prefixOf(u)}
	if err := f.unused("Google's store", "endpoint", "region", "ca-file"); err != nil {
		return l, err
	}
	file := s.env.Getenv("GOOGLE_APPLICATION_CREDENTIALS")
	if file == "" {
		return l, errors.New("the key of a service account is missing: set GOOGLE_APPLICATION_CREDENTIALS to its file; with HMAC keys say --repo s3:// and --endpoint storage.googleapis.com")
	}
	key, err := os.ReadFile(file) //nolint:gosec // the user names it
	if err != nil {
		return l, fmt.Errorf("GOOGLE_APPLICATION_CREDENTIALS: %w", err)
	}
	l.ServiceAccount = snapshot.Secret(key)
	return l, nil
}

// container is Azure's bucket, opened by the account's key or by an application.
func (s *session) container(f *volumeFlags, u *url.URL) (snapshot.Location, error) {
	l := snapshot.Location{
		Type: snapshot.Azure, Bucket: u.Host, Prefix: prefixOf(u),
		AccessKeyID: s.env.Getenv("AZURE_STORAGE_ACCOUNT"), SecretAccessKey: snapshot.Secret(s.env.Getenv("AZURE_STORAGE_KEY")),
	}
	if l.SecretAccessKey == "" {
		l.Application = snapshot.Application{
			TenantID: s.env.Getenv("AZURE_TENANT_ID"), ClientID: s.env.Getenv("AZURE_CLIENT_ID"),
			ClientSecret: snapshot.Secret(s.env.Getenv("AZURE_CLIENT_SECRET")),
		}
	}
	if l.AccessKeyID == "" || l.SecretAccessKey == "" && l.Application == (snapshot.Application{}) {
		return l, errors.New("what opens the container is missing: set AZURE_STORAGE_ACCOUNT, and AZURE_STORAGE_KEY or AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET")
	}
	l.Endpoint, l.DisableTLS = hostOf(firstOf(f.endpoint, s.env.Getenv("AZURE_STORAGE_DOMAIN")))
	return l, f.unused("Azure's store", "region", "ca-file")
}

// hostOf takes an endpoint's scheme off, which says whether TLS is spoken.
func hostOf(endpoint string) (host string, plain bool) {
	host, plain = strings.CutPrefix(endpoint, "http://")
	return strings.TrimSuffix(strings.TrimPrefix(host, "https://"), "/"), plain
}

// password is the repository's, which no command line shows.
func (s *session) password(f *volumeFlags) (snapshot.Secret, error) {
	if f.passwordFile == "" {
		if password := s.env.Getenv("KOPIA_PASSWORD"); password != "" {
			return snapshot.Secret(password), nil
		}
		return "", errors.New("the repository's password is missing: set KOPIA_PASSWORD or name a file with --password-file")
	}
	data, err := os.ReadFile(f.passwordFile)
	if err != nil {
		return "", fmt.Errorf("--password-file: %w", err)
	}
	password := strings.TrimRight(string(data), "\r\n")
	if password == "" {
		return "", fmt.Errorf("--password-file: %s is empty", f.passwordFile)
	}
	return snapshot.Secret(password), nil
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
