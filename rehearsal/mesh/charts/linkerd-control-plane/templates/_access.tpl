{{- /*
Rights of a component's service account on the whole cluster. Takes the chart's root, the component, name of the role and
of its binding, and rules as YAML.
*/}}
{{- define "cluster-access" }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ .role }}
  labels:
    {{- include "labels" . | nindent 4 }}
rules:
  {{- .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ .binding }}
  labels:
    {{- include "labels" . | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {{ .role }}}
subjects:
  - {kind: ServiceAccount, name: linkerd-{{ .component }}, namespace: {{ .root.Release.Namespace }}}
{{- end }}

{{- /* The same in the release's own namespace. */}}
{{- define "namespace-access" }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  {{- include "metadata" (merge (dict "name" .role) .) | nindent 2 }}
rules:
  {{- .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  {{- include "metadata" (merge (dict "name" .binding) .) | nindent 2 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ .role }}}
subjects:
  - {kind: ServiceAccount, name: linkerd-{{ .component }}, namespace: {{ .root.Release.Namespace }}}
{{- end }}
