package convert

import (
	"errors"
	"fmt"

	"github.com/godwit-io/godwit/daemon/workload/shape"
)

// ingress: backends became a service with a port by number or name, spec.backend
// became spec.defaultBackend, and pathType must be there.
func ingress(object map[string]any) error {
	spec := shape.Child(object, "spec")
	if spec == nil {
		return nil
	}
	if backend, ok := spec["backend"].(map[string]any); ok {
		converted, err := ingressBackend(backend)
		if err != nil {
			return fmt.Errorf("spec.backend: %w", err)
		}
		delete(spec, "backend")
		spec["defaultBackend"] = converted
	}
	for i, rule := range shape.List(spec, "rules") {
		for j, path := range shape.List(rule, "http", "paths") {
			backend, ok := path["backend"].(map[string]any)
			if !ok {
				return fmt.Errorf("spec.rules[%d].http.paths[%d] has no backend", i, j)
			}
			converted, err := ingressBackend(backend)
			if err != nil {
				return fmt.Errorf("spec.rules[%d].http.paths[%d].backend: %w", i, j, err)
			}
			path["backend"] = converted
			if shape.Text(path, "pathType") == "" {
				path["pathType"] = "ImplementationSpecific"
			}
		}
	}
	return nil
}

func ingressBackend(in map[string]any) (map[string]any, error) {
	name, hasService := in["serviceName"]
	if !hasService {
		if in["resource"] != nil {
			return in, nil
		}
		return nil, errors.New("it names neither a service nor a resource")
	}
	port := make(map[string]any)
	switch value := in["servicePort"].(type) {
	case string:
		port["name"] = value
	case int64:
		port["number"] = value
	case float64:
		port["number"] = int64(value)
	default:
		return nil, errors.New("servicePort is missing")
	}
	return map[string]any{"service": map[string]any{"name": name, "port": port}}, nil
}

// selected: the selector was taken from the template's labels, and is required now.
func selected(object map[string]any) error {
	spec := shape.Child(object, "spec")
	if spec == nil || spec["selector"] != nil {
		return nil
	}
	labels := shape.Child(spec, "template", "metadata", "labels")
	if len(labels) == 0 {
		return errors.New("it has neither spec.selector nor labels in its template")
	}
	match := make(map[string]any, len(labels))
	for key, value := range labels {
		match[key] = value
	}
	spec["selector"] = map[string]any{"matchLabels": match}
	return nil
}

// deployment: a Deployment had no deadline for its progress.
func deployment(object map[string]any) error {
	if spec := shape.Child(object, "spec"); spec != nil {
		initial(spec, "progressDeadlineSeconds", int64(1<<31-1))
	}
	return deploymentBeta(object)
}

// deploymentBeta: rollbackTo is gone.
func deploymentBeta(object map[string]any) error {
	if spec := shape.Child(object, "spec"); spec != nil {
		delete(spec, "rollbackTo")
	}
	return selected(object)
}

func daemonSet(object map[string]any) error {
	if spec := shape.Child(object, "spec"); spec != nil {
		delete(spec, "templateGeneration")
		initial(spec, "updateStrategy", map[string]any{"type": "OnDelete"})
	}
	return selected(object)
}

func statefulSet(object map[string]any) error {
	if spec := shape.Child(object, "spec"); spec != nil {
		initial(spec, "updateStrategy", map[string]any{"type": "OnDelete"})
	}
	return selected(object)
}

// initial sets what the old version had by default and the new one has not.
func initial(spec map[string]any, field string, value any) {
	if _, set := spec[field]; !set {
		spec[field] = value
	}
}

// disruptionBudget: an empty selector meant no pods and means all of them now.
func disruptionBudget(object map[string]any) error {
	selector, set := shape.Child(object, "spec")["selector"].(map[string]any)
	if !set || len(selector) == 0 {
		return errors.New("its empty selector chooses no pod in policy/v1beta1 and every pod in policy/v1: give it a selector")
	}
	return nil
}

// autoscaler: each metric's target became a target with a type.
func autoscaler(object map[string]any) error {
	for i, metric := range shape.List(object, "spec", "metrics") {
		if err := autoscalerMetric(metric); err != nil {
			return fmt.Errorf("spec.metrics[%d]: %w", i, err)
		}
	}
	return nil
}

