package kopiastore

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/kopia/kopia/repo/blob"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/encrypt"

	"github.com/godwit-io/godwit/snapshot"
)

const (
	contentType = "application/x-kopia"
	// slowest is below what any connection that is alive brings, in bytes a second.
	slowest = 32 << 10
)

// bucket keeps blobs in an object store that speaks S3.
//
// It does what kopia's own storage does, and sends a CRC-32C instead of an MD5,
// which was an eighth of the work of an upload; it repeats by kind of error,
// and its transport pauses when the store asks for that.
type bucket struct {
	blob.DefaultProviderImplementation
	location  snapshot.Location
	client    *minio.Client
	transport *transport
	crc       *crc32.Table
}

var _ blob.Storage = (*bucket)(nil)

func newBucket(l snapshot.Location) (*bucket, error) {
	client, transport, err := newClient(l, 1)
	if err != nil {
		return nil, err
	}
	return &bucket{location: l, client: client, transport: transport, crc: crc32.MakeTable(crc32.Castagnoli)}, nil
}

func (b *bucket) name(id blob.ID) string { return b.location.Prefix + string(id) }

// bound gives a request as long as a slow connection needs for so many bytes.
func bound(ctx context.Context, size int64) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, time.Minute+time.Duration(size/slowest)*time.Second)
}

// translate gives the errors that kopia decides by.
func translate(err error) error {
	var answer minio.ErrorResponse
	if !errors.As(err, &answer) {
		return err
	}
	switch {
	case answer.Code == minio.NoSuchBucket:
		return err
	case answer.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%w (%w)", blob.ErrBlobNotFound, err)
	case answer.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return fmt.Errorf("%w (%w)", blob.ErrInvalidRange, err)
	}
	return err
}

// GetBlob reads a blob or a range of it.
func (b *bucket) GetBlob(ctx context.Context, id blob.ID, offset, length int64, out blob.OutputBuffer) error {
	var options minio.GetObjectOptions
	switch {
	case offset < 0:
		return fmt.Errorf("%w: offset %d", blob.ErrInvalidRange, offset)
	case length > 0:
		if err := options.SetRange(offset, offset+length-1); err != nil {
			return fmt.Errorf("%w: %w", blob.ErrInvalidRange, err)
		}
	case length == 0:
		out.Reset()
		_, err := b.GetMetadata(ctx, id)
		return err
	}
	return persist(ctx, "read "+b.name(id), func() error {
		out.Reset()
		ctx, cancel := bound(ctx, max(length, packSize))
		defer cancel()
		// Core, since what Client gives asks for the object's size first.
		body, _, _, err := minio.Core{Client: b.client}.GetObject(ctx, b.location.Bucket, b.name(id), options)
		if err != nil {
			return translate(err)
		}
		_, err = io.Copy(out, body)
		if err = errors.Join(err, body.Close()); err != nil {
			return err
		}
		return blob.EnsureLengthExactly(out.Length(), length)
	})
}

// GetMetadata asks for a blob's length and time.
func (b *bucket) GetMetadata(ctx context.Context, id blob.ID) (blob.Metadata, error) {
	var found minio.ObjectInfo
	err := persist(ctx, "look for "+b.name(id), func() (err error) {
		ctx, cancel := bound(ctx, 0)
		defer cancel()
		found, err = b.client.StatObject(ctx, b.location.Bucket, b.name(id), minio.StatObjectOptions{})
		return translate(err)
	})
	return blob.Metadata{BlobID: id, Length: found.Size, Timestamp: found.LastModified}, err
}

// PutBlob writes a blob, whole or not at all.
func (b *bucket) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, o blob.PutOptions) error {
	switch {
	case o.DoNotRecreate:
		return fmt.Errorf("%w: do not recreate", blob.ErrUnsupportedPutBlobOption)
	case !o.SetModTime.IsZero():
		return blob.ErrSetTimeUnsupported
	}
	options, err := b.putOptions(data, o)
	if err != nil {
		return err
	}
	err = persist(ctx, "write "+b.name(id), func() error {
		ctx, cancel := bound(ctx, int64(data.Length()))
		defer cancel()
		reader := &body{bytes: data.Reader()}
		var err error
		if options.SendContentMd5 {
			_, err = b.client.PutObject(ctx, b.location.Bucket, b.name(id), reader, int64(data.Length()), options)
		} else {
			// Core, since Client takes a sum only in a trailer, which not all stores read.
			_, err = minio.Core{Client: b.client}.PutObject(ctx, b.location.Bucket, b.name(id), reader, int64(data.Length()), "", "", options)
		}
		return errors.Join(translate(err), reader.Close())
	})
	if err == nil && o.GetModTime != nil {
		*o.GetModTime = b.transport.time()
	}
	return err
}

