package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// longestKey is more than any key of a store.
const longestKey = 1 << 16

// secretReader reads secrets from files, standard input and the environment, and
// standard input once only.
type secretReader struct {
	*session
	by string
}

// read gives the secret of a flag that names a file, or of a variable.
func (r *secretReader) read(flag, file, variable string) (string, error) {
	if file == "" {
		if variable == "" {
			return "", nil
		}
		return r.env.Getenv(variable), nil
	}
	from := r.env.Streams.In
	if file == "-" {
		if r.by != "" {
			return "", fmt.Errorf("--%s and --%s both read standard input: give one of them a file", r.by, flag)
		}
		r.by = flag
	} else {
		f, err := os.Open(file) //nolint:gosec // the user names the file
		if err != nil {
			return "", fmt.Errorf("--%s: %w", flag, err)
		}
		defer f.Close() //nolint:errcheck // it is only read
		from = f
	}
	data, err := io.ReadAll(io.LimitReader(from, longestKey))
	if err != nil {
		return "", fmt.Errorf("--%s: %w", flag, err)
	}
	text := strings.TrimSpace(string(data))
	if text == "" {
		return "", fmt.Errorf("--%s: %s is empty", flag, file)
	}
	return text, nil
}

// secretAccessKey is that of S3, and of Google's HMAC keys.
func (f *locationFlags) secretAccessKey(in *secretReader, variable string) (string, error) {
	switch {
	case f.secretKey == "":
		return in.read("secret-key-file", f.secretKeyFile, variable)
	case f.secretKey != "-":
		return "", errors.New("--secret-key takes only -, since others can read a command line: pipe the key in, or name a file by --secret-key-file")
	case f.secretKeyFile != "":
		return "", errors.New("--secret-key and --secret-key-file are the same: leave one out")
	}
	return in.read("secret-key", "-", "")
}

func (f *locationFlags) s3(item *api.BackupLocationItem, in *secretReader) (map[string]string, error) {
	if err := f.s3Conflict(); err != nil {
		return nil, err
	}
	ca, err := f.authority()
	if err != nil {
		return nil, err
	}
	endpoint := f.endpoint
	if endpoint == "" && f.secret == "" {
		endpoint = "s3.amazonaws.com"
	}
	item.S3Config = &api.S3Config{
		Endpoint: endpoint, Region: f.region, DisableSSL: f.disableSSL || strings.HasPrefix(f.endpoint, "http://"), CABundle: ca,
		InsecureSkipVerify: f.skipVerify, StorageClass: f.storageClass, SSE: f.sse, UseIam: f.useIAM,
	}
	if item.S3Config.ObjectLock, err = f.objectLock(); err != nil {
		return nil, err
	}
	if f.useIAM || f.secret != "" {
		return nil, nil
	}
	return f.s3Keys(in)
}

func (f *locationFlags) objectLock() (*api.ObjectLock, error) {
	switch mode := strings.ToLower(f.lockMode); mode {
	case "":
		return nil, nil
	case "governance":
		return &api.ObjectLock{Mode: api.ObjectLockGovernance, Period: metav1.Duration{Duration: f.lockPeriod}}, nil
	case "compliance":
		return &api.ObjectLock{Mode: api.ObjectLockCompliance, Period: metav1.Duration{Duration: f.lockPeriod}}, nil
	}
	return nil, fmt.Errorf("--object-lock %q is not known: say governance or compliance", f.lockMode)
}

// s3Conflict tells of flags that exclude each other.
func (f *locationFlags) s3Conflict() error {
	switch {
	case f.disableSSL && (f.caFile != "" || f.skipVerify):
		return errors.New("--ca-file and --insecure-skip-verify are for TLS, and --disable-ssl is without: leave one out")
	case f.caFile != "" && f.skipVerify:
		return errors.New("--ca-file checks the certificate, and --insecure-skip-verify does not: leave one out")
	case f.disableSSL && strings.HasPrefix(f.endpoint, "https://"):
		return errors.New("--endpoint says https and --disable-ssl says http: leave one out")
	case f.sse != "" && f.sse != "AES256" && f.sse != "aws:kms":
		return fmt.Errorf("--sse %q is not known: say AES256 or aws:kms", f.sse)
	case f.givesKeys() && (f.useIAM || f.secret != ""):
		return errors.New("the keys come from --use-iam or --secret: leave out --access-key and --secret-key-file")
	}
	return nil
}

// givesKeys is true where flags say the keys of S3, or of Google.
func (f *locationFlags) givesKeys() bool {
	return f.accessKey != "" || f.secretKey != "" || f.secretKeyFile != ""
}

