package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// skipResource keeps the keys of an object store from moving with the application.
const skipResource = "stork.libopenstorage.org/skip-resource"

// locationFlags are the flags of create backuplocation.
type locationFlags struct {
	kind, bucket, secret string
	// S3's, and Google's by HMAC keys.
	accessKey, secretKey, secretKeyFile  string
	endpoint, region, caFile             string
	storageClass, sse                    string
	lockMode                             string
	lockPeriod                           time.Duration
	disableSSL, skipVerify, useIAM       bool
	accountName, accountKeyFile          string
	environment                          string
	tenantID, clientID, clientSecretFile string
	subscriptionID, resourceGroup        string
	projectID, keyFile                   string
	server, subPath                      string
}

func newCreateBackupLocation(s *session) *cobra.Command {
	var f locationFlags
	cmd := &cobra.Command{
		Use:     "backuplocation NAME",
		Aliases: []string{"backuplocations"},
		Short:   "Name an object store or NFS folder, and keep its keys in a Secret",
		Long: `Name an object store or NFS folder, and keep its keys in a Secret beside it.

No flag takes a secret itself, since command lines can be read by others: a
secret is read from a file, or from standard input where the file is "-", or
from AWS_SECRET_ACCESS_KEY, AZURE_STORAGE_KEY or AZURE_CLIENT_SECRET. A Secret
that is there already is named by --secret.`,
		Example: `  # S3, or what speaks it; the secret key is typed or piped in
  godwitctl create backuplocation relay -n cms --bucket my-bucket --endpoint HOST:PORT --access-key KEY --secret-key-file -
  # S3 by the role of the nodes, where the controller allows that
  godwitctl create backuplocation relay -n cms --bucket my-bucket --endpoint s3.eu-west-1.amazonaws.com --region eu-west-1 --use-iam
  # Azure by an account's key, and by an application of its directory
  godwitctl create backuplocation relay -n cms --type azure --bucket my-container --account-name ACCOUNT --account-key-file FILE
  godwitctl create backuplocation relay -n cms --type azure --bucket my-container --account-name ACCOUNT --tenant-id T --client-id C --client-secret-file FILE
  # Google by the key of a service account, and by its HMAC keys
  godwitctl create backuplocation relay -n cms --type google --bucket my-bucket --key-file key.json
  godwitctl create backuplocation relay -n cms --type google --bucket my-bucket --access-key KEY --secret-key-file FILE
  # An NFS folder that the chart's value nfs mounts
  godwitctl create backuplocation relay -n cms --type nfs --bucket /exports/godwit --server nas`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.createBackupLocation(cmd, &f, args)
		},
	}
	f.add(cmd)
	return cmd
}

