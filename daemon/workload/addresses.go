package workload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"golang.org/x/sync/errgroup"

	"github.com/godwit-io/godwit/daemon/workload/shape"
)

// KeepAddresses lets Services keep the cluster addresses and node ports that they
// had in the source, where c can give them: a Service that stands there keeps its
// own, and of a new one is given up what another has or what is out of range. It
// changes the objects, and returns a line for each thing that was given up. It
// writes nothing; trial is a namespace in which Services can be tried.
//
// A Service whose user wants its addresses as they are, by skipServiceUpdate or its
// annotation, is not touched: if they cannot be had, it fails.
func KeepAddresses(ctx context.Context, c Cluster, objects []Moved, trial string, o Instructions) ([]string, error) {
	if o.SkipServiceUpdate {
		return nil, nil
	}
	var services []unstructured.Unstructured
	for i := range objects {
		obj := &objects[i].Unstructured
		if isKind(obj, "", "Service") && !asked(obj.GetAnnotations(), "skip-modify-resource") && addressed(obj) {
			services = append(services, *obj) // The maps are shared on purpose.
		}
	}
	if len(services) == 0 {
		return nil, nil
	}
	taken, err := takenAddresses(ctx, c)
	if err != nil {
		return nil, err
	}
	looks := lookAt(ctx, c, services)
	lines := make([][]string, len(looks))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(writesAtOnce)
	for i, l := range looks {
		group.Go(func() (err error) {
			lines[i], err = l.settleAddresses(ctx, c, taken, trial)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return slices.Concat(lines...), nil
}

// addressed tells whether the Service asks for anything that clusters give out.
func addressed(service *unstructured.Unstructured) bool {
	spec := shape.Child(service.Object, "spec")
	return len(addressesOf(spec)) > 0 || len(portsOf(spec)) > 0
}

// addressesOf are the cluster addresses that the Service asks for.
func addressesOf(spec map[string]any) []string {
	var out []string
	if ip := shape.Text(spec, "clusterIP"); ip != "" && ip != "None" {
		out = append(out, ip)
	}
	list, _ := spec["clusterIPs"].([]any)
	for _, item := range list {
		if ip, ok := item.(string); ok && ip != "" && ip != "None" && !slices.Contains(out, ip) {
			out = append(out, ip)
		}
	}
	return out
}

// portsOf are the node ports that the Service asks for.
func portsOf(spec map[string]any) []int64 {
	var out []int64
	for _, port := range shape.List(spec, "ports") {
		if n := portIn(port, "nodePort"); n != 0 {
			out = append(out, n)
		}
	}
	if n := portIn(spec, "healthCheckNodePort"); n != 0 {
		out = append(out, n)
	}
	return out
}

func portIn(fields map[string]any, name string) int64 {
	n, _, err := unstructured.NestedInt64(fields, name)
	if err != nil {
		return 0
	}
	return n
}

// addresses are those that the cluster's Services have.
type addresses struct {
	ips   map[string]Ref
	ports map[int64]Ref
}

func takenAddresses(ctx context.Context, c Cluster) (addresses, error) {
	taken := addresses{ips: make(map[string]Ref), ports: make(map[int64]Ref)}
	services := c.Dynamic.Resource(resourceNamed("", "v1", "services"))
	options := metav1.ListOptions{Limit: pageSize}
	for {
		page, err := services.List(ctx, options)
		if err != nil {
			return taken, fmt.Errorf("list the Services of the target: %w", err)
		}
		for i := range page.Items {
			page.Items[i].SetAPIVersion("v1")
			page.Items[i].SetKind("Service")
			ref, spec := RefOf(&page.Items[i]), shape.Child(page.Items[i].Object, "spec")
			for _, ip := range addressesOf(spec) {
				taken.ips[ip] = ref
			}
			for _, port := range portsOf(spec) {
				taken.ports[port] = ref
			}
		}
		if options.Continue = page.GetContinue(); options.Continue == "" {
			return taken, nil
		}
	}
}

// settleAddresses decides for one Service.
func (l *look) settleAddresses(ctx context.Context, c Cluster, taken addresses, trial string) ([]string, error) {
	if l.err != nil {
		return nil, l.err
	}
	ref, spec := RefOf(l.obj), shape.Child(l.obj.Object, "spec")
	var live map[string]any
	if l.live != nil {
		live = shape.Child(l.live.Object, "spec")
		leaveStanding(spec, live)
	}
	lines := giveUpTaken(ref, spec, taken)
	if held(spec, live) {
		return lines, nil
	}
	more, err := giveUpImpossible(ctx, c, l, trial)
	return append(lines, more...), err
}

// LeaveAddresses drops from a Service the addresses and node ports that it has
// otherwise where it stands: those stay, and cannot be changed. Other objects, and
// Services whose user wants them as they are, are not touched.
func LeaveAddresses(obj, live *unstructured.Unstructured) {
	if isKind(obj, "", "Service") && !asked(obj.GetAnnotations(), "skip-modify-resource") {
		leaveStanding(shape.Child(obj.Object, "spec"), shape.Child(live.Object, "spec"))
	}
}

// leaveStanding drops what the Service has otherwise on the target: that stays.
func leaveStanding(spec, live map[string]any) {
	if !slices.Equal(addressesOf(spec), addressesOf(live)) {
		dropAddresses(spec)
	}
	leave := func(fields, there map[string]any, name string) {
		if n := portIn(there, name); n != 0 && n != portIn(fields, name) {
			delete(fields, name)
		}
	}
	leave(spec, live, "healthCheckNodePort")
	for _, port := range shape.List(spec, "ports") {
		for _, there := range shape.List(live, "ports") {
			if portIn(there, "port") == portIn(port, "port") && protocol(there) == protocol(port) {
				leave(port, there, "nodePort")
			}
		}
	}
}

func protocol(port map[string]any) string {
	if p := shape.Text(port, "protocol"); p != "" {
		return p
	}
	return "TCP"
}

// held tells whether the Service has all that it asks for.
func held(spec, live map[string]any) bool {
	for _, ip := range addressesOf(spec) {
		if !slices.Contains(addressesOf(live), ip) {
			return false
		}
	}
	for _, port := range portsOf(spec) {
		if !slices.Contains(portsOf(live), port) {
			return false
		}
	}
	return true
}

func dropAddresses(spec map[string]any) {
	delete(spec, "clusterIP")
	delete(spec, "clusterIPs")
}

// giveUpTaken drops what another Service has.
func giveUpTaken(ref Ref, spec map[string]any, taken addresses) []string {
	var lines []string
	for _, ip := range addressesOf(spec) {
		if by, found := taken.ips[ip]; found && by != ref {
			lines = append(lines, gaveUp(ref, "cluster address "+ip, by.String()+" has it on the target"))
			dropAddresses(spec)
		}
	}
	dropPort := func(fields map[string]any, name string) {
		n := portIn(fields, name)
		if by, found := taken.ports[n]; found && by != ref {
			lines = append(lines, gaveUp(ref, fmt.Sprintf("node port %d", n), by.String()+" has it on the target"))
			delete(fields, name)
		}
	}
	for _, port := range shape.List(spec, "ports") {
		dropPort(port, "nodePort")
	}
	dropPort(spec, "healthCheckNodePort")
	return lines
}

func gaveUp(ref Ref, what, why string) string {
	return fmt.Sprintf("%s: its %s is given up, and it gets another: %s", ref, what, why)
}

// giveUpImpossible has the server try what is left, since only it knows the range
// of its addresses. That of its node ports a dry run does not tell: what is out of
// it is given up by the write itself, see ApplyOptions.GiveUpAddresses.
func giveUpImpossible(ctx context.Context, c Cluster, l *look, trial string) ([]string, error) {
	ref, spec := RefOf(l.obj), shape.Child(l.obj.Object, "spec")
	var lines []string
	for len(addressesOf(spec)) > 0 || len(portsOf(spec)) > 0 {
		err := tryAddresses(ctx, c, spec, trial)
		if err == nil || apierrors.IsForbidden(err) {
			return lines, nil
		}
		if Retryable(err) {
			return lines, fmt.Errorf("try the addresses of %s: %w", ref, err)
		}
		dropped := dropRefused(ref, spec, err)
		if len(dropped) == 0 {
			// It is about something else, which the survey of the Service tells.
			return lines, nil
		}
		lines = append(lines, dropped...)
	}
	return lines, nil
}

func tryAddresses(ctx context.Context, c Cluster, spec map[string]any, trial string) error {
	probe := unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Service",
		"metadata": map[string]any{"generateName": "godwit-trial-", "namespace": trial},
	}}
	wanted := make(map[string]any)
	for _, field := range []string{"type", "clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "ports", "externalTrafficPolicy", "healthCheckNodePort"} {
		if value, ok := spec[field]; ok {
			wanted[field] = value
		}
	}
	probe.Object["spec"] = wanted
	_, err := c.Dynamic.Resource(resourceNamed("", "v1", "services")).Namespace(trial).Create(ctx, probe.DeepCopy(), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

// dropRefused drops the addresses and ports that the server names.
func dropRefused(ref Ref, spec map[string]any, err error) []string {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return nil
	}
	var lines []string
	ports := shape.List(spec, "ports")
	for _, cause := range status.Status().Details.Causes {
		drop := func(fields map[string]any, name string) {
			if n := portIn(fields, name); n != 0 {
				lines = append(lines, gaveUp(ref, fmt.Sprintf("node port %d", n), cause.Message))
				delete(fields, name)
			}
		}
		switch {
		case strings.HasPrefix(cause.Field, "spec.clusterIP"):
			if ips := addressesOf(spec); len(ips) > 0 {
				lines = append(lines, gaveUp(ref, "cluster address "+strings.Join(ips, ", "), cause.Message))
				dropAddresses(spec)
			}
		case cause.Field == "spec.healthCheckNodePort":
			drop(spec, "healthCheckNodePort")
		default:
			for i, port := range ports {
				if cause.Field == fmt.Sprintf("spec.ports[%d].nodePort", i) {
					drop(port, "nodePort")
				}
			}
		}
	}
	return lines
}
