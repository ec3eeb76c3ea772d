package snapshot

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// The keys under which a Location is kept in a Secret.
const (
	keyType            = "type"
	keyEndpoint        = "endpoint"
	keyBucket          = "bucket"
	keyPrefix          = "prefix"
	keyPath            = "path"
	keyRegion          = "region"
	keyAccessKeyID     = "accessKeyID"
	keySecretAccessKey = "secretAccessKey"
	keyCABundle        = "caBundle"
	keyDisableTLS      = "disableTLS"
	keySkipVerify      = "skipVerify"
	keyStorageClass    = "storageClass"
	keyEncryption      = "encryption"
	keyPassword        = "password"
	keyRole            = "role"
	keyServiceAccount  = "serviceAccount"
	keyTenantID        = "tenantID"
	keyClientID        = "clientID"
	keyClientSecret    = "clientSecret"
	keyRetentionMode   = "retentionMode"
	keyRetentionPeriod = "retentionPeriod"
)

// Data encodes the location, with its secrets in the clear, for the one place
// that keeps it. User, Host and CacheDir are whose who reads it, and stay out.
func (l Location) Data() map[string][]byte {
	data := map[string][]byte{
		keyType:            []byte(l.Type),
		keyEndpoint:        []byte(l.Endpoint),
		keyBucket:          []byte(l.Bucket),
		keyPrefix:          []byte(l.Prefix),
		keyPath:            []byte(l.Path),
		keyRegion:          []byte(l.Region),
		keyAccessKeyID:     []byte(l.AccessKeyID),
		keySecretAccessKey: []byte(l.SecretAccessKey.Reveal()),
		keyCABundle:        l.CABundle,
		keyDisableTLS:      flag(l.DisableTLS),
		keySkipVerify:      flag(l.SkipVerify),
		keyStorageClass:    []byte(l.StorageClass),
		keyEncryption:      []byte(l.Encryption),
		keyPassword:        []byte(l.Password.Reveal()),
		keyRole:            flag(l.Role),
		keyServiceAccount:  []byte(l.ServiceAccount.Reveal()),
		keyTenantID:        []byte(l.Application.TenantID),
		keyClientID:        []byte(l.Application.ClientID),
		keyClientSecret:    []byte(l.Application.ClientSecret.Reveal()),
		keyRetentionMode:   []byte(l.RetentionMode),
	}
	if l.RetentionPeriod != 0 {
		data[keyRetentionPeriod] = []byte(l.RetentionPeriod.String())
	}
	for k, v := range data {
		if len(v) == 0 {
			delete(data, k)
		}
	}
	return data
}

func flag(on bool) []byte {
	if !on {
		return nil
	}
	return []byte("true")
}

// LocationFromData decodes what Data made. Its errors name keys, never values.
func LocationFromData(data map[string][]byte) (Location, error) {
	l := Location{
		Type:            StorageType(data[keyType]),
		Endpoint:        string(data[keyEndpoint]),
		Bucket:          string(data[keyBucket]),
		Prefix:          string(data[keyPrefix]),
		Path:            string(data[keyPath]),
		Region:          string(data[keyRegion]),
		AccessKeyID:     string(data[keyAccessKeyID]),
		SecretAccessKey: Secret(data[keySecretAccessKey]),
		CABundle:        data[keyCABundle],
		StorageClass:    string(data[keyStorageClass]),
		Encryption:      string(data[keyEncryption]),
		Password:        Secret(data[keyPassword]),
		ServiceAccount:  Secret(data[keyServiceAccount]),
		Application: Application{
			TenantID: string(data[keyTenantID]), ClientID: string(data[keyClientID]), ClientSecret: Secret(data[keyClientSecret]),
		},
		RetentionMode: string(data[keyRetentionMode]),
	}
	var err error
	if period := string(data[keyRetentionPeriod]); period != "" {
		if l.RetentionPeriod, err = time.ParseDuration(period); err != nil {
			return Location{}, fmt.Errorf("the repository's location has a %s that is no duration: %w", keyRetentionPeriod, err)
		}
	}
	if l.DisableTLS, err = parseFlag(data, keyDisableTLS); err != nil {
		return Location{}, err
	}
	if l.SkipVerify, err = parseFlag(data, keySkipVerify); err != nil {
		return Location{}, err
	}
	if l.Role, err = parseFlag(data, keyRole); err != nil {
		return Location{}, err
	}
	if err := l.complete(); err != nil {
		return Location{}, err
	}
	return l, nil
}

// complete refuses a location that lacks what its type needs.
func (l Location) complete() error {
	switch {
	case l.Password == "":
		return errors.New("the repository's location has no password")
	case l.Type == S3 && (l.Endpoint == "" || l.Bucket == ""):
		return errors.New("the repository's location has no endpoint or no bucket")
	case l.Type == Filesystem && l.Path == "":
		return errors.New("the repository's location has no path")
	case (l.Type == GCS || l.Type == Azure) && l.Bucket == "":
		return errors.New("the repository's location has no bucket or container")
	case l.Type != S3 && l.Type != GCS && l.Type != Azure && l.Type != Filesystem:
		return fmt.Errorf("the repository's location has type %q: it is s3, gcs, azure or filesystem", l.Type)
	}
	return nil
}

// parseFlag takes a missing key for false; what is no boolean is refused, for
// it may have been meant to turn encryption on.
func parseFlag(data map[string][]byte, key string) (bool, error) {
	if len(data[key]) == 0 {
		return false, nil
	}
	on, err := strconv.ParseBool(string(data[key]))
	if err != nil {
		return false, fmt.Errorf("the repository's location has a %s that is neither true nor false", key)
	}
	return on, nil
}
