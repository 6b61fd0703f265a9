{{/* A hook: an account with its rules, and a Job. Helm deletes them after success. After a failure they are kept for
inspection until the next attempt. Takes a dict: root, command, its own arguments, when, deadlineSeconds, rules by
namespace. */}}
{{- define "maesh.hook" -}}
{{- $root := .root -}}
{{- $name := printf "maesh-%s" .command -}}
{{- $annotations := printf "helm.sh/hook: %s\nhelm.sh/hook-delete-policy: before-hook-creation,hook-succeeded\nhelm.sh/hook-weight: %s" .when (quote "%d") -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "maesh.labels" (list $root .command) | nindent 4 }}
  annotations:
    {{- printf $annotations 5 | nindent 4 }}
automountServiceAccountToken: false
{{- $who := dict "root" $root "account" $name "component" .command "role" $name "roleAnnotations" (printf $annotations 10) "bindingAnnotations" (printf $annotations 15) }}
{{- range $scope, $rules := .rules }}
{{ include "maesh.grant" (merge (dict "scope" $scope "rules" $rules) $who) }}
{{- end }}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "maesh.labels" (list $root .command) | nindent 4 }}
  annotations:
    {{- printf $annotations 20 | nindent 4 }}
spec:
  backoffLimit: 3
  activeDeadlineSeconds: {{ .deadlineSeconds }}
  template:
    metadata:
      labels:
        {{- include "maesh.selector" (list $root .command) | nindent 8 }}
    spec:
      serviceAccountName: {{ $name }}
      automountServiceAccountToken: true
      restartPolicy: Never
      {{- include "maesh.podSpec" $root | nindent 6 }}
      {{- with $root.Values.controller.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $root.Values.controller.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ $name }}
          {{- include "maesh.container" $root | nindent 10 }}
          args:
            - {{ .command }}
            - --namespace={{ $root.Release.Namespace }}
            {{- range .arguments }}
            - {{ toJson . }}
            {{- end }}
            {{- include "maesh.logArguments" (list $root $root.Values.controller) | nindent 12 }}
          resources:
            {{- include "maesh.resources" $root.Values.controller.resources | nindent 12 }}
{{- end -}}
