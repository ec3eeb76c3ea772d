package repository

import (
	"fmt"
	"path"
	"strings"
	"time"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/snapshot"
)

// Mount is a folder of an NFS server that is mounted into Godwit's pods.
type Mount struct {
	// Server and Path are the server and what it exports.
	Server, Path string
	// Folder is where it is mounted, in the controller and on every node.
	Folder string
}

// ParseMount reads SERVER:PATH=FOLDER.
func ParseMount(text string) (Mount, error) {
	export, folder, ok := strings.Cut(text, "=")
	// An IPv6 address has colons too, and a path none before its first slash.
	at := strings.Index(export, ":/")
	if !ok || at <= 0 || !path.IsAbs(folder) {
		return Mount{}, fmt.Errorf("%q is not SERVER:/PATH=/FOLDER", text)
	}
	return Mount{Server: export[:at], Path: path.Clean(export[at+1:]), Folder: path.Clean(folder)}, nil
}

// azureDomains are what follows an account's name in a host's name.
func azureDomain(environment string) (string, bool) {
	switch environment {
	case "", "AzurePublicCloud":
		return "", true
	case "AzureChinaCloud":
		return "blob.core.chinacloudapi.cn", true
	}
	return "", false
}

// entry is a BackupLocation with what its Secret holds.
type entry struct {
	api.BackupLocation
	secret map[string][]byte
	mounts []Mount
	// nodeRole lets a location take keys of the nodes' role.
	nodeRole bool
}

// or is the field, or what the Secret has under the key.
func (e entry) or(field, key string) string {
	if field != "" {
		return field
	}
	return strings.TrimSpace(string(e.secret[key]))
}

func (e entry) refuse(format string, args ...any) error {
	return fmt.Errorf("BackupLocation %s/%s %w: %s", e.Namespace, e.Name, ErrConfiguration, fmt.Sprintf(format, args...))
}

// needs names the first of fields, each a name and its value, that is empty.
func (e entry) needs(config string, fields ...[2]string) error {
	for _, f := range fields {
		if f[1] == "" {
			return e.refuse("it has no %s: set it in location.%s or in its Secret", f[0], config)
		}
	}
	return nil
}

// unserved names the first of fields that is set, with the remedy.
func (e entry) unserved(config, remedy string, fields ...[2]string) error {
	for _, f := range fields {
		if f[1] != "" {
			return e.refuse("this version does not serve location.%s.%s: leave it out, and %s", config, f[0], remedy)
		}
	}
	return nil
}

func (e entry) resolve() (snapshot.Location, error) {
	switch e.Location.Type {
	case api.S3Location:
		return e.s3()
	case api.AzureLocation:
		return e.azure()
	case api.GoogleLocation:
		return e.google()
	case api.NFSLocation:
		return e.nfs()
	}
	return snapshot.Location{}, e.refuse("type %q is not served: use s3, azure, google or nfs", e.Location.Type)
}

// bucket parts location.path into bucket and prefix.
func (e entry) bucket() (bucket, prefix string) {
	bucket, prefix, _ = strings.Cut(strings.Trim(e.Location.Path, "/"), "/")
	if prefix != "" {
		prefix += "/"
	}
	return bucket, prefix
}

func (e entry) s3() (snapshot.Location, error) {
	c := api.S3Config{}
	if e.Location.S3Config != nil {
		c = *e.Location.S3Config
	}
	c.Endpoint, c.Region = e.or(c.Endpoint, "endpoint"), e.or(c.Region, "region")
	c.AccessKeyID, c.SecretAccessKey = e.or(c.AccessKeyID, "accessKeyID"), e.or(c.SecretAccessKey, "secretAccessKey")
	c.CABundle, c.SSE, c.StorageClass = e.or(c.CABundle, "caBundle"), e.or(c.SSE, "sse"), e.or(c.StorageClass, "storageClass")
	c.DisableSSL = c.DisableSSL || e.or("", "disableSSL") == "true"
	if err := e.keys(c); err != nil {
		return snapshot.Location{}, err
	}
	mode, period := "", time.Duration(0)
	if c.ObjectLock != nil {
		mode, period = strings.ToUpper(string(c.ObjectLock.Mode)), c.ObjectLock.Period.Duration
	}
	endpoint, plain := strings.CutPrefix(c.Endpoint, "http://")
	endpoint = strings.TrimPrefix(endpoint, "https://")
	bucket, prefix := e.bucket()
	return snapshot.Location{
		Type: snapshot.S3, Endpoint: strings.TrimSuffix(endpoint, "/"), Bucket: bucket, Prefix: prefix, Region: c.Region,
		AccessKeyID: c.AccessKeyID, SecretAccessKey: snapshot.Secret(c.SecretAccessKey), Role: c.UseIam, StorageClass: c.StorageClass, Encryption: c.SSE,
		CABundle: []byte(c.CABundle), DisableTLS: c.DisableSSL || plain, SkipVerify: c.InsecureSkipVerify,
		RetentionMode: mode, RetentionPeriod: period,
	}, nil
}

