{{- define "authservice-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 53 | trimSuffix "-" }}
{{- end }}

{{/* At most 53 characters, so that every name built on it stays within 63. */}}
{{- define "authservice-operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" }}
{{- else if contains (include "authservice-operator.name" .) .Release.Name }}
{{- .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "authservice-operator.name" .) | trunc 53 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Cluster-wide objects of two releases must not meet. */}}
{{- define "authservice-operator.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "authservice-operator.fullname" .) }}
{{- end }}

{{- define "authservice-operator.selector" -}}
app.kubernetes.io/name: {{ include "authservice-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "authservice-operator.labels" -}}
{{ include "authservice-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "authservice-operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "authservice-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "authservice-operator.image" -}}
{{- default (printf "ghcr.io/authservice-operator/operator:%s" .Chart.AppVersion) .Values.image }}
{{- end }}

{{- define "authservice-operator.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "authservice-operator.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "authservice-operator.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* What both the operator and its check have to be told. */}}
{{- define "authservice-operator.environment" -}}
- name: WATCH_NAMESPACES
  value: {{ join "," (.Values.watchNamespaces | default list) | quote }}
- name: LEASE_NAMESPACE
  value: {{ .Release.Namespace }}
- name: LEASE_NAME
  value: {{ include "authservice-operator.fullname" . }}
- name: LEASE_DURATION
  value: {{ .Values.leaderElection.leaseDurationSeconds | quote }}
- name: RUST_LOG
  value: {{ .Values.logLevel | quote }}
{{- end }}

{{/*
Whether this release renders the custom resource definition. Not while another release's name stands
on it: Helm refuses to touch a definition that an earlier release kept, or that a neighbour owns.
Then templates/crd-update.yaml brings it up to date.
*/}}
{{- define "authservice-operator.ownsCrd" -}}
{{- if not .Values.crds.enabled }}
{{- "false" }}
{{- else }}
{{- $found := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" "authservices.authservice.dev" }}
{{- $annotations := dig "metadata" "annotations" dict ($found | default dict) }}
{{- $mine := and (eq (get $annotations "meta.helm.sh/release-name") .Release.Name) (eq (get $annotations "meta.helm.sh/release-namespace") .Release.Namespace) }}
{{- if or (not $found) $mine }}
{{- "true" }}
{{- else }}
{{- "false" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "authservice-operator.crdAnnotations" -}}
authservice.dev/release: {{ .Chart.AppVersion | quote }}
{{- if .Values.crds.keep }}
helm.sh/resource-policy: keep
{{- end }}
{{- end }}
