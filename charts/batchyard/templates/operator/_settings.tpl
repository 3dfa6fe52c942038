{{/* batchyard_operator.settings.OperatorSettings. */}}
{{- define "batchyard.settings" -}}
namespaces: {{ toJson .Values.namespaces }}
queue:
  url: {{ include "batchyard.queueUrl" . | quote }}
  replicas: {{ include "batchyard.queueReplicas" . }}
  lease: {{ .Values.queue.lease }}
images:
  handler: {{ include "batchyard.image" (dict "root" $ "image" .Values.images.handler) | quote }}
  serving: {{ .Values.images.serving | quote }}
  pull_policy: {{ .Values.images.pullPolicy }}
pods:
  handler_resources: {{ toJson .Values.jobs.handlerResources }}
  serving_resources: {{ toJson .Values.jobs.servingResources }}
  enqueuer_resources: {{ toJson .Values.jobs.enqueuerResources }}
  run_as_user: {{ if kindIs "invalid" .Values.jobs.runAsUser }}null{{ else }}{{ int64 .Values.jobs.runAsUser }}{{ end }}
  grace: {{ int .Values.jobs.grace }}
  startup: {{ int .Values.jobs.startup }}
work: {{ .Values.queue.work | quote }}
turns: {{ int .Values.operator.turns }}
status_writes: {{ .Values.operator.statusWrites }}
liveness_port: 8080
log_level: {{ .Values.operator.logLevel }}
{{- end }}
