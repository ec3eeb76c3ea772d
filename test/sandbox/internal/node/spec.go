// Package node runs one machine of a cluster as a set of namespaces (mount, network, PID, UTS, IPC)
// with this program as its first process.
//
// A spec says what the node is made of: mounts, tunables, network and daemons. The first process,
// init, makes them, starts each daemon when what it waits for is there, starts it again when it
// ends, and collects orphans. Whoever ends init ends every process, mount and network interface of
// the node, however it happens: the kernel sees to it. Left over after that are control groups and
// loop devices, which this package sweeps.
//
// It knows nothing of Kubernetes: package cluster says which daemons make a node.
package node

import (
	"encoding/json"
	"fmt"
	"os"
)

// Spec is what a node is made of.
type Spec struct {
	Hostname string   `json:"hostname"`
	Mounts   []Mount  `json:"mounts"`
	Network  []string `json:"network"` // lines for ip -batch, run inside the node
	// Sysctls are set in the node; Shown are only shown to its processes, because setting them
	// would change the host.
	Sysctls map[string]string `json:"sysctls"`
	Shown   map[string]string `json:"shown"`
	Daemons []Daemon          `json:"daemons"`
}

// Mount is one mount in the node. Type is bind, rbind or a filesystem's name.
type Mount struct {
	Source string `json:"source"`
	Target string `json:"target"`
	Type   string `json:"type"`
	Data   string `json:"data,omitempty"`
}

// Daemon is a program that must run as long as the node does.
type Daemon struct {
	Name string   `json:"name"`
	Argv []string `json:"argv"` // Argv[0] is a path
	Env  []string `json:"env,omitempty"`
	Log  string   `json:"log"`
	// After must hold before the program starts, for the first time and each time again.
	After []Probe `json:"after,omitempty"`
	// PIDFile tells which process it is, while it runs; empty where nobody asks.
	PIDFile string `json:"pidFile,omitempty"`
}

// Probe is something to wait for. Exactly one field is set.
type Probe struct {
	TCP    string `json:"tcp,omitempty"`    // host:port that accepts
	Socket string `json:"socket,omitempty"` // Unix socket that accepts
	URL    string `json:"url,omitempty"`    // http or https, answers 200; a certificate is not checked
}

// Save writes the spec.
func (s Spec) Save(file string) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o600)
}

// LoadSpec reads a spec.
func LoadSpec(file string) (Spec, error) {
	var s Spec
	b, err := os.ReadFile(file)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("node spec %s: %w", file, err)
	}
	return s, nil
}
