package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

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
	bucket, endpoint, region string
	accessKey, secretKey     string
	caFile                   string
	disableSSL               bool
}

func newCreateBackupLocation(s *session) *cobra.Command {
	var f locationFlags
	cmd := &cobra.Command{
		Use:     "backuplocation NAME",
		Aliases: []string{"backuplocations"},
		Short:   "Name an object store, and keep its keys in a Secret",
		Long: `Name an object store, and keep its keys in a Secret beside it.

Keys that are not given as flags are taken from AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY, so that they need not stand in a command line.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.createBackupLocation(cmd.Context(), f, args)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.bucket, "bucket", "", "Bucket, and after a slash an optional prefix in it (required)")
	flags.StringVar(&f.endpoint, "endpoint", "", "Host or host:port of the store; empty for AWS")
	flags.StringVar(&f.region, "region", "", "Region of the bucket")
	flags.StringVar(&f.accessKey, "access-key", "", "Access key id (or AWS_ACCESS_KEY_ID)")
	flags.StringVar(&f.secretKey, "secret-key", "", "Secret access key; - reads it from standard input (or AWS_SECRET_ACCESS_KEY)")
	flags.StringVar(&f.caFile, "ca-file", "", "PEM file with the authority of the store's certificate, where no public one signed it")
	flags.BoolVar(&f.disableSSL, "disable-ssl", false, "Speak plain HTTP")
	return cmd
}

func (s *session) createBackupLocation(ctx context.Context, f locationFlags, args []string) error {
	name, err := exactlyOne("backuplocation", args)
	if err != nil {
		return err
	}
	if err := s.complete(&f); err != nil {
		return err
	}
	ca, err := f.authority()
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
	secret := f.secret(namespace, name)
	location := f.location(namespace, name, secret.Name, ca)
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

// complete takes from the environment what the flags leave out, and checks the rest.
func (s *session) complete(f *locationFlags) error {
	if f.accessKey == "" {
		f.accessKey = s.env.Getenv("AWS_ACCESS_KEY_ID")
	}
	if f.secretKey == "" {
		f.secretKey = s.env.Getenv("AWS_SECRET_ACCESS_KEY")
	}
	if f.secretKey == "-" {
		read, err := io.ReadAll(io.LimitReader(s.env.Streams.In, 1<<16))
		if err != nil {
			return fmt.Errorf("read the secret key from standard input: %w", err)
		}
		f.secretKey = strings.TrimSpace(string(read))
	}
	switch {
	case strings.Trim(f.bucket, "/") == "":
		return errors.New("the BackupLocation needs a bucket: give --bucket NAME")
	case f.accessKey == "":
		return errors.New("the BackupLocation needs an access key: give --access-key or set AWS_ACCESS_KEY_ID")
	case f.secretKey == "":
		return errors.New("the BackupLocation needs a secret key: give --secret-key or set AWS_SECRET_ACCESS_KEY")
	case f.disableSSL && f.caFile != "":
		return errors.New("--ca-file is for TLS, and --disable-ssl is without: leave one out")
	case f.disableSSL && strings.HasPrefix(f.endpoint, "https://"):
		return errors.New("--endpoint says https and --disable-ssl says http: leave one out")
	}
	return nil
}

// authority is the PEM of --ca-file, checked.
func (f locationFlags) authority() (string, error) {
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

// secret keeps the keys. The name of its location in it tells it from others'.
func (f locationFlags) secret(namespace, location string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: location + "-backuplocation",
			Annotations: map[string]string{skipResource: "true"},
		},
		StringData: map[string]string{"accessKeyID": f.accessKey, "secretAccessKey": f.secretKey},
	}
}

func (f locationFlags) location(namespace, name, secret, ca string) *api.BackupLocation {
	return &api.BackupLocation{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Location: api.BackupLocationItem{
			Type: api.S3Location, Path: strings.Trim(f.bucket, "/"), SecretConfig: secret,
			S3Config: &api.S3Config{
				Endpoint: f.endpoint, Region: f.region,
				DisableSSL: f.disableSSL || strings.HasPrefix(f.endpoint, "http://"), CABundle: ca,
			},
		},
	}
}