// storeAs asks for the class and the encryption of the location.
func storeAs(l snapshot.Location, options *minio.PutObjectOptions) {
	options.StorageClass = l.StorageClass
	switch l.Encryption {
	case encryptionStore:
		options.ServerSideEncryption = encrypt.NewSSE()
	case encryptionKeyService:
		options.ServerSideEncryption = keyService{}
	}
}

// What a Location's Encryption may be.
const (
	encryptionStore      = "AES256"
	encryptionKeyService = "aws:kms"
)

// keyService has the store's key service encrypt, with the bucket's own key:
// minio's needs the name of one.
type keyService struct{}

var _ encrypt.ServerSide = keyService{}

// Type is the kind that the store knows.
func (keyService) Type() encrypt.Type { return encrypt.KMS }

// Marshal sets the request's header.
func (keyService) Marshal(h http.Header) { h.Set("X-Amz-Server-Side-Encryption", encryptionKeyService) }

func (b *bucket) putOptions(data blob.Bytes, o blob.PutOptions) (minio.PutObjectOptions, error) {
	// The CRC, or the MD5, and the seal of each content find what changes on the
	// way. Without TLS the library would also sign the body in pieces by their
	// SHA-256, which both sides compute: an eighth of the work of an upload.
	options := minio.PutObjectOptions{ContentType: contentType, DisableMultipart: true, DisableContentSha256: true}
	storeAs(b.location, &options)
	// Stores want an MD5 of what they are to lock, and Google's knows no other sum.
	options.SendContentMd5 = o.HasRetentionOptions() || strings.HasSuffix(b.client.EndpointURL().Hostname(), ".googleapis.com")
	if o.HasRetentionOptions() {
		options.Mode, options.RetainUntilDate = minio.RetentionMode(o.RetentionMode), b.transport.time().Add(o.RetentionPeriod).UTC()
		if !options.Mode.IsValid() {
			return options, fmt.Errorf("retention mode %q is not known", o.RetentionMode)
		}
	}
	if options.SendContentMd5 {
		return options, nil
	}
	sum := crc32.New(b.crc)
	if _, err := data.WriteTo(sum); err != nil {
		return options, fmt.Errorf("sum %d bytes: %w", data.Length(), err)
	}
	options.UserMetadata = map[string]string{
		"x-amz-checksum-crc32c": base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum.Sum32())),
	}
	return options, nil
}

// DeleteBlob removes a blob; one that is not there is removed.
func (b *bucket) DeleteBlob(ctx context.Context, id blob.ID) error {
	err := persist(ctx, "delete "+b.name(id), func() error {
		ctx, cancel := bound(ctx, 0)
		defer cancel()
		return translate(b.client.RemoveObject(ctx, b.location.Bucket, b.name(id), minio.RemoveObjectOptions{}))
	})
	if errors.Is(err, blob.ErrBlobNotFound) {
		return nil
	}
	return err
}

// ExtendBlobRetention locks a blob for longer.
func (b *bucket) ExtendBlobRetention(ctx context.Context, id blob.ID, o blob.ExtendOptions) error {
	mode, until := minio.RetentionMode(o.RetentionMode), b.transport.time().Add(o.RetentionPeriod).UTC()
	if !mode.IsValid() {
		return fmt.Errorf("retention mode %q is not known", o.RetentionMode)
	}
	return persist(ctx, "lock "+b.name(id), func() error {
		ctx, cancel := bound(ctx, 0)
		defer cancel()
		return translate(b.client.PutObjectRetention(ctx, b.location.Bucket, b.name(id), minio.PutObjectRetentionOptions{Mode: &mode, RetainUntilDate: &until}))
	})
}

// ListBlobs goes on after the last one that was told where a page fails.
func (b *bucket) ListBlobs(ctx context.Context, prefix blob.ID, tell func(blob.Metadata) error) error {
	last := ""
	var refused error
	err := persist(ctx, "list "+b.name(prefix), func() error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for o := range b.client.ListObjects(ctx, b.location.Bucket, minio.ListObjectsOptions{Prefix: b.name(prefix), StartAfter: last}) {
			if o.Err != nil {
				return translate(o.Err)
			}
			last = o.Key
			if refused = tell(blob.Metadata{BlobID: blob.ID(o.Key[len(b.location.Prefix):]), Length: o.Size, Timestamp: o.LastModified}); refused != nil {
				return nil
			}
		}
		return ctx.Err()
	})
	return errors.Join(refused, err)
}

// ConnectionInfo names the kind only: what is in a location stays there.
func (b *bucket) ConnectionInfo() blob.ConnectionInfo {
	return blob.ConnectionInfo{Type: storageType, Config: &noConfig{}}
}

// DisplayName is for kopia's messages.
func (b *bucket) DisplayName() string { return describe(b.location) }
