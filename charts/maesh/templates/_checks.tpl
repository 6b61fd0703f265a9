{{/* Fails with one text that lists all contradictions between values, which a schema cannot find. */}}
{{- define "maesh.check" -}}
{{- with include "maesh.listContradictions" . | fromJsonArray -}}
{{- fail (printf "these values cannot be used:\n  - %s\n" (join "\n  - " .)) -}}
{{- end -}}
{{- end -}}

{{- define "maesh.listContradictions" -}}
{{- $root := . -}}
{{- $problems := list -}}
{{- range $key, $value := .Values.settings -}}
  {{- $plugin := splitList "." $key | first -}}
  {{- if not (include "maesh.isOn" (list $root $plugin)) -}}
    {{- $value := printf "plugins.%s" (replace "access-log" "accessLog" $plugin) -}}
    {{- if eq $plugin "mtls" -}}{{- $value = "mtls.enabled" -}}{{- end -}}
    {{- $problems = append $problems (printf "settings.%s belongs to a disabled plugin: set %s, or add the plugin to plugins.extra" $key $value) -}}
  {{- end -}}
  {{- if or (eq $key "udp.limit") (and (eq $key "udp") (hasKey $value "limit")) -}}
    {{- $problems = append $problems "settings contains udp.limit: set limits.udp instead" -}}
  {{- end -}}
{{- end -}}
{{- with .Values.redis -}}
  {{- if and .url (not (include "maesh.isOn" (list $root "ratelimit"))) -}}
    {{- $problems = append $problems "redis.url has no effect without the plugin ratelimit: set plugins.ratelimit" -}}
  {{- end -}}
  {{- if and (or .passwordSecret .caSecret .certificateSecret) (not .url) -}}
    {{- $problems = append $problems "redis has Secrets, but no redis.url" -}}
  {{- end -}}
  {{- if and (or .caSecret .certificateSecret) (not (hasPrefix "rediss://" .url)) -}}
    {{- $problems = append $problems "redis.caSecret and redis.certificateSecret are for TLS: redis.url must begin with rediss://" -}}
  {{- end -}}
{{- end -}}
{{- if eq .Release.Namespace "kube-system" -}}
  {{- $problems = append $problems "the namespace is kube-system, which the mesh ignores: install the chart into another namespace" -}}
{{- end -}}
{{- $mode := .Values.mesh.defaultMode | default .Values.defaultMode -}}
{{- if and (eq $mode "udp") (not (include "maesh.isOn" (list . "udp"))) -}}
  {{- $problems = append $problems "defaultMode is udp: set plugins.udp" -}}
{{- end -}}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled -}}
  {{- $problems = append $problems "metrics.serviceMonitor and metrics.podMonitor together would count everything twice: enable only one" -}}
{{- end -}}
{{- $problems = concat $problems (include "maesh.mtls.listContradictions" . | fromJsonArray) -}}
{{- toJson $problems -}}
{{- end -}}
