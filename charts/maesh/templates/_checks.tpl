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
