{{- /*
The Deployment of a component. Takes the chart's root, the component, its containers and volumes as YAML, its own pod
annotations, and certificates: the template that makes those of its webhooks, whose change restarts the pods.
*/}}
{{- define "workload" -}}
{{- $values := .root.Values }}
{{- $name := printf "linkerd-%s" .component }}
{{- $native := and $values.proxy.nativeSidecar (ne .component "identity") }}
{{- $proxy := include "proxy" (dict "root" .root "component" .component "native" $native) }}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "metadata" (dict "root" .root "component" .component "name" $name) | nindent 2 }}
spec:
  replicas: {{ $values.controllerReplicas }}
  revisionHistoryLimit: {{ $values.revisionHistoryLimit }}
  {{- with $values.deploymentStrategy }}
  strategy:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  selector:
    matchLabels: &selected
      linkerd.io/control-plane-component: {{ .component }}
      linkerd.io/control-plane-ns: {{ .root.Release.Namespace }}
      linkerd.io/proxy-deployment: {{ $name }}
  template:
    metadata:
      labels:
        <<: *selected
        linkerd.io/workload-ns: {{ .root.Release.Namespace }}
        {{- with $values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        linkerd.io/created-by: meshtrust/stand-in
        linkerd.io/proxy-version: {{ $values.proxy.image.version | default $values.linkerdVersion }}
        linkerd.io/trust-root-sha256: {{ sha256sum $values.identityTrustAnchorsPEM }}
        {{- with .certificates }}
        checksum/config: {{ include (printf "%s/%s" $.root.Template.BasePath .) $.root | sha256sum }}
        {{- end }}
        {{- with merge dict (.podAnnotations | default dict) $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ $name }}
      {{- include "scheduling" . | nindent 6 }}
      initContainers:
        - {{- include "proxy.network" .root | nindent 10 }}
        {{- if $native }}
        - {{- $proxy | nindent 10 }}
        {{- end }}
      containers:
        {{- .containers | nindent 8 }}
        {{- if not $native }}
        - {{- $proxy | nindent 10 }}
        {{- end }}
      volumes:
        {{- .volumes | nindent 8 }}
        {{- include "proxy.volumes" .root | nindent 8 }}
{{- end }}

{{- define "controller-image" -}}
image: {{ .Values.controllerImage }}:{{ .Values.controllerImageVersion | default .Values.linkerdVersion }}
imagePullPolicy: {{ .Values.imagePullPolicy }}
{{- end }}

{{- define "log-arguments" -}}
- -log-level={{ .Values.controllerLogLevel }}
- -log-format={{ .Values.controllerLogFormat }}
{{- end }}
