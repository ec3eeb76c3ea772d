package openstorage

import (
	"context"
	"errors"
	"fmt"

	"github.com/libopenstorage/openstorage/api"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/godwit-io/godwit/pairing"
)

type credentialServer struct{ *Server }

var _ api.OpenStorageCredentialsServer = credentialServer{}

// Create keeps a credential that can be used. One that cannot is not kept.
func (s credentialServer) Create(ctx context.Context, r *api.SdkCredentialCreateRequest) (*api.SdkCredentialCreateResponse, error) {
	c, err := credentialFrom(r)
	if err != nil {
		return nil, err
	}
	if missing := c.lacks(); missing != "" {
		return nil, invalid("Must supply " + missing)
	}
	id, err := s.Credentials.Create(ctx, c)
	if err != nil {
		return nil, toWire("Cannot create credential "+r.GetName(), err)
	}
	unusable := s.Credentials.Validate(ctx, id)
	if unusable == nil {
		return &api.SdkCredentialCreateResponse{CredentialId: id}, nil
	}
	// A caller that has gone leaves nothing behind either.
	if err := s.Credentials.Delete(context.WithoutCancel(ctx), id); err != nil {
		return nil, toWire("Cannot delete credential "+r.GetName()+", which cannot be used", errors.Join(err, unusable))
	}
	return nil, status.Errorf(codes.PermissionDenied, "credential %s could not be validated, and was not kept: %v", r.GetName(), unusable)
}

// credentialFrom reads what is there. Options that are not served are refused,
// not left out.
func credentialFrom(r *api.SdkCredentialCreateRequest) (Credential, error) {
	if r.GetName() == "" {
		return Credential{}, invalid("Must supply a name")
	}
	c := Credential{Name: r.GetName(), Bucket: r.GetBucket()}
	refused := ""
	switch {
	case r.GetAwsCredential() != nil:
		aws := r.GetAwsCredential()
		c.Store, c.Endpoint, c.Region, c.DisableSSL = S3, aws.GetEndpoint(), aws.GetRegion(), aws.GetDisableSsl()
		c.AccessKey, c.SecretKey, c.StorageClass = aws.GetAccessKey(), pairing.Secret(aws.GetSecretKey()), r.GetS3StorageClass()
		if aws.GetDisablePathStyle() {
			refused = "disable_path_style: leave it out, the store's address says which style it has"
		}
	case r.GetAzureCredential() != nil:
		c.Store, c.AccessKey, c.SecretKey = Azure, r.GetAzureCredential().GetAccountName(), pairing.Secret(r.GetAzureCredential().GetAccountKey())
	case r.GetGoogleCredential() != nil:
		c.Store, c.Project, c.SecretKey = Google, r.GetGoogleCredential().GetProjectId(), pairing.Secret(r.GetGoogleCredential().GetJsonKey())
	case r.GetCredentialType() != nil:
		refused = "nfs_credential: make a BackupLocation of type nfs"
	default:
		return Credential{}, invalid("Unknown credential type")
	}
	if r.GetUseProxy() || r.GetIamPolicy() || r.GetEncryptionKey() != "" {
		refused = "use_proxy, iam_policy and encryption_key: leave them out"
	}
	if refused != "" {
		return Credential{}, toWire("Cannot keep credential "+r.GetName(), fmt.Errorf("%w: %s", ErrUnserved, refused))
	}
	return c, nil
}

// lacks is the first thing that is missing, as the reference server calls it.
func (c Credential) lacks() string {
	needed := [][2]string{{c.AccessKey, "Access Key"}, {c.SecretKey.Reveal(), "Secret Key"}, {c.Region, "Region Key"}, {c.Endpoint, "Endpoint Key"}}
	switch c.Store {
	case Azure:
		needed = [][2]string{{c.SecretKey.Reveal(), "Account Key"}, {c.AccessKey, "Account name"}}
	case Google:
		needed = [][2]string{{c.SecretKey.Reveal(), "JSON Key"}, {c.Project, "Project ID"}}
	}
	for _, n := range needed {
		if n[0] == "" {
			return n[1]
		}
	}
	return ""
}

