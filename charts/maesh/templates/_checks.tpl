{{/* Fails with one text that names all that is wrong with the values. What no schema can say: values of Maesh's earlier charts
are refused by the name of what took their place. */}}
{{- define "maesh.check" -}}
{{- $problems := concat (include "maesh.listDropped" . | fromJsonArray) (include "maesh.listContradictions" . | fromJsonArray) -}}
{{- with $problems -}}
{{- fail (printf "these values cannot be used:\n  - %s\nThe upgrade guide in charts/README.md says more.\n" (join "\n  - " .)) -}}
{{- end -}}
{{- end -}}

{{- define "maesh.droppedValues" -}}
controller.image: one image is for all parts now, set image.name and image.tag
controller.logging: set controller.logLevel, to debug for what debug=true was
mesh.image: one image is for all parts now, set image.name and image.tag
mesh.logging: set mesh.logLevel
mesh.pollInterval: proxies are told of a change as soon as it is there, remove it
mesh.pollTimeout: proxies are told of a change as soon as it is there, remove it
mesh.forwardingTimeouts: set mesh.additionalArguments to --connect-timeout, --response-timeout or --upstream-idle-timeout
metrics.deploy: Prometheus and Grafana do not come with the chart, bring your own and set metrics.serviceMonitor.enabled or metrics.podMonitor.enabled
metrics.grafana: Grafana does not come with the chart, bring your own
metrics.datadog: the proxies' metrics are read from /metrics on port 8080, point the agent's OpenMetrics check at it
metrics.influxdb: the proxies' metrics are read from /metrics on port 8080, point Telegraf's Prometheus input at it
metrics.statsd: the proxies' metrics are read from /metrics on port 8080, point a Prometheus-compatible collector at it
proxy: what concerns proxies is called mesh here
smi: set acl for smi.enable; for smi.deploycrds=false install with --skip-crds
tracing: the mesh makes no spans and passes on the headers of those that applications make, remove it
{{- end -}}

{{- define "maesh.listDropped" -}}
{{- $root := . -}}
{{- $problems := list -}}
{{- range $path, $advice := include "maesh.droppedValues" . | fromYaml -}}
  {{- $parts := splitList "." $path -}}
  {{- $above := $root.Values -}}
  {{- range initial $parts -}}{{- $above = get $above . | default dict -}}{{- end -}}
  {{- if hasKey $above (last $parts) -}}
    {{- $problems = append $problems (printf "%s is gone: %s" $path $advice) -}}
  {{- end -}}
{{- end -}}
{{- toJson $problems -}}
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
