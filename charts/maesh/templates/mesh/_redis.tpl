{{/* The Redis server of rate limits, as the proxies use it. */}}

{{/* The folder of its secrets in the container. */}}
{{- define "maesh.redis.folder" -}}/var/run/secrets/maesh-redis{{- end -}}

{{/* Returns "true" if there are secrets. */}}
{{- define "maesh.redis.hasSecrets" -}}
{{- with .Values.redis -}}
{{- if or .passwordSecret .caSecret .certificateSecret -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{/* The secrets. A missing one does not keep a proxy from starting: each node then limits by its own share, and says why. */}}
{{- define "maesh.redis.volume" -}}
- name: redis
  projected:
    sources:
      {{- with .Values.redis }}
      {{- range $secret := list (list .passwordSecret "password") (list .caSecret "ca.crt") (list .certificateSecret "tls.crt" "tls.key") }}
      {{- if first $secret }}
      - secret:
          name: {{ first $secret }}
          optional: true
          items:
            {{- range rest $secret }}
            - key: {{ . }}
              path: {{ . }}
            {{- end }}
      {{- end }}
      {{- end }}
      {{- end }}
{{- end -}}

{{/* The flags of the proxies. */}}
{{- define "maesh.redis.arguments" -}}
{{- $folder := include "maesh.redis.folder" . -}}
{{- with .Values.redis }}
{{- with .url }}
- {{ printf "--set=ratelimit.redis-url=%s" (replace "$" "$$" .) | toJson }}
{{- end }}
{{- if .passwordSecret }}
- --set=ratelimit.redis-password-file={{ $folder }}/password
{{- end }}
{{- if .caSecret }}
- --set=ratelimit.redis-ca-file={{ $folder }}/ca.crt
{{- end }}
{{- if .certificateSecret }}
- --set=ratelimit.redis-certificate-file={{ $folder }}/tls.crt
- --set=ratelimit.redis-key-file={{ $folder }}/tls.key
{{- end }}
{{- end }}
{{- end -}}
