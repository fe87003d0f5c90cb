{{- /*
The proxy of a control-plane pod, as far as it tells who the pod is and whom it trusts: no injector sets it up, and it
takes its trust anchors from the ConfigMap as it starts. Takes the chart's root, the component and whether it is native.
*/}}
{{- define "proxy" -}}
{{- $values := .root.Values }}
{{- $namespace := .root.Release.Namespace }}
{{- $mesh := printf "%s.serviceaccount.identity.%s.%s" $namespace $namespace (include "trust-domain" .root) }}
{{- $resources := index $values (printf "%sProxyResources" (camelcase .component | untitle)) | default dict }}
name: linkerd-proxy
image: {{ $values.proxy.image.name }}:{{ $values.proxy.image.version | default $values.linkerdVersion }}
imagePullPolicy: {{ $values.proxy.image.pullPolicy | default $values.imagePullPolicy }}
{{- if .native }}
restartPolicy: Always
{{- end }}
env:
  - {name: _pod_ns, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
  - {name: _pod_sa, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}
  - name: LINKERD2_PROXY_LOG
    value: {{ $values.proxy.logLevel }}
  - name: LINKERD2_PROXY_LOG_FORMAT
    value: {{ $values.proxy.logFormat }}
  - name: LINKERD2_PROXY_IDENTITY_DIR
    value: /var/run/linkerd/identity/end-entity
  - name: LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS
    valueFrom: {configMapKeyRef: {name: linkerd-identity-trust-roots, key: ca-bundle.crt}}
  - name: LINKERD2_PROXY_IDENTITY_TOKEN_FILE
    value: {{ ternary "/var/run/secrets/tokens/linkerd-identity-token" "/var/run/secrets/kubernetes.io/serviceaccount/token" $values.identity.serviceAccountTokenProjection }}
  - name: LINKERD2_PROXY_IDENTITY_SVC_ADDR
    value: {{ ternary "localhost.:8080" (printf "linkerd-identity-headless.%s.svc.%s.:8080" $namespace $values.clusterDomain) (eq .component "identity") }}
  - name: LINKERD2_PROXY_IDENTITY_SVC_NAME
    value: linkerd-identity.{{ $mesh }}
  - name: LINKERD2_PROXY_IDENTITY_LOCAL_NAME
    value: $(_pod_sa).$(_pod_ns).serviceaccount.identity.{{ $namespace }}.{{ include "trust-domain" .root }}
ports:
  - {name: linkerd-proxy, containerPort: {{ $values.proxy.ports.inbound }}}
  - {name: linkerd-admin, containerPort: {{ $values.proxy.ports.admin }}}
resources:
  {{- include "resources" (merge (deepCopy $resources) $values.proxy.resources) | nindent 2 }}
volumeMounts:
  - {name: linkerd-identity-end-entity, mountPath: /var/run/linkerd/identity/end-entity}
  {{- if $values.identity.serviceAccountTokenProjection }}
  - {name: linkerd-identity-token, mountPath: /var/run/secrets/tokens}
  {{- end }}
{{- end }}

{{- define "proxy.volumes" -}}
- name: linkerd-identity-end-entity
  emptyDir: {medium: Memory}
{{- if .Values.identity.serviceAccountTokenProjection }}
- name: linkerd-identity-token
  projected:
    sources:
      - serviceAccountToken: {path: linkerd-identity-token, audience: identity.l5d.io, expirationSeconds: 86400}
{{- end }}
{{- end }}

{{- /* What runs before the proxy: it leads the pod's connections to it, or checks that a CNI plugin has. */}}
{{- define "proxy.network" -}}
name: {{ ternary "linkerd-network-validator" "linkerd-init" .Values.cniEnabled }}
image: {{ .Values.proxy.image.name }}:{{ .Values.proxy.image.version | default .Values.linkerdVersion }}
{{- if not .Values.cniEnabled }}
# These need a namespace that Pod Security Admission does not restrict.
securityContext:
  capabilities:
    add: [NET_ADMIN, NET_RAW]
{{- end }}
{{- end }}
