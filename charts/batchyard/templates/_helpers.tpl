{{/* The chart's name, or its replacement. */}}
{{- define "batchyard.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* The release's name with the chart's, as everybody's helpers make it. 40 characters: -nats-headless-… still fits. */}}
{{- define "batchyard.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "batchyard.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "batchyard.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "batchyard.chart" -}}
{{- printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Labels of every object: dict "root" $ "component" "operator". */}}
{{- define "batchyard.labels" -}}
helm.sh/chart: {{ include "batchyard.chart" .root }}
{{ include "batchyard.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{/* What selects pods; pods of jobs have the same name, but no instance. */}}
{{- define "batchyard.selectorLabels" -}}
app.kubernetes.io/name: {{ include "batchyard.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* An image: dict "root" $ "image" (repository, tag); appVersion is the tag of our own. */}}
{{- define "batchyard.image" -}}
{{- $tag := default .root.Chart.AppVersion .image.tag -}}
{{- .image.repository }}{{ if hasPrefix "sha256:" $tag }}@{{ else }}:{{ end }}{{ $tag }}
{{- end }}

{{- define "batchyard.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "batchyard.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "batchyard.natsName" -}}
{{- include "batchyard.fullname" . }}-nats
{{- end }}

{{/* The queue's address as pods of any namespace reach it. */}}
{{- define "batchyard.queueUrl" -}}
{{- if .Values.nats.enabled -}}
nats://{{ include "batchyard.natsName" . }}.{{ .Release.Namespace }}.svc:4222
{{- else -}}
{{ .Values.queue.url }}
{{- end }}
{{- end }}

{{- define "batchyard.queueReplicas" -}}
{{- if .Values.queue.replicas }}{{ .Values.queue.replicas }}
{{- else if .Values.nats.enabled }}{{ .Values.nats.replicas }}
{{- else }}1
{{- end }}
{{- end }}

{{/* The Secret with the queue's credentials; empty when the servers ask for none. */}}
{{- define "batchyard.queueSecret" -}}
{{- if .Values.queue.existingSecret }}
{{- .Values.queue.existingSecret }}
{{- else if .Values.nats.enabled }}
{{- include "batchyard.natsName" . }}
{{- end }}
{{- end }}

{{/* Environment of a client of the queue. */}}
{{- define "batchyard.queueEnv" -}}
{{- $secret := include "batchyard.queueSecret" . }}
{{- if $secret }}
{{- $keys := list "user" "password" }}
{{- if eq .Values.queue.auth "token" }}{{ $keys = list "token" }}{{ end }}
{{- range $keys }}
- name: NATS_{{ upper . }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Bytes that nine tenths of a size such as 10Gi are. */}}
{{- define "batchyard.nineTenths" -}}
{{- $units := dict "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 }}
{{- $number := regexFind "^[0-9]+" . | int64 }}
{{- div (mul $number (get $units (regexFind "[MGT]i$" .)) 9) 10 }}
{{- end }}

{{/* Placement of a pod: its part of the values. */}}
{{- define "batchyard.placement" -}}
{{- range $field := list "nodeSelector" "tolerations" "affinity" "priorityClassName" }}
{{- with get $ $field }}
{{ $field }}: {{ toJson . }}
{{- end }}
{{- end }}
{{- end }}

{{/* What Pod Security "restricted" wants of a container, and a little more. */}}
{{- define "batchyard.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where the job of `helm test` runs. */}}
{{- define "batchyard.trialNamespace" -}}
{{- if .Values.namespaces }}{{ first .Values.namespaces }}{{ else }}{{ .Release.Namespace }}{{ end }}
{{- end }}
