package chart

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/godwit-io/godwit/snapshot/csi"
)

// everything turns on whatever the values can turn on.
func everything() []string {
	return []string{
		"--set", `clusterName=production\, east`, "--set-string", "image.tag=1.2.3", "--set", "imagePullSecrets[0].name=registry",
		"--set", "pairing.endpoint=[2001:db8::1]:443", "--set", "pairing.service.type=LoadBalancer",
		"--set", "pairing.service.loadBalancerClass=example.com/lb", "--set", "pairing.service.loadBalancerSourceRanges[0]=10.0.0.0/8",
		"--set", "pairing.service.annotations.a=b",
		"--set", "cloudRole.allowed=true", "--set", "cloudRole.serviceAccountAnnotations.a=b", "--set", "target.clusterWide=false", "--set-json", `target.rules=[{"apiGroups":["apps"],"resources":["deployments"],"verbs":["create"]}]`,
		"--set", "controller.priorityClassName=high", "--set", "controller.nodeSelector.a=b", "--set", "controller.podAnnotations.a=b",
		"--set-json", `controller.tolerations=[{"operator":"Exists"}]`, "--set-json", `controller.affinity={"nodeAffinity":{}}`,
		"--set", "node.kubeletDir=/data/kubelet", "--set", "node.priorityClassName=higher", "--set", "node.nodeSelector.a=b", "--set", "node.podAnnotations.a=b",
		"--set", "networkPolicy.enabled=true", "--set-json", `networkPolicy.pairingFrom=[{"ipBlock":{"cidr":"10.0.0.0/8"}}]`,
		"--set", "hooks.enabled=true", "--set", "hooks.runnerImage=r", "--set", "rules.enabled=true", "--set", "rules.limit=1h30m",
		"--set-json", `networkPolicy.metricsFrom=[{"namespaceSelector":{}}]`,
		"--set", "networkPolicy.egress.enabled=true", "--set-json", `networkPolicy.egress.stores={"to":[{"ipBlock":{"cidr":"192.0.2.0/24"}}],"ports":[9000]}`,
	}
}

func TestObjectsFitTogether(t *testing.T) {
	for name, args := range map[string][]string{"as it comes": nil, "everything on": everything()} {
		t.Run(name, func(t *testing.T) {
			objs := decode(t, render(t, args...))
			controller := one[*appsv1.Deployment](t, objs, "godwit-controller").Spec
			node := one[*appsv1.DaemonSet](t, objs, "godwit-node").Spec
			selects(t, "Deployment", controller.Selector.MatchLabels, controller.Template)
			selects(t, "DaemonSet", node.Selector.MatchLabels, node.Template)
			service := one[*corev1.Service](t, objs, "godwit-pairing").Spec
			selects(t, "Service", service.Selector, controller.Template)
			if labels.SelectorFromSet(service.Selector).Matches(labels.Set(node.Template.Labels)) {
				t.Error("the Service also selects the nodes' pods")
			}
			if port := service.Ports[0].TargetPort.StrVal; !hasPort(controller.Template, port) {
				t.Errorf("the controller has no port %q", port)
			}
			for _, policy := range find[*networkingv1.NetworkPolicy](objs) {
				template := controller.Template
				switch policy.Name {
				case "godwit-node":
					template = node.Template
				case "godwit-holders":
					continue
				}
				selects(t, "NetworkPolicy "+policy.Name, policy.Spec.PodSelector.MatchLabels, template)
				for _, rule := range policy.Spec.Ingress {
					if port := rule.Ports[0].Port.StrVal; !hasPort(template, port) {
						t.Errorf("NetworkPolicy %s names a port %q that is not there", policy.Name, port)
					}
				}
			}
			for _, template := range []corev1.PodTemplateSpec{controller.Template, node.Template} {
				one[*corev1.ServiceAccount](t, objs, template.Spec.ServiceAccountName)
				checkProbes(t, template)
			}
			for _, binding := range find[*rbacv1.ClusterRoleBinding](objs) {
				one[*rbacv1.ClusterRole](t, objs, binding.RoleRef.Name)
				checkSubjects(t, binding.Subjects, binding.RoleRef.Name)
			}
			for _, binding := range find[*rbacv1.RoleBinding](objs) {
				one[*rbacv1.Role](t, objs, binding.RoleRef.Name)
				checkSubjects(t, binding.Subjects, binding.RoleRef.Name)
			}
		})
	}
}

