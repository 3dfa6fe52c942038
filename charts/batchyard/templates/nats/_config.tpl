{{/*
NATS' configuration. Its $VARIABLES are read from the environment, where the StatefulSet puts them in quotes: no
credential is in a ConfigMap, and a password may look like a number.
*/}}
{{- define "batchyard.natsConfig" -}}
{{- $name := include "batchyard.natsName" . -}}
server_name: $SERVER_NAME
port: 4222
http_port: 8222
pid_file: "/run/nats/nats.pid"
max_payload: {{ .Values.nats.maxPayload }}

jetstream {
  store_dir: "/data"
  max_file_store: {{ include "batchyard.nineTenths" .Values.nats.storage.size }}
  sync_interval: {{ .Values.nats.syncInterval }}
}

authorization {
  user: $CLIENT_USER
  password: $CLIENT_PASSWORD
}
{{- if gt (int .Values.nats.replicas) 1 }}

cluster {
  name: {{ $name | quote }}
  port: 6222
  no_advertise: true
  authorization {
    user: "server"
    password: $SERVER_PASSWORD
  }
  routes: [{{ range $i := until (int .Values.nats.replicas) }}{{ if $i }}, {{ end }}$ROUTE_{{ $i }}{{ end }}]
}

# On SIGUSR2: hands its streams' leadership over, then sends clients away one by one.
lame_duck_grace_period: 5s
lame_duck_duration: 30s
{{- end }}
{{- end }}
