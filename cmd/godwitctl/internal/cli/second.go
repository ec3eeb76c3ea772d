package cli

import (
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// secondCluster are the flags that name the other cluster of a pair.
type secondCluster struct{ kubeconfig, context string }

func (f *secondCluster) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.context, "target-context", "", "Context of the target, to show what is there as well")
	cmd.Flags().StringVar(&f.kubeconfig, "target-kubeconfig", "", "Kubeconfig of the target, if --kubeconfig does not know it")
}

// site is one of the clusters that a command looks at.
type site struct {
	*session
	// role is source or target.
	role string
}

// sites are the cluster that the session is at, and the other one if the flags
// name it.
func (s *session) sites(f secondCluster) []site {
	all := []site{{session: s, role: "source"}}
	if f.context == "" && f.kubeconfig == "" {
		return all
	}
	other := *s
	flags := configFlags()
	*flags.KubeConfig, *flags.Context = *s.config.KubeConfig, f.context
	if f.kubeconfig != "" {
		*flags.KubeConfig = f.kubeconfig
	}
	other.config = flags
	return append(all, site{session: &other, role: "target"})
}

// kubernetes reaches the kinds of Kubernetes itself, and logs.
func (s *session) kubernetes() (kubernetes.Interface, *rest.Config, error) {
	config, err := s.config.ToRESTConfig()
	if err != nil {
		return nil, nil, configError(err)
	}
	config.UserAgent = "godwitctl/" + s.env.Version
	config.QPS, config.Burst = 50, 100
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("kubeconfig: %w: check --kubeconfig and --context", err)
	}
	return c, config, nil
}