// TestWaysOut: the daemons reach what they need and nothing else, and holders
// nobody.
func TestWaysOut(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		// ports are those that each may reach, by who it is.
		ports map[string]string
	}{
		"as it comes": {[]string{"--set", "networkPolicy.enabled=true"}, map[string]string{"controller": "everything", "node": "everything", "holders": ""}},
		"restricted": {
			[]string{"--set", "networkPolicy.enabled=true", "--set", "networkPolicy.egress.enabled=true"},
			map[string]string{"controller": "53/UDP 53 443 6443 443 443 9310 30931", "node": "53/UDP 53 443 6443 443 1-65535", "holders": ""},
		},
		"no changed blocks": {
			[]string{"--set", "networkPolicy.enabled=true", "--set", "networkPolicy.egress.enabled=true", "--set", "node.changedBlocks=false"},
			map[string]string{"controller": "53/UDP 53 443 6443 443 443 9310 30931", "node": "53/UDP 53 443 6443 443", "holders": ""},
		},
		"everything on": {everything(), map[string]string{"controller": "53/UDP 53 443 6443 9000 443 9310 30931", "node": "53/UDP 53 443 6443 9000 1-65535", "holders": ""}},
	} {
		objs := decode(t, render(t, c.args...))
		for who, want := range c.ports {
			policy := one[*networkingv1.NetworkPolicy](t, objs, "godwit-"+who).Spec
			if got := waysOut(policy); got != want {
				t.Errorf("%s: %s reaches %q, want %q", name, who, got, want)
			}
			if who == "holders" && len(policy.Ingress) > 0 {
				t.Errorf("%s: holders are reached", name)
			}
		}
	}
	objs := decode(t, render(t, everything()...))
	for _, who := range []string{"controller", "node"} {
		if to := one[*networkingv1.NetworkPolicy](t, objs, "godwit-"+who).Spec.Egress[2].To; len(to) != 1 || to[0].IPBlock.CIDR != "192.0.2.0/24" {
			t.Errorf("the store of %s is at %+v", who, to)
		}
	}
	for label, held := range map[string]bool{"app.kubernetes.io/name": false, csi.LabelRole: true} {
		selector, err := metav1.LabelSelectorAsSelector(&one[*networkingv1.NetworkPolicy](t, objs, "godwit-holders").Spec.PodSelector)
		if err != nil || selector.Matches(labels.Set{label: "x"}) != held {
			t.Errorf("pods with the label %s are held, or are not: %v", label, err)
		}
	}
}

func waysOut(policy networkingv1.NetworkPolicySpec) string {
	if !slices.Contains(policy.PolicyTypes, networkingv1.PolicyTypeEgress) {
		return "everything"
	}
	var ports []string
	for _, rule := range policy.Egress {
		for _, p := range rule.Ports {
			port := p.Port.String()
			if p.EndPort != nil {
				port += fmt.Sprintf("-%d", *p.EndPort)
			}
			if *p.Protocol != corev1.ProtocolTCP {
				port += "/" + string(*p.Protocol)
			}
			ports = append(ports, port)
		}
	}
	return strings.Join(ports, " ")
}

func selects(t *testing.T, what string, selector map[string]string, template corev1.PodTemplateSpec) {
	t.Helper()
	if !labels.SelectorFromSet(selector).Matches(labels.Set(template.Labels)) {
		t.Errorf("%s selects %v, and its pods have %v", what, selector, template.Labels)
	}
}

func hasPort(template corev1.PodTemplateSpec, name string) bool {
	return slices.ContainsFunc(template.Spec.Containers[0].Ports, func(p corev1.ContainerPort) bool { return p.Name == name })
}

func checkProbes(t *testing.T, template corev1.PodTemplateSpec) {
	t.Helper()
	c := template.Spec.Containers[0]
	for path, probe := range map[string]*corev1.Probe{"/healthz": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
		if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != path || !hasPort(template, probe.HTTPGet.Port.StrVal) {
			t.Errorf("container %s: the probe of %s is %+v", c.Name, path, probe)
		}
	}
}

func checkSubjects(t *testing.T, subjects []rbacv1.Subject, name string) {
	t.Helper()
	want := []rbacv1.Subject{{Kind: "ServiceAccount", Name: name, Namespace: "godwit-system"}}
	if !slices.Equal(subjects, want) {
		t.Errorf("%s is given to %+v", name, subjects)
	}
}

func TestControllerIsConfined(t *testing.T) {
	pod := one[*appsv1.Deployment](t, decode(t, render(t)), "godwit-controller").Spec.Template.Spec
	security, c := pod.SecurityContext, pod.Containers[0].SecurityContext
	if !*security.RunAsNonRoot || security.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault ||
		!*c.ReadOnlyRootFilesystem || *c.AllowPrivilegeEscalation || c.Privileged != nil || !slices.Equal(c.Capabilities.Drop, []corev1.Capability{"ALL"}) {
		t.Errorf("pod %+v, container %+v", security, c)
	}
	for _, v := range pod.Volumes {
		if v.EmptyDir == nil || v.EmptyDir.SizeLimit == nil {
			t.Errorf("volume %s is no emptyDir with a limit", v.Name)
		}
	}
}

