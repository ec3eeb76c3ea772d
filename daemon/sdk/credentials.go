package sdk

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/pairing/openstorage"
)

// Credentials is the backend of OpenStorageCredentials.
type Credentials struct{ *Backend }

var _ openstorage.Credentials = Credentials{}

// Create is openstorage.Credentials'. One that an earlier call only half made is made whole.
func (b Credentials) Create(ctx context.Context, c openstorage.Credential) (string, error) {
	name := objectName("credential", c.Name)
	var there api.BackupLocation
	err := b.Client.Get(ctx, client.ObjectKey{Namespace: b.Namespace, Name: name}, &there)
	if err == nil {
		return "", fmt.Errorf("credential %s: %w", c.Name, openstorage.ErrExists)
	}
	if !apierrors.IsNotFound(err) {
		return "", fmt.Errorf("read BackupLocation %s: %w", name, err)
	}
	return b.credentialID(name), b.put(ctx, name, c)
}

// Update is openstorage.Credentials'.
func (b Credentials) Update(ctx context.Context, c openstorage.Credential) error {
	name, err := b.find(ctx, c.ID)
	if err != nil {
		return err
	}
	return b.put(ctx, name, c)
}

// find gives the name of a BackupLocation that is there.
func (b Credentials) find(ctx context.Context, id string) (string, error) {
	name, err := b.locationName(id)
	if err != nil {
		return "", fmt.Errorf("%w: %w", openstorage.ErrNotFound, err)
	}
	var l api.BackupLocation
	err = b.Client.Get(ctx, client.ObjectKey{Namespace: b.Namespace, Name: name}, &l)
	if client.IgnoreNotFound(err) != nil {
		return "", fmt.Errorf("read BackupLocation %s: %w", name, err)
	}
	if err != nil || l.Labels[labelMadeBy] != madeBy {
		// Those that people made are theirs, and their keys are not for the SDK's users.
		return "", fmt.Errorf("credential %s: %w", id, openstorage.ErrNotFound)
	}
	return name, nil
}

// put writes the Secret first, so that the location is never without its keys.
// What c leaves empty stays as it is.
func (b Credentials) put(ctx context.Context, name string, c openstorage.Credential) error {
	meta := metav1.ObjectMeta{Namespace: b.Namespace, Name: name}
	location := &api.BackupLocation{ObjectMeta: meta}
	err := b.Client.Get(ctx, client.ObjectKeyFromObject(location), location)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read BackupLocation %s: %w", name, err)
	}
	if err == nil && location.Location.Type != api.BackupLocationType(c.Store) {
		return fmt.Errorf("%w: credential %s is of type %s, and cannot become one of type %s: make another", openstorage.ErrRequest, c.ID, location.Location.Type, c.Store)
	}
	secret := &corev1.Secret{ObjectMeta: meta}
	_, err = controllerutil.CreateOrUpdate(ctx, b.Client, secret, func() error {
		secret.Labels = map[string]string{labelMadeBy: madeBy}
		return keep(secret, c)
	})
	if err != nil {
		return fmt.Errorf("write Secret %s: %w", name, err)
	}
	_, err = controllerutil.CreateOrUpdate(ctx, b.Client, location, func() error {
		location.Labels = map[string]string{labelMadeBy: madeBy}
		location.Annotations = map[string]string{annotationName: c.Name}
		b.place(&location.Location, c)
		location.Location.SecretConfig = name
		return nil
	})
	if err != nil {
		return fmt.Errorf("write BackupLocation %s: %w", name, err)
	}
	return nil
}

// keep puts the keys that c has into the Secret, as a BackupLocation looks for them.
func keep(secret *corev1.Secret, c openstorage.Credential) error {
	keys := map[string]string{}
	switch c.Store {
	case openstorage.S3:
		keys["accessKeyID"], keys["secretAccessKey"] = c.AccessKey, c.SecretKey.Reveal()
	case openstorage.Azure:
		keys["storageAccountName"], keys["storageAccountKey"] = c.AccessKey, c.SecretKey.Reveal()
	case openstorage.Google:
		// The keys by which Google's storage is reached as other programs reach S3.
		var hmac struct{ AccessKeyID, SecretAccessKey string }
		if c.SecretKey != "" && json.Unmarshal([]byte(c.SecretKey.Reveal()), &hmac) != nil {
			return fmt.Errorf("%w: json_key is not JSON", openstorage.ErrRequest)
		}
		keys["accessKeyID"], keys["secretAccessKey"] = hmac.AccessKeyID, hmac.SecretAccessKey
		if hmac.AccessKeyID == "" {
			keys["accountKey"] = c.SecretKey.Reveal()
		}
		if c.SecretKey != "" {
			secret.Data = nil
		}
	}
	for key, value := range keys {
		if value == "" {
			continue
		}
		if secret.Data == nil {
			secret.Data = map[string][]byte{}
		}
		secret.Data[key] = []byte(value)
	}
	return nil
}