func (f *locationFlags) s3Keys(in *secretReader) (map[string]string, error) {
	secret, err := f.secretAccessKey(in, "AWS_SECRET_ACCESS_KEY")
	if err != nil {
		return nil, err
	}
	id := f.accessKey
	if id == "" {
		id = in.env.Getenv("AWS_ACCESS_KEY_ID")
	}
	switch {
	case id == "":
		return nil, errors.New("the BackupLocation needs an access key: give --access-key or set AWS_ACCESS_KEY_ID, or say --use-iam or --secret")
	case secret == "":
		return nil, errors.New("the BackupLocation needs a secret key: give --secret-key-file or set AWS_SECRET_ACCESS_KEY")
	}
	return map[string]string{"accessKeyID": id, "secretAccessKey": secret}, nil
}

// azureConflict tells of flags that exclude each other, and of what is missing.
func (f *locationFlags) azureConflict() error {
	switch {
	case f.environment != "" && f.environment != "AzurePublicCloud" && f.environment != "AzureChinaCloud":
		return fmt.Errorf("--environment %q is not known: say AzurePublicCloud or AzureChinaCloud", f.environment)
	case f.secret != "" && (f.accountKeyFile != "" || f.clientSecretFile != ""):
		return errors.New("the keys come from --secret: leave out --account-key-file and --client-secret-file")
	case f.byApplication() && f.accountKeyFile != "":
		return errors.New("the account is opened by its key or by an application: leave out --account-key-file, or --tenant-id, --client-id and --client-secret-file")
	case f.byApplication() && f.secret == "" && (f.tenantID == "" || f.clientID == ""):
		return errors.New("an application is named by --tenant-id and --client-id: give both")
	}
	return nil
}

func (f *locationFlags) byApplication() bool {
	return f.tenantID != "" || f.clientID != "" || f.clientSecretFile != ""
}

func (f *locationFlags) azure(item *api.BackupLocationItem, in *secretReader) (map[string]string, error) {
	item.AzureConfig = &api.AzureConfig{
		StorageAccountName: f.accountName, Environment: f.environment, TenantID: f.tenantID, ClientID: f.clientID,
		SubscriptionID: f.subscriptionID, ResourceGroupName: f.resourceGroup,
	}
	if item.AzureConfig.StorageAccountName == "" && f.secret == "" {
		item.AzureConfig.StorageAccountName = in.env.Getenv("AZURE_STORAGE_ACCOUNT")
	}
	if err := f.azureConflict(); err != nil || f.secret != "" {
		return nil, err
	}
	if item.AzureConfig.StorageAccountName == "" {
		return nil, errors.New("the BackupLocation needs a storage account: give --account-name or set AZURE_STORAGE_ACCOUNT")
	}
	if f.byApplication() {
		secret, err := in.read("client-secret-file", f.clientSecretFile, "AZURE_CLIENT_SECRET")
		if err == nil && secret == "" {
			err = errors.New("the application needs its secret: give --client-secret-file or set AZURE_CLIENT_SECRET")
		}
		return map[string]string{"clientSecret": secret}, err
	}
	key, err := in.read("account-key-file", f.accountKeyFile, "AZURE_STORAGE_KEY")
	if err == nil && key == "" {
		err = errors.New("the BackupLocation needs the account's key: give --account-key-file or set AZURE_STORAGE_KEY, or name an application")
	}
	return map[string]string{"storageAccountKey": key}, err
}

func (f *locationFlags) google(item *api.BackupLocationItem, in *secretReader) (map[string]string, error) {
	item.GoogleConfig = &api.GoogleConfig{ProjectID: f.projectID}
	switch {
	case f.secret != "" && (f.givesKeys() || f.keyFile != ""):
		return nil, errors.New("the keys come from --secret: leave out --key-file, --access-key and --secret-key-file")
	case f.givesKeys() && f.keyFile != "":
		return nil, errors.New("the bucket is opened by --key-file or by HMAC keys: leave out one of them")
	case f.secret != "":
		return nil, nil
	case f.keyFile != "":
		key, err := in.read("key-file", f.keyFile, "")
		return map[string]string{"accountKey": key}, err
	}
	secret, err := f.secretAccessKey(in, "")
	switch {
	case err != nil:
		return nil, err
	case f.accessKey == "" || secret == "":
		return nil, errors.New("the BackupLocation needs the key of a service account: give --key-file, or its HMAC keys by --access-key and --secret-key-file")
	}
	return map[string]string{"accessKeyID": f.accessKey, "secretAccessKey": secret}, nil
}