// keys are two, or the role's. The role is the whole installation's: whoever makes a
// location by it reaches what it opens, so that an administrator has to allow that.
func (e entry) keys(c api.S3Config) error {
	if !c.UseIam {
		return e.needs("s3Config", [2]string{"endpoint", c.Endpoint}, [2]string{"accessKeyID", c.AccessKeyID}, [2]string{"secretAccessKey", c.SecretAccessKey})
	}
	switch {
	case !e.nodeRole:
		return e.refuse("location.s3Config.useIam is not allowed here: whoever may make BackupLocations would reach all that the nodes' role opens: install Godwit with cloudRole.allowed=true (the controller's --node-role) if that is meant, or give an access key of the bucket's own")
	case c.AccessKeyID != "" || c.SecretAccessKey != "":
		return e.refuse("location.s3Config.useIam takes the keys of the nodes' role, and an access key is given too: leave one out")
	}
	return e.needs("s3Config", [2]string{"endpoint", c.Endpoint})
}

func (e entry) azure() (snapshot.Location, error) {
	c := api.AzureConfig{}
	if e.Location.AzureConfig != nil {
		c = *e.Location.AzureConfig
	}
	account, key := e.or(c.StorageAccountName, "storageAccountName"), e.or(c.StorageAccountKey, "storageAccountKey")
	a := snapshot.Application{
		TenantID: e.or(c.TenantID, "tenantID"), ClientID: e.or(c.ClientID, "clientID"), ClientSecret: snapshot.Secret(e.or(c.ClientSecret, "clientSecret")),
	}
	switch {
	case key != "" && a.ClientSecret != "":
		return snapshot.Location{}, e.refuse("it has a storageAccountKey and a clientSecret: leave one out")
	case key != "":
		// Stork names the directory and the application beside a key.
		a = snapshot.Application{}
	}
	needed := [][2]string{{"storageAccountName", account}, {"storageAccountKey", key}}
	if a != (snapshot.Application{}) {
		needed = [][2]string{{"storageAccountName", account}, {"tenantID", a.TenantID}, {"clientID", a.ClientID}, {"clientSecret", a.ClientSecret.Reveal()}}
	}
	if err := e.needs("azureConfig", needed...); err != nil {
		return snapshot.Location{}, err
	}
	environment := e.or(c.Environment, "environment")
	domain, known := azureDomain(environment)
	if !known {
		return snapshot.Location{}, e.refuse("environment %q is not known: use AzurePublicCloud or AzureChinaCloud", environment)
	}
	if domain != "" && a != (snapshot.Application{}) {
		return snapshot.Location{}, e.refuse("this version does not serve an application of Azure's directory in environment %q: give storageAccountKey", environment)
	}
	bucket, prefix := e.bucket()
	return snapshot.Location{
		Type: snapshot.Azure, Endpoint: domain, Bucket: bucket, Prefix: prefix, AccessKeyID: account, SecretAccessKey: snapshot.Secret(key), Application: a,
	}, nil
}

func (e entry) google() (snapshot.Location, error) {
	c := api.GoogleConfig{}
	if e.Location.GoogleConfig != nil {
		c = *e.Location.GoogleConfig
	}
	bucket, prefix := e.bucket()
	access, key := e.or(c.AccessKeyID, "accessKeyID"), e.or(c.SecretAccessKey, "secretAccessKey")
	if account := e.or(c.AccountKey, "accountKey"); account != "" {
		if access != "" || key != "" {
			return snapshot.Location{}, e.refuse("it has an accountKey and HMAC keys: leave out accountKey, or accessKeyID and secretAccessKey")
		}
		return snapshot.Location{Type: snapshot.GCS, Bucket: bucket, Prefix: prefix, ServiceAccount: snapshot.Secret(account)}, nil
	}
	if err := e.needs("googleConfig", [2]string{"accountKey", access + key}, [2]string{"accessKeyID", access}, [2]string{"secretAccessKey", key}); err != nil {
		return snapshot.Location{}, err
	}
	return snapshot.Location{Type: snapshot.GCS, Bucket: bucket, Prefix: prefix, AccessKeyID: access, SecretAccessKey: snapshot.Secret(key)}, nil
}

// nfs finds the folder among those that are mounted. One that is not would be
// made in the pod itself, and what is stored in it would go with the pod.
func (e entry) nfs() (snapshot.Location, error) {
	c := api.NFSConfig{}
	if e.Location.NFSConfig != nil {
		c = *e.Location.NFSConfig
	}
	err := e.unserved("nfsConfig", "set it where the chart's value nfs is mounted: on the nodes",
		[2]string{"mountOptions", e.or(c.MountOptions, "mountOptions")}, [2]string{"nfsIOTimeoutInSecs", e.or(c.NFSIOTimeoutInSecs, "nfsIOTimeoutInSecs")})
	if err != nil {
		return snapshot.Location{}, err
	}
	server, below := e.or(c.ServerAddr, "serverAddr"), e.or(c.SubPath, "subPath")
	if err := e.needs("nfsConfig", [2]string{"serverAddr", server}); err != nil {
		return snapshot.Location{}, err
	}
	exported := path.Join("/", e.Location.Path)
	for _, m := range e.mounts {
		if m.Server == server && m.Path == exported {
			// Rooted first, so that no .. leads out of the mount.
			return snapshot.Location{Type: snapshot.Filesystem, Path: path.Join(m.Folder, path.Join("/", below))}, nil
		}
	}
	return snapshot.Location{}, e.refuse("%s:%s is not mounted into Godwit's pods: add {server: %s, path: %s} to the chart's value nfs", server, exported, server, exported)
}
