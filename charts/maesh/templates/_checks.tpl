{{/* Fails with one text that names all that contradicts itself, which no schema can say. */}}
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
    {{- $problems = append $problems (printf "settings.%s is of a plugin that is not on: set plugins.%s, or name it in plugins.extra" $key $plugin) -}}
  {{- end -}}
  {{- if or (eq $key "udp.limit") (and (eq $key "udp") (hasKey $value "limit")) -}}
    {{- $problems = append $problems "settings has udp.limit: set limits.udp" -}}
  {{- end -}}
{{- end -}}
{{- if eq .Release.Namespace "kube-system" -}}
  {{- $problems = append $problems "the namespace is kube-system, which the mesh leaves alone: install it into one of its own" -}}
{{- end -}}
{{- $mode := .Values.mesh.defaultMode | default .Values.defaultMode -}}
{{- if and (eq $mode "udp") (not (include "maesh.isOn" (list . "udp"))) -}}
  {{- $problems = append $problems "defaultMode is udp: set plugins.udp" -}}
{{- end -}}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled -}}
  {{- $problems = append $problems "metrics.serviceMonitor and metrics.podMonitor would count everything twice: enable one" -}}
{{- end -}}
{{- toJson $problems -}}
{{- end -}}
