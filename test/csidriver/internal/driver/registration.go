package driver

import (
	"context"
	"log/slog"
	"path/filepath"

	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// registrar tells kubelet where the driver listens.
type registrar struct {
	registration.UnimplementedRegistrationServer
	name, socket string
	log          *slog.Logger
}

var _ registration.RegistrationServer = (*registrar)(nil)

// Register serves kubelet's plugin registration until the context ends. Kubelet
// watches the folder of the socket, and asks again whenever it is made anew.
func (d *Driver) Register(ctx context.Context, kubeletDir, endpoint string) error {
	lis, err := Listen(filepath.Join(kubeletDir, "plugins_registry", d.cfg.Name+"-reg.sock"))
	if err != nil {
		return err
	}
	srv := grpc.NewServer()
	registration.RegisterRegistrationServer(srv, &registrar{name: d.cfg.Name, socket: SocketPath(endpoint), log: d.log})
	return serveUntil(ctx, srv, lis)
}

func (r *registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.CSIPlugin, Name: r.name, Endpoint: r.socket, SupportedVersions: []string{"1.0.0"},
	}, nil
}

func (r *registrar) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if s.GetPluginRegistered() {
		r.log.Info("kubelet registered the driver")
	} else {
		// Kubelet tries again by itself; the reason is what the user needs.
		r.log.Error("kubelet did not register the driver", "reason", s.GetError())
	}
	return &registration.RegistrationStatusResponse{}, nil
}
