{{- /*
A webhook: its configuration, and the Secret with its certificate unless something else keeps that. Takes the chart's
root, kind of the configuration, component, service (which names all of it), section of the values, and rules as YAML.
*/}}
{{- define "webhook" -}}
{{- $values := index .root.Values .section }}
{{- include "webhook.refuse" (dict "section" .section "values" $values) }}
{{- $host := printf "%s.%s.svc" .service .root.Release.Namespace }}
{{- $own := genSelfSignedCert $host (list) (list $host) 365 }}
{{- if not $values.externalSecret }}
apiVersion: v1
kind: Secret
metadata:
  {{- include "metadata" (merge (dict "name" (printf "%s-k8s-tls" .service)) .) | nindent 2 }}
type: kubernetes.io/tls
data:
  tls.crt: {{ $values.crtPEM | default $own.Cert | trim | b64enc }}
  tls.key: {{ $values.keyPEM | default $own.Key | trim | b64enc }}
---
{{- end }}
apiVersion: admissionregistration.k8s.io/v1
kind: {{ .kind }}
metadata:
  name: {{ .service }}-webhook-config
  labels:
    {{- include "labels" . | nindent 4 }}
  annotations:
    linkerd.io/created-by: meshtrust/stand-in
    {{- with $values.injectCaFrom }}
    cert-manager.io/inject-ca-from: {{ . }}
    {{- end }}
    {{- with $values.injectCaFromSecret }}
    cert-manager.io/inject-ca-from-secret: {{ . }}
    {{- end }}
webhooks:
  - name: {{ .service }}.linkerd.io
    admissionReviewVersions: [v1, v1beta1]
    sideEffects: None
    failurePolicy: {{ .root.Values.webhookFailurePolicy }}
    {{- with $values.timeoutSeconds }}
    timeoutSeconds: {{ . }}
    {{- end }}
    clientConfig:
      service:
        name: {{ .service }}
        namespace: {{ .root.Release.Namespace }}
        path: /
      {{- if not (or $values.injectCaFrom $values.injectCaFromSecret) }}
      caBundle: {{ $values.caBundle | default $own.Cert | trim | b64enc }}
      {{- end }}
    namespaceSelector:
      {{- toYaml $values.namespaceSelector | nindent 6 }}
    {{- with $values.objectSelector }}
    objectSelector:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    rules:
      {{- .rules | nindent 6 }}
{{- end }}

{{- /* What does not fit together (linkerd2 charts/partials/templates/_validate.tpl). */}}
{{- define "webhook.refuse" }}
{{- $injected := or .values.injectCaFrom .values.injectCaFromSecret }}
{{- if and .values.injectCaFrom .values.injectCaFromSecret }}
{{- fail (printf "%s: injectCaFrom and injectCaFromSecret exclude each other; set one of them" .section) }}
{{- end }}
{{- if and $injected .values.caBundle }}
{{- fail (printf "%s: caBundle excludes injectCaFrom and injectCaFromSecret; set one of them" .section) }}
{{- end }}
{{- if and .values.externalSecret (not .values.caBundle) (not $injected) }}
{{- fail (printf "%s: externalSecret is set, so that caBundle, injectCaFrom or injectCaFromSecret must say who signed it" .section) }}
{{- end }}
{{- if and $injected (not .values.externalSecret) }}
{{- fail (printf "%s: injectCaFrom and injectCaFromSecret are for a certificate that externalSecret says is kept elsewhere; set it" .section) }}
{{- end }}
{{- end }}