// place writes down where the bucket is.
func (b Credentials) place(l *api.BackupLocationItem, c openstorage.Credential) {
	l.Type = api.BackupLocationType(c.Store)
	// As the reference server does.
	l.Path = cmp.Or(c.Bucket, l.Path, b.Ring.Current().ClusterID())
	switch c.Store {
	case openstorage.S3:
		was := cmp.Or(l.S3Config, &api.S3Config{})
		l.S3Config = &api.S3Config{
			Endpoint: cmp.Or(c.Endpoint, was.Endpoint), Region: cmp.Or(c.Region, was.Region), StorageClass: cmp.Or(c.StorageClass, was.StorageClass),
			DisableSSL: c.DisableSSL,
		}
	case openstorage.Google:
		was := cmp.Or(l.GoogleConfig, &api.GoogleConfig{})
		l.GoogleConfig = &api.GoogleConfig{ProjectID: cmp.Or(c.Project, was.ProjectID)}
	}
}

// List is openstorage.Credentials'. Keys are not among what it gives.
func (b Credentials) List(ctx context.Context) ([]openstorage.Credential, error) {
	var list api.BackupLocationList
	if err := b.Client.List(ctx, &list, client.InNamespace(b.Namespace), client.MatchingLabels{labelMadeBy: madeBy}); err != nil {
		return nil, fmt.Errorf("list BackupLocations: %w", err)
	}
	all := make([]openstorage.Credential, 0, len(list.Items))
	for _, l := range list.Items {
		c := openstorage.Credential{
			ID: b.credentialID(l.Name), Name: l.Annotations[annotationName], Bucket: l.Location.Path, Store: openstorage.Store(l.Location.Type),
		}
		if s3 := l.Location.S3Config; s3 != nil {
			c.Endpoint, c.Region, c.DisableSSL, c.StorageClass = s3.Endpoint, s3.Region, s3.DisableSSL, s3.StorageClass
		}
		if google := l.Location.GoogleConfig; google != nil {
			c.Project = google.ProjectID
		}
		var secret corev1.Secret
		err := b.Client.Get(ctx, client.ObjectKey{Namespace: b.Namespace, Name: l.Location.SecretConfig}, &secret)
		if client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("read Secret %s: %w", l.Location.SecretConfig, err)
		}
		c.AccessKey = string(secret.Data["accessKeyID"])
		if c.Store == openstorage.Azure {
			c.AccessKey = string(secret.Data["storageAccountName"])
		}
		all = append(all, c)
	}
	return all, nil
}

// Delete is openstorage.Credentials'. The Secret goes first: as long as the location
// is there, the call can be said again.
func (b Credentials) Delete(ctx context.Context, id string) error {
	name, err := b.locationName(id)
	if err != nil {
		return fmt.Errorf("%w: %w", openstorage.ErrNotFound, err)
	}
	var l api.BackupLocation
	err = b.Client.Get(ctx, client.ObjectKey{Namespace: b.Namespace, Name: name}, &l)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read BackupLocation %s: %w", name, err)
	}
	if l.Labels[labelMadeBy] != madeBy {
		return fmt.Errorf("%w: BackupLocation %s was not made by way of the SDK: delete it with kubectl", openstorage.ErrRequest, name)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: b.Namespace, Name: name}}
	if err := b.Client.Delete(ctx, secret); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete Secret %s: %w", name, err)
	}
	if err := b.Client.Delete(ctx, &l); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete BackupLocation %s: %w", name, err)
	}
	return nil
}

// Validate writes to the bucket, and reads what it wrote.
func (b Credentials) Validate(ctx context.Context, id string) error {
	name, err := b.find(ctx, id)
	if err != nil {
		return err
	}
	location, err := b.Locate(ctx, name)
	if err != nil {
		return err
	}
	traits, err := b.Opener.Probe(ctx, location)
	if err == nil && traits.ReadOnly {
		err = fmt.Errorf("credential %s: %w: its keys may read and not write", id, openstorage.ErrRequest)
	}
	return err
}
