{{/* Values that contradict each other, a sentence each; what one value may be is in values.schema.json. */}}
{{- define "batchyard.refuse" -}}
{{- $queue := .Values.queue }}
{{- if .Values.nats.enabled }}
  {{- if $queue.url }}
    {{- fail (printf "queue.url is %q while nats.enabled is true: set nats.enabled=false to use your own servers, or leave queue.url empty." (regexReplaceAll "//[^/]*@" $queue.url "//…@")) }}
  {{- end }}
  {{- if eq $queue.auth "token" }}
    {{- fail "queue.auth is token while nats.enabled is true: the chart's NATS knows a user and a password, so leave it at user." }}
  {{- end }}
  {{- if and $queue.replicas (gt (int $queue.replicas) (int .Values.nats.replicas)) }}
    {{- fail (printf "queue.replicas is %d while nats.replicas is %d: streams can't have more copies than there are servers." (int $queue.replicas) (int .Values.nats.replicas)) }}
  {{- end }}
{{- else }}
  {{- if not $queue.url }}
    {{- fail "queue.url is empty while nats.enabled is false: name your NATS servers, such as nats://nats.example.com:4222." }}
  {{- end }}
  {{- if contains "@" $queue.url }}
    {{- fail "queue.url holds credentials: put them into a Secret with the keys user and password, and name it by queue.existingSecret." }}
  {{- end }}
  {{- if not (regexMatch "^(nats|tls)://[A-Za-z0-9.:\\[\\]_-]+(,[A-Za-z0-9.:\\[\\]_-]+)*$" $queue.url) }}
    {{- fail (printf "queue.url is %q: expected nats://host:port or tls://host:port, several hosts with commas, and nothing behind them." $queue.url) }}
  {{- end }}
  {{- if and (eq $queue.auth "token") (not $queue.existingSecret) }}
    {{- fail "queue.auth is token while queue.existingSecret is empty: name the Secret that holds the key token." }}
  {{- end }}
{{- end }}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) }}
  {{- fail "serviceAccount.create is false while serviceAccount.name is empty: name the account that the operator runs as." }}
{{- end }}
{{- if and .Values.nats.enabled (not .Values.nats.storage.enabled) .Values.nats.storage.storageClass }}
  {{- fail (printf "nats.storage.storageClass is %q while nats.storage.enabled is false: an emptyDir has no class." .Values.nats.storage.storageClass) }}
{{- end }}
{{- end }}