func (f *locationFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&f.kind, "type", "p", string(api.S3Location), "s3, azure, google or nfs")
	flags.StringVar(&f.bucket, "bucket", "", "Bucket or container, and after a slash an optional prefix in it; for nfs the folder that the server exports (required)")
	flags.StringVar(&f.secret, "secret", "", "Secret of the namespace that has the keys already, by the names of stork's fields")

	flags.StringVar(&f.endpoint, "endpoint", "", "s3: host or host:port of the store; empty for AWS")
	flags.StringVar(&f.region, "region", "", "s3: region of the bucket")
	flags.StringVar(&f.accessKey, "access-key", "", "s3, google: access key id (or AWS_ACCESS_KEY_ID for s3)")
	flags.StringVar(&f.secretKeyFile, "secret-key-file", "", "s3, google: file with the secret access key (or AWS_SECRET_ACCESS_KEY for s3)")
	flags.StringVar(&f.secretKey, "secret-key", "", "s3, google: only -, which reads it from standard input")
	flags.StringVar(&f.caFile, "ca-file", "", "s3: PEM file with the authority of the store's certificate, where no public one signed it")
	flags.StringVar(&f.storageClass, "storage-class", "", "s3: class that objects are stored in")
	flags.StringVar(&f.sse, "sse", "", "s3: have the store encrypt once more: AES256 or aws:kms")
	flags.StringVar(&f.lockMode, "object-lock", "", "s3: lock what is written against deletion: governance, or compliance, which binds the store's owner too; the bucket has to be made with object lock")
	flags.DurationVar(&f.lockPeriod, "object-lock-period", 30*24*time.Hour, "s3: how long; what is still needed is locked for longer by itself; at least 48h")
	flags.BoolVar(&f.disableSSL, "disable-ssl", false, "s3: speak plain HTTP")
	flags.BoolVar(&f.skipVerify, "insecure-skip-verify", false, "s3: do not check the store's certificate")
	flags.BoolVar(&f.useIAM, "use-iam", false, "s3: take the keys of the nodes' role; the chart's cloudRole.allowed has to let it")

	flags.StringVar(&f.accountName, "account-name", "", "azure: storage account (or AZURE_STORAGE_ACCOUNT)")
	flags.StringVar(&f.accountKeyFile, "account-key-file", "", "azure: file with the account's key (or AZURE_STORAGE_KEY)")
	flags.StringVar(&f.environment, "environment", "", "azure: AzurePublicCloud or AzureChinaCloud")
	flags.StringVar(&f.tenantID, "tenant-id", "", "azure: directory of the application that opens the account in place of its key")
	flags.StringVar(&f.clientID, "client-id", "", "azure: the application")
	flags.StringVar(&f.clientSecretFile, "client-secret-file", "", "azure: file with the application's secret (or AZURE_CLIENT_SECRET)")
	flags.StringVar(&f.subscriptionID, "subscription-id", "", "azure: as in stork; not needed")
	flags.StringVar(&f.resourceGroup, "resource-group", "", "azure: as in stork; not needed")

	flags.StringVar(&f.keyFile, "key-file", "", "google: file with a service account's key in JSON")
	flags.StringVar(&f.projectID, "project-id", "", "google: as in stork; not needed")

	flags.StringVar(&f.server, "server", "", "nfs: the server, as the chart's value nfs spells it")
	flags.StringVar(&f.subPath, "sub-path", "", "nfs: a folder below the exported one")
}

// flagsOf are the flags that a type has beside those of all.
func flagsOf(kind api.BackupLocationType) []string {
	switch kind {
	case api.S3Location:
		return []string{"endpoint", "region", "access-key", "secret-key", "secret-key-file", "ca-file", "storage-class", "sse", "object-lock", "object-lock-period", "disable-ssl", "insecure-skip-verify", "use-iam"}
	case api.AzureLocation:
		return []string{"account-name", "account-key-file", "environment", "tenant-id", "client-id", "client-secret-file", "subscription-id", "resource-group"}
	case api.GoogleLocation:
		return []string{"access-key", "secret-key", "secret-key-file", "key-file", "project-id"}
	case api.NFSLocation:
		return []string{"server", "sub-path"}
	}
	return nil
}

func (s *session) createBackupLocation(cmd *cobra.Command, f *locationFlags, args []string) error {
	ctx := cmd.Context()
	name, err := exactlyOne("backuplocation", args)
	if err != nil {
		return err
	}
	item, keys, err := s.describeLocation(cmd, f)
	if err != nil {
		return err
	}
	namespace, err := s.namespace()
	if err != nil {
		return err
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	location := &api.BackupLocation{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Location: item}
	if len(keys) == 0 {
		if err := s.secretThere(ctx, c, namespace, item.SecretConfig); err != nil {
			return err
		}
		if err := c.Create(ctx, location); err != nil {
			return s.fail(fmt.Sprintf("create BackupLocation %s in namespace %s", name, namespace), err)
		}
		return s.out("BackupLocation %v created successfully", name)
	}
	secret := keepKeys(namespace, name, keys)
	location.Location.SecretConfig = secret.Name
	if err := c.Create(ctx, secret); err != nil {
		return s.fail(fmt.Sprintf("create Secret %s in namespace %s", secret.Name, namespace), err)
	}
	if err := c.Create(ctx, location); err != nil {
		failed := s.fail(fmt.Sprintf("create BackupLocation %s in namespace %s", name, namespace), err)
		// Keys that nothing uses must not stay behind.
		return errors.Join(failed, s.fail("remove Secret "+secret.Name, c.Delete(ctx, secret)))
	}
	if err := s.own(ctx, c, secret, location); err != nil {
		return err
	}
	return s.out("BackupLocation %v created successfully", name)
}

// secretThere looks for the Secret that --secret names.
func (s *session) secretThere(ctx context.Context, c client.Client, namespace, name string) error {
	if name == "" {
		return nil
	}
	if err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &corev1.Secret{}); err != nil {
		return s.fail(fmt.Sprintf("--secret: find Secret %s in namespace %s", name, namespace), err)
	}
	return nil
}