func autoscalerMetric(metric map[string]any) error {
	switch kind := shape.Text(metric, "type"); kind {
	case "Resource":
		return retarget(shape.Child(metric, "resource"), nil, map[string]string{
			"targetAverageUtilization": "averageUtilization", "targetAverageValue": "averageValue",
		})
	case "ContainerResource":
		return retarget(shape.Child(metric, "containerResource"), nil, map[string]string{
			"targetAverageUtilization": "averageUtilization", "targetAverageValue": "averageValue",
		})
	case "Pods":
		pods := shape.Child(metric, "pods")
		return retarget(pods, map[string]string{"metricName": "name", "selector": "selector"}, map[string]string{"targetAverageValue": "averageValue"})
	case "External":
		external := shape.Child(metric, "external")
		return retarget(external, map[string]string{"metricName": "name", "metricSelector": "selector"},
			map[string]string{"targetValue": "value", "targetAverageValue": "averageValue"})
	case "Object":
		object := shape.Child(metric, "object")
		if object == nil {
			return errors.New("object is missing")
		}
		object["describedObject"] = object["target"]
		delete(object, "target")
		return retarget(object, map[string]string{"metricName": "name", "selector": "selector"},
			map[string]string{"targetValue": "value", "averageValue": "averageValue"})
	default:
		return fmt.Errorf("metrics of type %q are unknown", kind)
	}
}

// retarget gathers the metric's identity and its target from single fields.
func retarget(in map[string]any, identity, targets map[string]string) error {
	if in == nil {
		return errors.New("its description is missing")
	}
	if len(identity) > 0 {
		metric := make(map[string]any)
		for old, field := range identity {
			if value, ok := in[old]; ok {
				metric[field] = value
				delete(in, old)
			}
		}
		in["metric"] = metric
	}
	target := make(map[string]any)
	kinds := map[string]string{"averageUtilization": "Utilization", "averageValue": "AverageValue", "value": "Value"}
	for old, field := range targets {
		value, ok := in[old]
		if !ok {
			continue
		}
		// A stored metric may carry a zero value beside the one that counts.
		if text, isText := value.(string); isText && text == "0" && len(target) > 0 {
			delete(in, old)
			continue
		}
		target[field], target["type"] = value, kinds[field]
		delete(in, old)
	}
	if len(target) == 0 {
		return errors.New("it has no target")
	}
	in["target"] = target
	return nil
}

// endpointSlice: topology became the node's name and the zone.
func endpointSlice(object map[string]any) error {
	items, _ := object["endpoints"].([]any)
	for _, item := range items {
		endpoint, ok := item.(map[string]any)
		if !ok {
			continue
		}
		topology := shape.Child(endpoint, "topology")
		if node, ok := topology["kubernetes.io/hostname"]; ok && endpoint["nodeName"] == nil {
			endpoint["nodeName"] = node
		}
		if zone, ok := topology["topology.kubernetes.io/zone"]; ok && endpoint["zone"] == nil {
			endpoint["zone"] = zone
		}
		delete(endpoint, "topology")
	}
	return nil
}

// rbac: subjects named the version, and now name the group.
func rbac(object map[string]any) error {
	for _, subject := range shape.List(object, "subjects") {
		delete(subject, "apiVersion")
		switch shape.Text(subject, "kind") {
		case "User", "Group":
			if shape.Text(subject, "name") == "*" {
				return errors.New("its subject * has no equal in v1: name system:authenticated or system:unauthenticated")
			}
			subject["apiGroup"] = "rbac.authorization.k8s.io"
		}
	}
	return nil
}

// webhooks: side effects must be told, and four defaults differ.
func webhooks(object map[string]any) error {
	for i, hook := range shape.List(object, "webhooks") {
		switch effects := shape.Text(hook, "sideEffects"); effects {
		case "None", "NoneOnDryRun":
		default:
			return fmt.Errorf("webhooks[%d].sideEffects is %q, and must be None or NoneOnDryRun", i, effects)
		}
		initial(hook, "failurePolicy", "Ignore")
		initial(hook, "timeoutSeconds", int64(30))
		initial(hook, "matchPolicy", "Exact")
		initial(hook, "admissionReviewVersions", []any{"v1beta1"})
	}
	return nil
}
