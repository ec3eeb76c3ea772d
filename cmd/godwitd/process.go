package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/config"
)

// processOptions are those of every daemon.
type processOptions struct {
	metricsAddress, healthAddress, profileAddress string
	memoryLimit                                   string
}

func (o *processOptions) addProcess(f *pflag.FlagSet) {
	f.StringVar(&o.metricsAddress, "metrics-address", ":8080", "address of the metrics; 0 for none")
	f.StringVar(&o.healthAddress, "health-address", ":8081", "address of /healthz and /readyz")
	f.StringVar(&o.profileAddress, "profile-address", "", "address of Go's profiles (/debug/pprof); none when empty. They hold parts of memory: give one of localhost")
	f.StringVar(&o.memoryLimit, "memory-limit", "", "memory that the process has, such as its container's limit; it collects its garbage sooner when it comes near")
}

// headroom is what the limit leaves to the kernel and to the program itself, in parts
// of a hundred.
const headroom = 15

// boundMemory has garbage collected before the kernel ends the process: left to itself
// Go lets it grow to as much again as is in use.
func (o *processOptions) boundMemory() error {
	if o.memoryLimit == "" {
		return nil
	}
	limit, err := resource.ParseQuantity(o.memoryLimit)
	if err != nil || limit.Value() <= 0 {
		return fmt.Errorf("--memory-limit %q is no amount of memory, such as 512Mi", o.memoryLimit)
	}
	debug.SetMemoryLimit(limit.Value() / 100 * (100 - headroom))
	return nil
}

// queues is what both managers tell their controllers. The priority queue of
// controller-runtime before v0.25 may block for ever when it is shut down
// (kubernetes-sigs/controller-runtime#3538), and a process that hangs keeps its lease.
func queues() config.Controller { return config.Controller{UsePriorityQueue: new(false)} }
