{{/* Encryption between nodes (plugin mtls): flags, volumes and rules. Each part is defined once, and empty without it. */}}

{{/* Returns "true" if the proxies run the plugin; takes the root. */}}
{{- define "maesh.mtls.proxies" -}}
{{- if and .Values.mtls.enabled .Values.mtls.proxies -}}true{{- end -}}
{{- end -}}

{{/* The folder of the proxies' tokens and of the certificates to trust. It is one volume, because a container cannot mount a
volume within another one that it may only read. */}}
{{- define "maesh.mtls.folder" -}}/var/run/secrets/maesh{{- end -}}

{{/* Flags of the controller; takes the root. */}}
{{- define "maesh.mtls.controllerArguments" -}}
{{- with .Values.mtls }}
{{- if .enabled }}
- --mtls
- --set=mtls.mode={{ .mode }}
- {{ printf "--set=mtls.domain=%s" (.trustDomain | default $.Values.clusterDomain) | toJson }}
- --set=mtls.ca-secret={{ .authority.secret }}
- --set=mtls.trust-config-map={{ .trustConfigMap }}
- --set=mtls.certificate-lifetime={{ .certificateLifetime }}
- --set=mtls.port={{ int .port }}
{{- with .apiOpen }}
- --api-open={{ join "," . }}
{{- end }}
{{- if .apiClear }}
- --api-clear
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Flags of the proxies: the endpoint, and those of the plugin; takes the root. The name of the endpoint ends in .svc, so it is
never in a zone of the mesh, regardless of the namespace. */}}
{{- define "maesh.mtls.proxyArguments" -}}
{{- $folder := include "maesh.mtls.folder" . -}}
{{- $host := printf "maesh-controller.%s.svc:9000" .Release.Namespace -}}
{{- if include "maesh.mtls.proxies" . }}
- --endpoint=https://{{ $host }}
- --root-ca-controller={{ $folder }}/trust/bundle.pem
- --controller-token={{ $folder }}/api-token
- --mtls
- --set=mtls.token={{ $folder }}/ca-token
- --set=mtls.trust={{ $folder }}/trust/bundle.pem
- --set=mtls.port={{ int .Values.mtls.port }}
{{- with .Values.mtls.adminOpen }}
- --admin-open={{ join "," . }}
{{- end }}
{{- if .Values.mtls.apiClear }}
- --admin-clear
{{- end }}
{{- else }}
- --endpoint=http://{{ $host }}
{{- end }}
{{- end -}}

{{/* Returns "true" if a path can be read in clear and without a token; takes a list: the root, "apiOpen" or "adminOpen", the
path. */}}
{{- define "maesh.mtls.isOpen" -}}
{{- $mtls := (index . 0).Values.mtls -}}
{{- if or (not $mtls.enabled) $mtls.apiClear (has (index . 2) (get $mtls (index . 1))) -}}true{{- end -}}
{{- end -}}

{{/* The proxies' tokens, one for each audience, and the certificates to trust. The ConfigMap is optional: the controllers write
it after the first proxies are scheduled, and the kubelet adds it to a running pod within about a minute. */}}
{{- define "maesh.mtls.volume" -}}
- name: mesh-identity
  projected:
    sources:
      {{- range $audience, $path := dict "maesh-ca" "ca-token" "maesh-api" "api-token" }}
      - serviceAccountToken:
          audience: {{ $audience }}
          expirationSeconds: {{ int $.Values.mtls.tokenSeconds }}
          path: {{ $path }}
      {{- end }}
      - configMap:
          name: {{ .Values.mtls.trustConfigMap }}
          optional: true
          items:
            - key: bundle.pem
              path: trust/bundle.pem
{{- end -}}

{{/* The controller, cluster-wide: check the tokens of proxies and of people, which have no names or namespaces, and see whether a
node still exists. */}}
{{- define "maesh.rules.review" -}}
- apiGroups: [authentication.k8s.io]
  resources: [tokenreviews]
  verbs: [create]
- apiGroups: [authorization.k8s.io]
  resources: [subjectaccessreviews]
  verbs: [create]
- apiGroups: [""]
  resources: [nodes]
  verbs: [get]
{{- end -}}

{{/* The controller, in the mesh's namespace: use and rotate the authority, and publish the certificates to trust. A rule for
create cannot give a name. Secrets can only be created if the authority is the controllers' own. */}}
{{- define "maesh.rules.authority" -}}
- apiGroups: [""]
  resources: [secrets]
  resourceNames: [{{ .Values.mtls.authority.secret }}]
  verbs: [get, list, watch, update]
{{- if eq .Values.mtls.authority.source "controller" }}
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
{{- end }}
- apiGroups: [""]
  resources: [configmaps]
  resourceNames: [{{ .Values.mtls.trustConfigMap }}]
  verbs: [get, list, watch, update]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [create]
{{- end -}}

