package nodes

// playedPodStarted is a stage of kwok's: a pod with a container that a process plays is started, but neither that container
// nor the pod is ready. The process says when it is.
const playedPodStarted = `
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata:
  name: played-pod-started
spec:
  resourceRef:
    apiGroup: v1
    kind: Pod
  selector:
    matchExpressions:
      - key: .metadata.deletionTimestamp
        operator: DoesNotExist
      - key: .status.phase
        operator: In
        values: [Pending]
  next:
    statusTemplate: |
      {{ $now := Now | Quote }}
      phase: Running
      startTime: {{ $now }}
      {{ with NodeIPsWith .spec.nodeName }}
      hostIP: {{ index . 0 | Quote }}
      hostIPs: [{ip: {{ index . 0 | Quote }}}]
      {{ end }}
      {{ with PodIPsWith .spec.nodeName (or .spec.hostNetwork false) .metadata.uid .metadata.name .metadata.namespace }}
      podIP: {{ index . 0 | Quote }}
      podIPs: [{ip: {{ index . 0 | Quote }}}]
      {{ end }}
      conditions:
      - {type: Initialized, status: "True", lastTransitionTime: {{ $now }}}
      - {type: Ready, status: "False", reason: ContainersNotReady, lastTransitionTime: {{ $now }}}
      - {type: ContainersReady, status: "False", reason: ContainersNotReady, lastTransitionTime: {{ $now }}}
      {{ range .spec.readinessGates }}
      - {type: {{ .conditionType | Quote }}, status: "True", lastTransitionTime: {{ $now }}}
      {{ end }}
      containerStatuses:
      {{ range .spec.containers }}
      - name: {{ .name | Quote }}
        image: {{ .image | Quote }}
        ready: {{ not (or (eq .name "linkerd-proxy") (eq .name "trust-manager")) }}
        started: {{ not (or (eq .name "linkerd-proxy") (eq .name "trust-manager")) }}
        restartCount: 0
        state: {running: {startedAt: {{ $now }}}}
      {{ end }}
      initContainerStatuses:
      {{ range .spec.initContainers }}
      - name: {{ .name | Quote }}
        image: {{ .image | Quote }}
        ready: {{ not (or (eq .name "linkerd-proxy") (eq .name "trust-manager")) }}
        started: {{ not (or (eq .name "linkerd-proxy") (eq .name "trust-manager")) }}
        restartCount: 0
        {{ if eq (or .restartPolicy "") "Always" }}
        state: {running: {startedAt: {{ $now }}}}
        {{ else }}
        state: {terminated: {exitCode: 0, reason: Completed, startedAt: {{ $now }}, finishedAt: {{ $now }}}}
        {{ end }}
      {{ end }}
`
