package snapshot

import "log/slog"

// StorageType is the kind of object store behind a repository.
type StorageType string

const (
	// S3 is any store that speaks the S3 protocol.
	S3 StorageType = "s3"
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
	// CABundle is PEM; empty means the system's.
	CABundle []byte
	// DisableTLS speaks plain HTTP; SkipVerify does not check the certificate.
	DisableTLS bool
	SkipVerify bool
	// Password encrypts the repository.
	Password Secret
	// User and Host are whom this client's writes are by; each writer has its own.
	User, Host string
	// CacheDir holds a bounded cache; empty means a temporary one.
	CacheDir string
}
