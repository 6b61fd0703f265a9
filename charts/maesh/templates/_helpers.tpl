{{/* Labels of an object; takes a list: the root, the component. The mesh ignores services with app=maesh,
so all objects have this label, regardless of the release's name. */}}
{{- define "maesh.labels" -}}
{{ include "maesh.selector" . }}
chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
heritage: {{ (index . 0).Release.Service }}
{{- end -}}

{{/* Labels that select pods; takes the same. They are those of Maesh 1.2 for a release "maesh", because selectors cannot change. */}}
{{- define "maesh.selector" -}}
app: maesh
component: {{ index . 1 }}
release: {{ (index . 0).Release.Name | quote }}
{{- end -}}

{{- define "maesh.image" -}}
{{ printf "%s:%s" .Values.image.name (.Values.image.tag | default .Chart.AppVersion) | toJson }}
{{- end -}}

{{/* The common part of the spec of all pods; takes the root. `volumes` is at its end, so that a pod may have more of them. Service links are off: the namespace has a shadow service for
each service of the mesh, and a program cannot start with thousands of environment variables. */}}
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

{{/* The common part of all containers; takes the root. `volumeMounts` is at its end, so that a container may have more. */}}
{{- define "maesh.container" -}}
image: {{ include "maesh.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
volumeMounts:
  - name: tmp
    mountPath: /tmp
{{- end -}}

{{/* Resources, in the notation of Maesh's charts; takes a list: the requests, the limits. Empty values are omitted. */}}
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

{{/* Returns "true" if a plugin is enabled; takes a list: the root, its name. */}}
{{- define "maesh.isOn" -}}
{{- $values := (index . 0).Values -}}
{{- $name := index . 1 -}}
{{- if or (has $name $values.plugins.extra) (and (eq $name "acl") $values.acl) (and (eq $name "access-log") $values.plugins.accessLog) (and (eq $name "mtls") $values.mtls.enabled) (eq (toString (get $values.plugins $name)) "true") -}}
true
{{- end -}}
{{- end -}}

{{/* Flags about plugins, the same for controller and proxies; takes a list: the root, the names of plugins whose settings are
left out. Only flags that differ from the defaults are set, because `--smi` is the old name of --acl. */}}
{{- define "maesh.pluginArguments" -}}
{{- $root := index . 0 -}}
{{- $without := index . 1 -}}
{{- range list "retry" "ratelimit" "concurrency" "circuitbreaker" "smi" "udp" "cors" "gateway" "headers" "mirror" "redirect" "rewrite" "session" "timeout" }}
{{- if not (include "maesh.isOn" (list $root .)) }}
- --no-{{ . }}
{{- end }}
{{- end }}
{{- range list "acl" "otel" "fault" "compress" "egress" "jwt" }}
{{- if include "maesh.isOn" (list $root .) }}
- --{{ . }}
{{- end }}
{{- end }}
{{- if include "maesh.isOn" (list $root "access-log") }}
- --access-log
{{- end }}
{{- range $root.Values.plugins.extra }}
- --{{ . }}
{{- end }}
{{- if include "maesh.isOn" (list $root "udp") }}
- --set=udp.limit={{ int $root.Values.limits.udp }}
{{- end }}
{{- range $key, $value := $root.Values.settings }}
{{- if has (splitList "." $key | first) $without }}
{{- else if kindIs "map" $value }}
{{- range $below, $given := $value }}
- {{ printf "--set=%s.%s=%s" $key $below (include "maesh.settingText" $given) | toJson }}
{{- end }}
{{- else }}
- {{ printf "--set=%s=%s" $key (include "maesh.settingText" $value) | toJson }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A setting as the text of a flag. Numbers are floating point, which JSON writes without an exponent. "$$" is the escape for
"$" in Kubernetes, where "$" begins a variable. */}}
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
