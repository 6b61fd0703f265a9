{{/* Labels of an object; takes a list: the root, the component. Services with app=maesh are no part of the mesh they carry,
so it is that whatever the release is called. */}}
{{- define "maesh.labels" -}}
{{ include "maesh.selector" . }}
chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
heritage: {{ (index . 0).Release.Service }}
{{- end -}}

{{/* Labels that select pods; takes the same. They are those of Maesh 1.2 for a release "maesh": selectors cannot be changed. */}}
{{- define "maesh.selector" -}}
app: maesh
component: {{ index . 1 }}
release: {{ (index . 0).Release.Name | quote }}
{{- end -}}

{{- define "maesh.image" -}}
{{ printf "%s:%s" .Values.image.name (.Values.image.tag | default .Chart.AppVersion) | toJson }}
{{- end -}}

{{/* What every pod of ours has in its spec; takes the root. Service links off: there is a Service here for each of the
mesh's, and an environment of thousands of variables keeps a program from starting. */}}
{{- define "maesh.podSpec" -}}
enableServiceLinks: false
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.image.pullSecret }}
imagePullSecrets:
  - name: {{ toJson . }}
{{- end }}
volumes:
  - name: tmp
    emptyDir: {}
{{- end -}}

{{/* What every container of ours has; takes the root. */}}
{{- define "maesh.container" -}}
image: {{ include "maesh.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
volumeMounts:
  - name: tmp
    mountPath: /tmp
{{- end -}}

{{/* Resources in the words of Maesh's charts; takes a list: what is asked for, what is the limit. What is empty is left out. */}}
{{- define "maesh.resources" -}}
{{- $names := dict "mem" "memory" "cpu" "cpu" -}}
{{- $found := dict -}}
{{- range $kind, $given := . -}}
  {{- $amounts := dict -}}
  {{- range $ours, $theirs := $names -}}
    {{- with get (default dict $given) $ours -}}{{- $_ := set $amounts $theirs (toString .) -}}{{- end -}}
  {{- end -}}
  {{- if $amounts -}}{{- $_ := set $found (printf "%ss" $kind) $amounts -}}{{- end -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}

{{/* Flags about logs; takes a list: the root, `controller` or `mesh` of the values. */}}
{{- define "maesh.logArguments" -}}
{{- $values := (index . 0).Values -}}
- {{ printf "--log-level=%s" ((index . 1).logLevel | default $values.logLevel) | toJson }}
- {{ printf "--log-format=%s" ((index . 1).logFormat | default $values.logFormat) | toJson }}
{{- end -}}

{{/* Says "true" when a plugin is on; takes a list: the root, its name. */}}
{{- define "maesh.isOn" -}}
{{- $values := (index . 0).Values -}}
{{- $name := index . 1 -}}
{{- if or (has $name $values.plugins.extra) (and (eq $name "acl") $values.acl) (eq (toString (get $values.plugins $name)) "true") -}}
true
{{- end -}}
{{- end -}}

{{/* Flags about plugins, the same for controller and proxies; takes the root. Only what differs from the program's own
defaults: `--smi` would be the old name of --acl. */}}
{{- define "maesh.pluginArguments" -}}
{{- $root := . -}}
{{- range list "retry" "ratelimit" "circuitbreaker" "smi" "udp" }}
{{- if not (include "maesh.isOn" (list $root .)) }}
- --no-{{ . }}
{{- end }}
{{- end }}
{{- if include "maesh.isOn" (list . "acl") }}
- --acl
{{- end }}
{{- range .Values.plugins.extra }}
- --{{ . }}
{{- end }}
{{- if include "maesh.isOn" (list . "udp") }}
- --set=udp.limit={{ int .Values.limits.udp }}
{{- end }}
{{- range $key, $value := .Values.settings }}
{{- if kindIs "map" $value }}
{{- range $below, $given := $value }}
- {{ printf "--set=%s.%s=%s" $key $below (include "maesh.settingText" $given) | toJson }}
{{- end }}
{{- else }}
- {{ printf "--set=%s=%s" $key (include "maesh.settingText" $value) | toJson }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A setting as a flag's text. Numbers come as floating point, which JSON writes without exponent; "$$" is how Kubernetes
is told that "$" is meant, and no variable. */}}
{{- define "maesh.settingText" -}}
{{- if kindIs "slice" . -}}
{{- $texts := list -}}
{{- range . -}}{{- $texts = append $texts (include "maesh.settingText" .) -}}{{- end -}}
{{- join "," $texts -}}
{{- else if kindIs "string" . -}}
{{- . | replace "$" "$$" -}}
{{- else -}}
{{- toJson . -}}
{{- end -}}
{{- end -}}