{{/* Problems of the values; takes the root, returns a JSON list. */}}
{{- define "maesh.mtls.listContradictions" -}}
{{- $problems := list -}}
{{- $mtls := .Values.mtls -}}
{{- $authority := $mtls.authority -}}
{{- $owned := dict "mode" "mode" "port" "port" "domain" "trustDomain" "certificate-lifetime" "certificateLifetime" "ca-secret" "authority.secret" "trust-config-map" "trustConfigMap" -}}
{{- range $key, $value := .Values.settings -}}
  {{- range $setting, $ours := $owned -}}
    {{- if or (eq $key (printf "mtls.%s" $setting)) (and (eq $key "mtls") (hasKey $value $setting)) -}}
      {{- $problems = append $problems (printf "settings contains mtls.%s: set mtls.%s instead" $setting $ours) -}}
    {{- end -}}
  {{- end -}}
  {{- range $setting := list "token" "trust" "ca" "tokens" -}}
    {{- if or (eq $key (printf "mtls.%s" $setting)) (and (eq $key "mtls") (hasKey $value $setting)) -}}
      {{- $problems = append $problems (printf "settings contains mtls.%s, which is for meshes without Kubernetes: remove it" $setting) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- if semverCompare "<1.22-0" .Capabilities.KubeVersion.Version -}}
  {{- if $mtls.enabled -}}
    {{- $problems = append $problems "mtls.enabled needs Kubernetes 1.22, which can start the new proxy of a node before the old one ends: set it to false" -}}
  {{- end -}}
  {{- if .Values.networkPolicy.enabled -}}
    {{- $problems = append $problems "networkPolicy.enabled needs Kubernetes 1.22, which knows ranges of ports: set it to false" -}}
  {{- end -}}
{{- end -}}
{{- if $mtls.enabled -}}
  {{- if and (eq $mtls.mode "strict") (not $mtls.proxies) -}}
    {{- $problems = append $problems "mtls.mode is strict, but the proxies do not encrypt: set mtls.mode to permissive before you set mtls.proxies to false" -}}
  {{- end -}}
  {{- if and (not $mtls.proxies) (not $mtls.apiClear) -}}
    {{- $problems = append $problems "mtls.proxies is false, so the proxies pull in clear: set mtls.apiClear" -}}
  {{- end -}}
  {{- if and (eq $authority.source "cert-manager") (not $authority.issuer.name) -}}
    {{- $problems = append $problems "mtls.authority.source is cert-manager: set mtls.authority.issuer.name" -}}
  {{- end -}}
  {{- if and (ne $authority.source "cert-manager") $authority.issuer.name -}}
    {{- $problems = append $problems "mtls.authority.issuer is only used by cert-manager: set mtls.authority.source to cert-manager" -}}
  {{- end -}}
  {{- $port := int $mtls.port -}}
  {{- if has $port (list 8080 9000) -}}
    {{- $problems = append $problems (printf "mtls.port %d is a port of the mesh itself: set another one" $port) -}}
  {{- end -}}
  {{- range $protocol, $first := dict "http" 5000 "tcp" 10000 "ownHttp" 16000 -}}
    {{- $last := sub (add $first (get $.Values.limits $protocol)) 1 -}}
    {{- if and (ge $port $first) (le $port (int $last)) -}}
      {{- $problems = append $problems (printf "mtls.port %d is one of the entrypoints %d to %d: set another port, or lower limits.%s" $port $first $last $protocol) -}}
    {{- end -}}
  {{- end -}}
  {{- $monitored := or $.Values.metrics.serviceMonitor.enabled $.Values.metrics.podMonitor.enabled -}}
  {{- if and $monitored (not (has "/metrics" $mtls.adminOpen)) -}}
    {{- $problems = append $problems "Prometheus has no certificate of the mesh to read the metrics of proxies: add /metrics to mtls.adminOpen, or disable the monitors" -}}
  {{- end -}}
  {{- if and $monitored (not (has "/metrics" $mtls.apiOpen)) (not $.Values.metrics.authorization.secret) -}}
    {{- $problems = append $problems "Prometheus has no token to read the metrics of controllers: set metrics.authorization.secret, or add /metrics to mtls.apiOpen" -}}
  {{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end -}}

{{/* What the account maesh-viewer may do with the controller's API: read all of it, including the pages of plugins.
     The controller asks about /maesh and the path: system:discovery allows /api/* to every account. */}}
{{- define "maesh.rules.view" -}}
- nonResourceURLs: [/maesh/, "/maesh/api/*", "/maesh/assets/*", /maesh/favicon.svg, /maesh/metrics, /maesh/mtls/status]
  verbs: [get]
{{- end -}}

{{/* What the account maesh-mtls-admin may do: rotate the authority, and revoke certificates. */}}
{{- define "maesh.rules.administer" -}}
{{ include "maesh.rules.view" . }}
- nonResourceURLs: [/maesh/mtls/rotation, /maesh/mtls/revocations]
  verbs: [get, post]
{{- end -}}
