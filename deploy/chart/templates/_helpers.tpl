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

{{/* nfs.folder is where one of the value nfs is mounted, in every pod. */}}
{{- define "godwit.nfsFolder" -}}
/nfs/{{ .server | replace ":" "-" }}{{ .path }}
{{- end }}

{{- define "godwit.nfsMounts" -}}
{{- range $i, $export := .Values.nfs }}
- name: nfs-{{ $i }}
  mountPath: {{ include "godwit.nfsFolder" $export | quote }}
{{- end }}
{{- end }}

{{- define "godwit.nfsVolumes" -}}
{{- range $i, $export := .Values.nfs }}
- name: nfs-{{ $i }}
  nfs:
    server: {{ $export.server | quote }}
    path: {{ $export.path | quote }}
{{- end }}
{{- end }}

{{/*
The rules of a role that `make generate` wrote: of what kind in which file.
Called with the root, file and kind.
*/}}
{{- define "godwit.rules" -}}
{{- range $document := splitList "\n---\n" (printf "\n%s" (.root.Files.Get (printf "files/rbac/%s.yaml" .file))) }}
{{- $role := fromYaml $document }}
{{- if eq ($role.kind | default "") $.kind }}
{{ toYaml $role.rules }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The rule that lets names be asked for. */}}
{{- define "godwit.names" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end -}}

{{/* The rule of one of networkPolicy.egress' ways out. */}}
{{- define "godwit.way" -}}
- to:
    {{- toYaml .to | nindent 4 }}
  ports:
    {{- range .ports }}
    - {port: {{ int . }}, protocol: TCP}
    {{- else }}
    - {port: 1, endPort: 65535, protocol: TCP}
    {{- end }}
{{- end -}}