// own lets the Secret go when its BackupLocation goes.
func (s *session) own(ctx context.Context, c client.Client, secret *corev1.Secret, location *api.BackupLocation) error {
	before := client.MergeFrom(secret.DeepCopy())
	secret.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: api.GroupVersion().String(), Kind: "BackupLocation", Name: location.Name, UID: location.UID,
	}}
	if err := c.Patch(ctx, secret, before); err != nil {
		return s.fail(fmt.Sprintf("BackupLocation %s is created, but its Secret %s would stay when it is deleted", location.Name, secret.Name), err)
	}
	return nil
}

// keepKeys gives the Secret of a location's keys. The location's name in its own
// tells it from others'.
func keepKeys(namespace, location string, keys map[string]string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: location + "-backuplocation",
			Annotations: map[string]string{skipResource: "true"},
		},
		StringData: keys,
	}
}

// describeLocation gives the location and the keys for its Secret; none where there
// is one already, or none is needed.
func (s *session) describeLocation(cmd *cobra.Command, f *locationFlags) (api.BackupLocationItem, map[string]string, error) {
	item := api.BackupLocationItem{Type: api.BackupLocationType(f.kind), SecretConfig: f.secret}
	if err := f.fits(cmd, item.Type); err != nil {
		return item, nil, err
	}
	item.Path = strings.Trim(f.bucket, "/")
	if item.Path == "" {
		return item, nil, errors.New("the BackupLocation needs a bucket, container or folder: give --bucket NAME")
	}
	in := &secretReader{session: s}
	var keys map[string]string
	var err error
	switch item.Type {
	case api.S3Location:
		keys, err = f.s3(&item, in)
	case api.AzureLocation:
		keys, err = f.azure(&item, in)
	case api.GoogleLocation:
		keys, err = f.google(&item, in)
	case api.NFSLocation:
		item.Path = "/" + item.Path
		item.NFSConfig = &api.NFSConfig{ServerAddr: f.server, SubPath: f.subPath}
		if f.server == "" && f.secret == "" {
			err = errors.New("the BackupLocation needs a server: give --server")
		}
	}
	return item, keys, err
}

// fits refuses flags of another type.
func (f *locationFlags) fits(cmd *cobra.Command, kind api.BackupLocationType) error {
	if flagsOf(kind) == nil {
		return fmt.Errorf("--type %q is not known: say s3, azure, google or nfs", f.kind)
	}
	own := map[string]bool{}
	for _, name := range flagsOf(kind) {
		own[name] = true
	}
	for _, other := range []api.BackupLocationType{api.S3Location, api.AzureLocation, api.GoogleLocation, api.NFSLocation} {
		for _, name := range flagsOf(other) {
			if cmd.Flags().Changed(name) && !own[name] {
				return fmt.Errorf("--%s is for --type %s, and this is %s: leave one out", name, other, kind)
			}
		}
	}
	return nil
}

// authority is the PEM of --ca-file, checked.
func (f *locationFlags) authority() (string, error) {
	if f.caFile == "" {
		return "", nil
	}
	pem, err := os.ReadFile(f.caFile)
	if err != nil {
		return "", fmt.Errorf("--ca-file: %w", err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		return "", fmt.Errorf("--ca-file: %s holds no certificate in PEM form", f.caFile)
	}
	return string(pem), nil
}
