{{/*
Each verb that the operator uses, and no other: tests/chart holds this list against what a running one asks for.
docs/security.md says why each is needed.
*/}}
{{- define "batchyard.rules" -}}
- apiGroups: [batchyard.dev]
  resources: [batchjobs]
  verbs: [get, list, watch, patch, delete]
- apiGroups: [batchyard.dev]
  resources: [batchjobs/status]
  verbs: [patch]
# Children name their job as an owner that waits for them; clusters may ask for this right then.
- apiGroups: [batchyard.dev]
  resources: [batchjobs/finalizers]
  verbs: [update]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch, delete]
- apiGroups: [""]
  resources: [configmaps, secrets]
  verbs: [create, patch]
- apiGroups: [""]
  resources: [events]
  verbs: [create, list]
{{- end }}
