{{- /*
A CRD that lets everything pass. Takes the chart's root, one entry of definitions/, and annotations, if any. All versions
are served, and the last is stored.
*/}}
{{- define "crd" }}
{{- with .definition }}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: {{ .plural }}.{{ .group }}
  annotations:
    linkerd.io/created-by: meshtrust/stand-in
    {{- range $name, $value := $.annotations }}
    {{ $name }}: {{ $value | quote }}
    {{- end }}
  labels:
    helm.sh/chart: {{ $.root.Chart.Name }}-{{ $.root.Chart.Version }}
    linkerd.io/control-plane-ns: {{ $.root.Release.Namespace }}
spec:
  group: {{ .group }}
  scope: Namespaced
  names:
    kind: {{ .kind }}
    plural: {{ .plural }}
    singular: {{ lower .kind }}
    {{- with .shortNames }}
    shortNames: {{ toJson . }}
    {{- end }}
  versions:
    {{- range $.definition.versions }}
    - name: {{ . }}
      served: true
      storage: {{ eq . (last $.definition.versions) }}
      schema:
        openAPIV3Schema:
          type: object
          x-kubernetes-preserve-unknown-fields: true
      {{- if $.definition.status }}
      subresources:
        status: {}
      {{- end }}
    {{- end }}
{{- end }}
{{- end }}
