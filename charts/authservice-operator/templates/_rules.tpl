{{/*
What the operator may do where it serves: each rule with the step that needs it and what breaks
without. `operator check` (run by `helm test`) asks for each of them.
*/}}
{{- define "authservice-operator.rules" -}}
# The resource itself: what to do. Never written but for its status.
- apiGroups: [authservice.dev]
  resources: [authservices]
  verbs: [get, list, watch]
# Conditions, URL and versions: without it nobody learns what is wrong.
- apiGroups: [authservice.dev]
  resources: [authservices/status]
  verbs: [patch]
# Children name their AuthService as an owner that waits for them; clusters with the admission
# plugin OwnerReferencesPermissionEnforcement (OpenShift) ask for this right then.
- apiGroups: [authservice.dev]
  resources: [authservices/finalizers]
  verbs: [update]
# The auth server and the managed database: made, corrected, watched; garbage collection deletes them.
- apiGroups: [apps]
  resources: [deployments, statefulsets]
  verbs: [get, list, watch, create, patch]
# Migrations: a Job cannot be changed, so a failed or outdated one is deleted and made anew.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
# Deleted when replicas fall to one, where a budget would only block node drains.
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# The addresses that other services call; that of the administration port is deleted when it closes.
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
# Keys and accounts are generated once and gain entries; Secrets that an AuthService refers to are
# read, and watched by their metadata, so that a mended password takes effect at once. Never deleted.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch]
# Whether a volume with data exists decides if a lost password may be replaced; a larger
# storage.size is patched in.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, patch]
# Server pods are asked for their /status; a migration's outcome is read from its pod.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list]
# What `kubectl describe authservice` shows; a repeated Event is patched to count up.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
