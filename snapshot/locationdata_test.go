package snapshot_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/godwit-io/godwit/snapshot"
)

func TestLocationGoesThroughASecret(t *testing.T) {
	for _, l := range []snapshot.Location{
		{Type: snapshot.Filesystem, Path: "/srv/repo", Password: "p"},
		{
			Type: snapshot.S3, Endpoint: "s3:9000", Bucket: "b", Prefix: "cms/", Region: "eu", AccessKeyID: "id",
			SecretAccessKey: "key", CABundle: []byte("pem"), DisableTLS: true, SkipVerify: true, Password: "p",
			StorageClass: "STANDARD_IA", Encryption: "aws:kms", RetentionMode: "COMPLIANCE", RetentionPeriod: 72 * time.Hour,
		},
		{Type: snapshot.GCS, Bucket: "b", AccessKeyID: "id", SecretAccessKey: "key", Password: "p"},
		{Type: snapshot.Azure, Bucket: "container", AccessKeyID: "account", SecretAccessKey: "key", Password: "p"},
	} {
		got, err := snapshot.LocationFromData(l.Data())
		if err != nil || !reflect.DeepEqual(got, l) {
			t.Errorf("%+v, %v, want %+v", got, err, l)
		}
	}
}

func TestLocationRefusesWhatCannotBeOpened(t *testing.T) {
	good := snapshot.Location{Type: snapshot.S3, Endpoint: "e", Bucket: "b", SecretAccessKey: "hidden", Password: "p"}
	for want, key := range map[string][2]string{
		"no password":                          {"password", ""},
		"no endpoint or no bucket":             {"bucket", ""},
		`type "swift"`:                         {"type", "swift"},
		"disableTLS that is neither true nor":  {"disableTLS", "hidden"},
		"skipVerify that is neither true nor ": {"skipVerify", "hidden"},
	} {
		data := good.Data()
		data[key[0]] = []byte(key[1])
		_, err := snapshot.LocationFromData(data)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("error %v, want %q and no value", err, want)
		}
	}
}
