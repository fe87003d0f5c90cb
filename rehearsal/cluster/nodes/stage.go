package nodes

// pending selects the pods that a node has not started, and is a part of stages.
const pending = `  selector:
    matchExpressions:
      - key: .metadata.deletionTimestamp
        operator: DoesNotExist
      - key: .status.phase
        operator: In
        values: [Pending]
`

// addresses are those of a pod that its node has started, in the status that a stage writes.
const addresses = `      startTime: {{ $now }}
      {{ with NodeIPsWith .spec.nodeName }}
      hostIP: {{ index . 0 | Quote }}
      hostIPs: [{ip: {{ index . 0 | Quote }}}]
      {{ end }}
      {{ with PodIPsWith .spec.nodeName (or .spec.hostNetwork false) .metadata.uid .metadata.name .metadata.namespace }}
      podIP: {{ index . 0 | Quote }}
      podIPs: [{ip: {{ index . 0 | Quote }}}]
      {{ end }}
`

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
` + pending + `  next:
    statusTemplate: |
      {{ $now := Now | Quote }}
      phase: Running
` + addresses + `      conditions:
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

// playedPodHeld is a stage of kwok's: the proxy of a pod runs as a native sidecar, and the init container after it runs and
// never ends, so that the pod stays Pending. The order is a kubelet's, which starts init containers one by one, does not
// wait for the end of those that always restart, and starts the others last (pkg/kubelet/kuberuntime, computeInitContainerActions).
// A stand-in: a kubelet would also wait until the sidecar's startup probe has succeeded.
const playedPodHeld = `
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata:
  name: played-pod-held
spec:
  resourceRef:
    apiGroup: v1
    kind: Pod
` + pending + `
      - key: .status.initContainerStatuses
        operator: DoesNotExist
  next:
    statusTemplate: |
      {{ $now := Now | Quote }}
      phase: Pending
` + addresses + `
      conditions:
      - type: Initialized
        status: "False"
        reason: ContainersNotInitialized
        lastTransitionTime: {{ $now }}
      - {type: Ready, status: "False", reason: ContainersNotReady, lastTransitionTime: {{ $now }}}
      - {type: ContainersReady, status: "False", reason: ContainersNotReady, lastTransitionTime: {{ $now }}}
      containerStatuses:
      {{ range .spec.containers }}
      - name: {{ .name | Quote }}
        image: {{ .image | Quote }}
        ready: false
        started: false
        restartCount: 0
        state: {waiting: {reason: PodInitializing}}
      {{ end }}
      {{ $meshed := false }}
      {{ $held := false }}
      initContainerStatuses:
      {{ range .spec.initContainers }}
      - name: {{ .name | Quote }}
        image: {{ .image | Quote }}
        ready: false
        restartCount: 0
        {{ if $held }}
        started: false
        state: {waiting: {reason: PodInitializing}}
        {{ else if eq (or .restartPolicy "") "Always" }}
        started: {{ ne .name "linkerd-proxy" }}
        state: {running: {startedAt: {{ $now }}}}
        {{ else if $meshed }}
        started: true
        state: {running: {startedAt: {{ $now }}}}
        {{ $held = true }}
        {{ else }}
        started: false
        state: {terminated: {exitCode: 0, reason: Completed, startedAt: {{ $now }}, finishedAt: {{ $now }}}}
        {{ end }}
        {{ if eq .name "linkerd-proxy" }}{{ $meshed = true }}{{ end }}
      {{ end }}
`