// Update changes a credential. What is left empty stays, but for switches.
func (s credentialServer) Update(ctx context.Context, r *api.SdkCredentialUpdateRequest) (*api.SdkCredentialUpdateResponse, error) {
	if r.GetCredentialId() == "" {
		return nil, invalid("Must provide credentials uuid")
	}
	if r.GetUpdateReq() == nil {
		return nil, invalid("Must provide the credential's new content")
	}
	c, err := credentialFrom(r.GetUpdateReq())
	if err != nil {
		return nil, err
	}
	found, err := s.find(ctx, r.GetCredentialId())
	if err != nil {
		return nil, toWire("Cannot update credential "+r.GetCredentialId(), err)
	}
	c.ID = found.ID
	if err := s.Credentials.Update(ctx, c); err != nil {
		return nil, toWire("Cannot update credential "+c.ID, err)
	}
	return &api.SdkCredentialUpdateResponse{}, nil
}

// find takes an id or a name, as the reference server does.
func (s credentialServer) find(ctx context.Context, id string) (Credential, error) {
	all, err := s.Credentials.List(ctx)
	if err != nil {
		return Credential{}, err
	}
	for _, c := range all {
		if c.ID == id || c.Name == id {
			return c, nil
		}
	}
	return Credential{}, ErrNotFound
}

// Enumerate lists the ids.
func (s credentialServer) Enumerate(ctx context.Context, _ *api.SdkCredentialEnumerateRequest) (*api.SdkCredentialEnumerateResponse, error) {
	all, err := s.Credentials.List(ctx)
	if err != nil {
		return nil, toWire("Cannot enumerate credentials", err)
	}
	response := &api.SdkCredentialEnumerateResponse{}
	for _, c := range all {
		response.CredentialIds = append(response.CredentialIds, c.ID)
	}
	return response, nil
}

// Inspect shows a credential without its secret.
func (s credentialServer) Inspect(ctx context.Context, r *api.SdkCredentialInspectRequest) (*api.SdkCredentialInspectResponse, error) {
	if r.GetCredentialId() == "" {
		return nil, invalid("Must provide a credential id")
	}
	c, err := s.find(ctx, r.GetCredentialId())
	if err != nil {
		return nil, toWire("Cannot inspect credential "+r.GetCredentialId(), err)
	}
	response := &api.SdkCredentialInspectResponse{CredentialId: c.ID, Name: c.Name, Bucket: c.Bucket}
	switch c.Store {
	case S3:
		response.CredentialType = &api.SdkCredentialInspectResponse_AwsCredential{AwsCredential: &api.SdkAwsCredentialResponse{
			AccessKey: c.AccessKey, Endpoint: c.Endpoint, Region: c.Region, DisableSsl: c.DisableSSL, S3StorageClass: c.StorageClass,
		}}
	case Azure:
		response.CredentialType = &api.SdkCredentialInspectResponse_AzureCredential{AzureCredential: &api.SdkAzureCredentialResponse{AccountName: c.AccessKey}}
	case Google:
		response.CredentialType = &api.SdkCredentialInspectResponse_GoogleCredential{GoogleCredential: &api.SdkGoogleCredentialResponse{ProjectId: c.Project}}
	}
	return response, nil
}

// Delete forgets a credential.
func (s credentialServer) Delete(ctx context.Context, r *api.SdkCredentialDeleteRequest) (*api.SdkCredentialDeleteResponse, error) {
	if r.GetCredentialId() == "" {
		return nil, invalid("Must provide credentials uuid")
	}
	c, err := s.find(ctx, r.GetCredentialId())
	if err == nil {
		err = s.Credentials.Delete(ctx, c.ID)
	}
	if err != nil {
		return nil, toWire("Cannot delete credential "+r.GetCredentialId(), err)
	}
	return &api.SdkCredentialDeleteResponse{}, nil
}

// Validate writes to the bucket and reads from it.
func (s credentialServer) Validate(ctx context.Context, r *api.SdkCredentialValidateRequest) (*api.SdkCredentialValidateResponse, error) {
	if r.GetCredentialId() == "" {
		return nil, invalid("Must provide credentials uuid")
	}
	c, err := s.find(ctx, r.GetCredentialId())
	if err == nil {
		err = s.Credentials.Validate(ctx, c.ID)
	}
	if err != nil {
		return nil, toWire("Cannot validate credential "+r.GetCredentialId(), err)
	}
	return &api.SdkCredentialValidateResponse{}, nil
}

// DeleteReferences has nothing to do: pairs refer to a credential by its name only.
func (s credentialServer) DeleteReferences(ctx context.Context, r *api.SdkCredentialDeleteReferencesRequest) (*api.SdkCredentialDeleteReferencesResponse, error) {
	if r.GetCredentialId() == "" {
		return nil, invalid("Must provide credentials uuid")
	}
	return &api.SdkCredentialDeleteReferencesResponse{}, nil
}
