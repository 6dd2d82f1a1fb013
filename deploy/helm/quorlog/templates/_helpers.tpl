{{- define "quorlog.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "quorlog.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "quorlog.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "quorlog.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "quorlog.selector" -}}
app.kubernetes.io/name: {{ include "quorlog.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "quorlog.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "quorlog.selector" . }}
{{- end }}

{{- define "quorlog.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "quorlog.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "quorlog.fullname" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- define "quorlog.headless" -}}
{{ include "quorlog.fullname" . }}-headless
{{- end }}

{{- define "quorlog.domain" -}}
{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end }}

{{/* Whether the nodes have certificates, because some listener has TLS or tls.peers wants it, or some listener SASL: "true" or nothing. */}}
{{- define "quorlog.tls" -}}
{{- if or .Values.listeners.internal.tls (ne .Values.tls.peers "auto") (and .Values.listeners.external.enabled .Values.listeners.external.tls) }}true{{ end }}
{{- end }}
{{- define "quorlog.sasl" -}}
{{- if or .Values.listeners.internal.sasl (and .Values.listeners.external.enabled .Values.listeners.external.sasl) }}true{{ end }}
{{- end }}

{{- define "quorlog.clusterKeySecret" -}}
{{ .Values.clusterKey.existingSecret | default (printf "%s-cluster-key" (include "quorlog.fullname" .)) }}
{{- end }}
{{- define "quorlog.usersSecret" -}}
{{ .Values.auth.users.existingSecret | default (printf "%s-users" (include "quorlog.fullname" .)) }}
{{- end }}

{{/* Whether the chart has a password to log in by: "true" or nothing. */}}
{{- define "quorlog.admin" -}}
{{- if and (include "quorlog.sasl" .) (or (not .Values.auth.users.existingSecret) .Values.auth.users.existingSecretHasAdmin) }}true{{ end }}
{{- end }}

{{/* Whether a node can be drained before it stops, "true" or nothing: somebody is there to take over, and the hook may ask for it. */}}
{{- define "quorlog.drains" -}}
{{- $known := or (and .Values.listeners.internal.sasl (include "quorlog.admin" .)) (and .Values.listeners.internal.tls .Values.tls.client) }}
{{- $open := and (eq .Values.auth.authorizer "none") (not .Values.listeners.internal.sasl) (not (and .Values.listeners.internal.tls (eq .Values.tls.clientAuth "required"))) }}
{{- if and (gt (int .Values.replicas) 1) (or $known $open) }}true{{ end }}
{{- end }}

{{/* The flags of a quorlog command on the internal listener, as elements of a YAML list. */}}
{{- define "quorlog.clientFlags" -}}
{{- if .Values.listeners.internal.tls }}
- --tls-ca=/etc/quorlog/tls/ca.crt
{{- with .Values.tls.client }}
- --tls-cert=/etc/quorlog/tls/{{ . }}.crt
- --tls-key=/etc/quorlog/tls/{{ . }}.key
{{- end }}
{{- end }}
{{- if and .Values.listeners.internal.sasl (include "quorlog.admin" .) }}
- --user={{ .Values.auth.admin }}
- --password-file=/etc/quorlog/users/password
{{- end }}
{{- end }}

{{/* The volumes that a quorlog command on the internal listener needs, and their mounts. */}}
{{- define "quorlog.secretVolumes" -}}
{{- if include "quorlog.tls" . }}
- name: tls
  secret:
    secretName: {{ .Values.tls.existingSecret }}
    defaultMode: 0440
{{- end }}
{{- if include "quorlog.sasl" . }}
- name: users
  secret:
    secretName: {{ include "quorlog.usersSecret" . }}
    defaultMode: 0440
{{- end }}
{{- end }}
{{- define "quorlog.secretMounts" -}}
{{- if include "quorlog.tls" . }}
- {name: tls, mountPath: /etc/quorlog/tls, readOnly: true}
{{- end }}
{{- if include "quorlog.sasl" . }}
- {name: users, mountPath: /etc/quorlog/users, readOnly: true}
{{- end }}
{{- end }}

{{/* A soft limit for Go's memory: what the values say, or nine tenths of the container's limit in bytes, or nothing. */}}
{{- define "quorlog.goMemLimit" -}}
{{- $limit := ((.Values.resources).limits).memory }}
{{- if .Values.goMemLimit }}
{{- .Values.goMemLimit }}
{{- else if $limit }}
{{- if kindIs "float64" $limit }}{{/* a number in a file, which would be printed with an exponent */}}
{{- $limit = int64 $limit }}
{{- end }}
{{- $limit = toString $limit }}
{{- if not (regexMatch "^[0-9]+([.][0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$" $limit) }}
{{- fail (printf "resources.limits.memory is %s, of which the chart can't take nine tenths: set goMemLimit, or off" $limit) }}
{{- end }}
{{- $units := dict "" 1 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 }}
{{- mulf (regexFind "^[0-9.]+" $limit | float64) (get $units (regexFind "[A-Za-z]*$" $limit)) 0.9 | floor | int64 }}
{{- end }}
{{- end }}

{{/* What the values say together. */}}
{{- define "quorlog.check" -}}
{{- if and (include "quorlog.tls" .) (not .Values.tls.existingSecret) }}
{{- fail "a listener has tls, or tls.peers wants it: tls.existingSecret must name the Secret with the certificates (quorlog cert makes them)" }}
{{- end }}
{{- if and (eq .Values.tls.peers "optional") .Values.listeners.internal.tls }}
{{- fail "listeners.internal has tls, so nodes must speak it with each other: set tls.peers back to auto" }}
{{- end }}
{{- if and .Values.listeners.external.enabled (not .Values.listeners.external.advertise) }}
{{- fail "listeners.external.advertise must say what clients outside are told, for example broker-{node-id}.kafka.example.com:9094" }}
{{- end }}
{{- if and .Values.listeners.external.enabled (gt (int .Values.replicas) 1) (not (regexMatch "node-id}|{env:(HOST_IP|POD_)" .Values.listeners.external.advertise)) }}
{{- fail "listeners.external.advertise must differ from node to node: put {node-id} into it" }}
{{- end }}
{{- if and .Values.listeners.external.enabled (eq (int .Values.listeners.external.port) (int .Values.listeners.internal.port)) }}
{{- fail "listeners.internal and listeners.external need ports of their own" }}
{{- end }}
{{- if and (eq .Values.auth.authorizer "acl") (not (include "quorlog.sasl" .)) (eq .Values.tls.clientAuth "none") }}
{{- fail "auth.authorizer is acl, but no client can say who it is: give a listener sasl, or tls.clientAuth" }}
{{- end }}
{{- range $name, $_ := .Values.config }}
{{- if has $name (list "node.id" "broker.id" "listeners" "advertised.listeners" "listener.security.protocol.map" "log.dir" "log.dirs" "broker.rack" "authorizer" "super.users" "ssl.client.auth") }}
{{- fail (printf "config.%s is made by the chart" $name) }}
{{- end }}
{{- end }}
{{- end }}
