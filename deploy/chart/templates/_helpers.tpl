{{/* The name that all objects begin with: the release's, with the chart's in it. */}}
{{- define "godwit.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "godwit.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{/* Labels that choose pods. Called with the root and the component. */}}
{{- define "godwit.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "godwit.labels" -}}
{{ include "godwit.selector" . }}
app.kubernetes.io/part-of: godwit
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 }}
{{- end -}}

{{/*
HOST:PORT for tokens; empty where it is not known. Kubernetes puts in NODE_IP.
*/}}
{{- define "godwit.advertise" -}}
{{- $service := .Values.pairing.service -}}
{{- if .Values.pairing.endpoint -}}
{{- .Values.pairing.endpoint -}}
{{- else if and (eq $service.type "NodePort") $service.nodePort -}}
{{- printf "$(NODE_IP):%d" (int $service.nodePort) -}}
{{- end -}}
{{- end -}}
