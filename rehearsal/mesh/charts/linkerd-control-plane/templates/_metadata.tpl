{{- /* Labels of an object. Takes the chart's root, and the component that it belongs to, if any. */}}
{{- define "labels" -}}
{{- with .component -}}
linkerd.io/control-plane-component: {{ . }}
{{ end -}}
linkerd.io/control-plane-ns: {{ .root.Release.Namespace }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Metadata of an object in the release's namespace. Takes the chart's root, name and component, if any. */}}
{{- define "metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "labels" . | nindent 2 }}
annotations:
  linkerd.io/created-by: meshtrust/stand-in
{{- end }}

{{- define "trust-domain" -}}
{{ .Values.identityTrustDomain | default .Values.clusterDomain }}
{{- end }}
