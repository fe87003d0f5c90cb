{{- /* Where the pods of a component may run. Takes the chart's root and the component. */}}
{{- define "scheduling" -}}
{{- $values := .root.Values -}}
nodeSelector:
  {{- toYaml $values.nodeSelector | nindent 2 }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- if or $values.enablePodAntiAffinity $values.nodeAffinity }}
affinity:
  {{- with $values.nodeAffinity }}
  nodeAffinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if $values.enablePodAntiAffinity }}
  podAntiAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector: &component
          matchLabels:
            linkerd.io/control-plane-component: {{ .component }}
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: topology.kubernetes.io/zone
          labelSelector: *component
  {{- end }}
{{- end }}
{{- end }}

{{- /* Resources of a container, from a value such as proxy.resources. */}}
{{- define "resources" -}}
{{- $resources := dict "limits" dict "requests" dict }}
{{- $given := . | default dict }}
{{- range $kind := list "cpu" "memory" "ephemeral-storage" }}
{{- with get $given $kind }}
{{- with .limit }}{{ $_ := set $resources.limits $kind (toString .) }}{{ end }}
{{- with .request }}{{ $_ := set $resources.requests $kind (toString .) }}{{ end }}
{{- end }}
{{- end }}
{{- toYaml $resources }}
{{- end }}
