{{/* What each account may do. Each rule is defined once, for all accounts that get it. No wildcards, no Secrets. Only rules for
objects of users, which may be in any namespace, are cluster-wide. */}}

{{/* The controller, cluster-wide: read what it watches, and write Events for users. */}}
{{- define "maesh.rules.watch" -}}
- apiGroups: [""]
  resources: [services, pods, endpoints]
  verbs: [get, list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
{{- if or (include "maesh.isOn" (list . "mtls")) (include "maesh.isOn" (list . "acl")) }}
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get, list, watch]
{{- end }}
{{- if include "maesh.isOn" (list . "smi") }}
- apiGroups: [split.smi-spec.io]
  resources: [trafficsplits]
  verbs: [get, list, watch]
{{- end }}
{{- if include "maesh.isOn" (list . "acl") }}
- apiGroups: [access.smi-spec.io]
  resources: [traffictargets]
  verbs: [get, list, watch]
{{- end }}
{{- if or (include "maesh.isOn" (list . "smi")) (include "maesh.isOn" (list . "acl")) }}
- apiGroups: [specs.smi-spec.io]
  resources: [httproutegroups, tcproutes, udproutes]
  verbs: [get, list, watch]
{{- end }}
{{- if include "maesh.isOn" (list . "gateway") }}
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes, grpcroutes, tcproutes, udproutes, referencegrants]
  verbs: [get, list, watch]
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes/status, grpcroutes/status, tcproutes/status, udproutes/status]
  verbs: [patch]
{{- end }}
{{- with .Values.controller.extraRules }}
{{ toYaml . }}
{{- end }}
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{/* The controller, in the mesh's namespace: write shadow services, and elect a leader. */}}
{{- define "maesh.rules.lead" -}}
- apiGroups: [""]
  resources: [services]
  verbs: [create, update, delete]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [maesh-controller]
  verbs: [get, update]
{{- end -}}

{{/* Controller, prepare and cleanup, in kube-system: find the cluster's DNS, write its Corefile or stub domains, and restart it.
Listing is for a Deployment that only its label tells, and for NodeLocal DNSCache, whose Corefile is read; ConfigMaps cannot
be listed. */}}
{{- define "maesh.rules.dns" -}}
- apiGroups: [apps]
  resources: [deployments, daemonsets]
  verbs: [list]
- apiGroups: [apps]
  resources: [deployments]
  resourceNames: {{ concat (list "coredns" "kube-dns" "rke2-coredns-rke2-coredns") (.Values.dns.deployments | default list) | toJson }}
  verbs: [get, update]
- apiGroups: [""]
  resources: [configmaps]
  resourceNames: {{ include "maesh.dnsMaps" . }}
  verbs: [get, update]
- apiGroups: [""]
  resources: [configmaps]
  resourceNames: [node-local-dns, nodelocaldns]
  verbs: [get]
{{- end -}}

{{- define "maesh.dnsMaps" -}}
{{ concat (list "coredns" "coredns-custom" "kube-dns" "rke2-coredns-rke2-coredns") (.Values.dns.configMaps | default list) | toJson }}
{{- end -}}

{{/* Controller and prepare, in kube-system: kube-dns and NodeLocal DNSCache run without the ConfigMap of their stub domains, and
then there is none; what does not exist has no name that a rule could give. The service is the one that NodeLocal DNSCache asks,
whose name its command line has. */}}
{{- define "maesh.rules.addStubDomains" -}}
- apiGroups: [""]
  resources: [configmaps]
  verbs: [create]
- apiGroups: [""]
  resources: [services]
  verbs: [get]
{{- end -}}

{{/* Cleanup, in kube-system: delete the ConfigMap that was created. */}}
{{- define "maesh.rules.dropStubDomains" -}}
- apiGroups: [""]
  resources: [configmaps]
  resourceNames: {{ include "maesh.dnsMaps" . }}
  verbs: [delete]
{{- end -}}

{{/* Controller, prepare and cleanup, in the mesh's namespace: find the mesh's own CoreDNS, which a cluster with kube-dns
needs. If the chart installs it, write its Corefile too. */}}
{{- define "maesh.rules.ownDns" -}}
- apiGroups: [apps]
  resources: [deployments]
  resourceNames: [coredns]
  verbs: [get{{ if .Values.kubedns }}, update{{ end }}]
{{- if .Values.kubedns }}
- apiGroups: [""]
  resources: [services]
  resourceNames: [coredns]
  verbs: [get]
- apiGroups: [""]
  resources: [configmaps]
  resourceNames: [coredns]
  verbs: [get, update]
{{- end }}
{{- end -}}

{{/* Cleanup, in the mesh's namespace: delete shadow services. */}}
{{- define "maesh.rules.cleanup" -}}
- apiGroups: [""]
  resources: [services]
  verbs: [list, delete]
{{- end -}}

{{/* A Role or ClusterRole, and its binding to an account of the release; takes a dict: root, account, component, role (its name),
scope (a namespace, or "" for the cluster), rules, and for hooks roleAnnotations and bindingAnnotations. */}}
{{- define "maesh.grant" -}}
{{- $prefix := ternary "" "Cluster" (ne .scope "") -}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $prefix }}Role
metadata:
  name: {{ .role }}
  {{- with .scope }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "maesh.labels" (list .root .component) | nindent 4 }}
  {{- with .roleAnnotations }}
  annotations:
    {{- . | nindent 4 }}
  {{- end }}
rules:
  {{- .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $prefix }}RoleBinding
metadata:
  name: {{ .account }}
  {{- with .scope }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "maesh.labels" (list .root .component) | nindent 4 }}
  {{- with .bindingAnnotations }}
  annotations:
    {{- . | nindent 4 }}
  {{- end }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $prefix }}Role
  name: {{ .role }}
subjects:
  - kind: ServiceAccount
    name: {{ .account }}
    namespace: {{ .root.Release.Namespace }}
{{- end -}}

{{/* The mesh's own CoreDNS, cluster-wide: read the objects that it needs to answer queries. */}}
{{- define "maesh.rules.coredns" -}}
- apiGroups: [""]
  resources: [endpoints, services, pods, namespaces]
  verbs: [list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
{{- end -}}