func TestNodeSeesKubeletsFolderWhereItIs(t *testing.T) {
	pod := one[*appsv1.DaemonSet](t, decode(t, render(t, "--set", "node.kubeletDir=/data/kubelet")), "godwit-node").Spec.Template.Spec
	c := pod.Containers[0]
	if !*c.SecurityContext.Privileged || !slices.Contains(c.Args, "--kubelet-dir=/data/kubelet") {
		t.Errorf("container %+v", c)
	}
	i := slices.IndexFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == "/data/kubelet" })
	if i < 0 || c.VolumeMounts[i].MountPropagation == nil || *c.VolumeMounts[i].MountPropagation != corev1.MountPropagationHostToContainer {
		t.Fatalf("mounts %+v", c.VolumeMounts)
	}
	for _, v := range pod.Volumes {
		if v.Name == c.VolumeMounts[i].Name && v.HostPath.Path != "/data/kubelet" {
			t.Errorf("the mount is of %s", v.HostPath.Path)
		}
	}
}

func TestAdvertise(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"as it comes":              {nil, "--advertise=$(NODE_IP):30931"},
		"endpoint":                 {[]string{"--set", "pairing.endpoint=godwit.example.com:443"}, "--advertise=godwit.example.com:443"},
		"node port not known":      {[]string{"--set", "pairing.service.nodePort=0"}, ""},
		"load balancer not known":  {[]string{"--set", "pairing.service.type=LoadBalancer"}, ""},
		"cluster IP with endpoint": {[]string{"--set", "pairing.service.type=ClusterIP", "--set", "pairing.endpoint=h:1"}, "--advertise=h:1"},
	} {
		deployment := one[*appsv1.Deployment](t, decode(t, render(t, c.args...)), "godwit-controller")
		got := ""
		for _, arg := range deployment.Spec.Template.Spec.Containers[0].Args {
			if strings.HasPrefix(arg, "--advertise") {
				got = arg
			}
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestSchemaRefusesWhatWouldNotWork(t *testing.T) {
	for _, c := range []struct{ set, want string }{
		{"image.repo=x", "repo"},
		{"pairing.endpoint=nowhere", "/pairing/endpoint"},
		{"pairing.endpoint=https://h:1", "/pairing/endpoint"},
		{"pairing.service.type=ExternalName", "/pairing/service/type"},
		{"pairing.service.port=0", "/pairing/service/port"},
		{"node.kubeletDir=var/lib/kubelet", "/node/kubeletDir"},
		{"node.transfers=0", "/node/transfers"},
		{"node.cacheSize=much", "/node/cacheSize"},
		{"target.clusterWide=perhaps", "/target/clusterWide"},
	} {
		_, errOut, err := helm(t, "template", "godwit", "deploy/chart", "--set", c.set)
		if err == nil || !strings.Contains(errOut, c.want) {
			t.Errorf("%s: %v: %s, want a word on %s", c.set, err, errOut, c.want)
		}
	}
}

func TestNotesTellTheNextStep(t *testing.T) {
	for args, want := range map[string]string{
		"":                               "Tokens name the node that the controller runs on",
		"pairing.service.type=ClusterIP": "Nobody knows yet where other clusters reach this one",
		"pairing.endpoint=h:1":           "godwitctl generate clusterpair -n cms prodcluster",
	} {
		line := []string{"install", "godwit", "deploy/chart", "-n", "godwit-system", "--dry-run=client"}
		if args != "" {
			line = append(line, "--set", args)
		}
		out, errOut, err := helm(t, line...)
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%q: %v: %s", args, err, errOut)
		}
	}
}

func TestNamesFollowTheRelease(t *testing.T) {
	out, errOut, err := helm(t, "template", "dr", "deploy/chart", "-n", "elsewhere")
	if err != nil {
		t.Fatalf("%v: %s", err, errOut)
	}
	for _, obj := range decode(t, out) {
		if !strings.HasPrefix(obj.GetName(), "dr-godwit-") {
			t.Errorf("%T %s does not bear the release's name", obj, obj.GetName())
		}
		switch obj.(type) {
		case *rbacv1.ClusterRole, *rbacv1.ClusterRoleBinding:
		default:
			if obj.GetNamespace() != "elsewhere" {
				t.Errorf("%T %s is in namespace %q", obj, obj.GetName(), obj.GetNamespace())
			}
		}
		if obj.GetLabels()["app.kubernetes.io/part-of"] != "godwit" {
			t.Errorf("%T %s has labels %v", obj, obj.GetName(), obj.GetLabels())
		}
	}
}
