package snapshot

import (
	"log/slog"
	"time"
)

// StorageType is the kind of object store behind a repository.
type StorageType string

const (
	// S3 is any store that speaks the S3 protocol.
	S3 StorageType = "s3"
	// GCS is Google's cloud storage: by ServiceAccount, or else by its S3 protocol
	// and HMAC keys. The Endpoint may be left out.
	GCS StorageType = "gcs"
	// Azure is Azure's blob storage: Bucket is the container, AccessKeyID the
	// account and SecretAccessKey its key, or Application opens it. The Endpoint,
	// left out for the public cloud, is what follows the account in the host's name.
	Azure StorageType = "azure"
	// Filesystem is a folder; tests and NFS use it.
	Filesystem StorageType = "filesystem"
)

// Secret is a string that does not print itself.
type Secret string

const redacted = "[redacted]"

// String hides the secret.
func (s Secret) String() string { return redacted }

// GoString hides the secret.
func (s Secret) GoString() string { return redacted }

// LogValue hides the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON hides the secret.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// Reveal gives the secret to the one place that needs it.
func (s Secret) Reveal() string { return string(s) }

// Application is one of Azure's directory.
type Application struct {
	TenantID, ClientID string
	ClientSecret       Secret
}

// Location says where a repository is and how to reach it.
type Location struct {
	Type StorageType
	// Endpoint is host or host:port, without scheme (S3).
	Endpoint string
	// Bucket is the bucket (S3).
	Bucket string
	// Prefix ends in "/" or is empty; it keeps repositories of one bucket apart.
	Prefix string
	// Path is the folder (Filesystem).
	Path   string
	Region string
	// AccessKeyID and SecretAccessKey are the keys (S3).
	AccessKeyID     string
	SecretAccessKey Secret
	// Role takes keys of the role that this machine or its service account has, in
	// place of the two above (S3).
	Role bool
	// ServiceAccount is the key of a service account, in JSON (GCS).
	ServiceAccount Secret
	// Application is who opens the account in place of its key (Azure).
	Application Application
	// CABundle is PEM; empty means the system's.
	CABundle []byte
	// DisableTLS speaks plain HTTP; SkipVerify does not check the certificate.
	DisableTLS bool
	SkipVerify bool
	// StorageClass is the class of objects that are written (S3), the bucket's own
	// when empty; Encryption has the store encrypt them once more (S3): AES256, or
	// aws:kms.
	StorageClass string
	Encryption   string
	// Password encrypts the repository.
	Password Secret
	// User and Host are whom this client's writes are by; each writer has its own.
	User, Host string
	// CacheDir holds a bounded cache; empty means a temporary one.
	CacheDir string
	// RetentionMode (GOVERNANCE or COMPLIANCE) and RetentionPeriod lock each
	// object against deletion (S3 with object lock). They count when the
	// repository is made; maintenance makes the locks longer, so it must run.
	RetentionMode   string
	RetentionPeriod time.Duration
}
