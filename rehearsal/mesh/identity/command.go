// Package identity runs Linkerd's identity service in a cluster whose pods have no containers.
//
// For every pod of the Deployment linkerd-identity it plays the kubelet, the proxy and the container, in one process for
// all of them. Where the rehearsal was given the real identity controller, that is what the container runs. Else a stand-in
// follows it where a cluster, its operators and its proxies see it: arguments, anchors that are read once, checks and hot
// reload of the issuer, events, metric, and the protocol by which proxies get their leaves. Rules and messages: linkerd2
// controller/cmd/identity, controller/identity, pkg/identity and pkg/tls. Pods of the official chart are served as well as
// those of the stand-in chart.
package identity

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"meshtrust/rehearsal/cluster/daemon"
	"meshtrust/rehearsal/cluster/pods"
)

// podLabels select the pods of the Deployment, in the official chart and in ours.
const podLabels = "linkerd.io/control-plane-component=identity"

// A container that ends is started again after a while, twice as long each time. A kubelet waits for 10 seconds to 5
// minutes, a rehearsal not so long.
const (
	firstRestart = 200 * time.Millisecond
	lastRestart  = 2 * time.Second
)

// NewCommand returns the program: it serves all identity pods of a cluster until it is stopped.
func NewCommand() *cobra.Command {
	var on node
	command := daemon.Serving("linkerd-identity", func(ctx context.Context, cluster *rest.Config, directory string) error {
		on.services = directory
		if on.controller == "" {
			slog.Info("stand-in for Linkerd's identity service, for rehearsals and tests only")
		} else {
			slog.Info("Linkerd's own identity controller, behind stand-ins for its proxies", "binary", on.controller)
		}
		return runAll(ctx, cluster, on)
	})
	command.Flags().StringVar(&on.controller, "controller", "", "the real identity controller, to be run instead")
	command.Flags().StringVar(&on.volumes, "volumes", "", "directory for the controller's volumes")
	return command
}

// runAll runs a container for every identity pod that a node has taken, as long as the pod exists.
func runAll(ctx context.Context, config *rest.Config, on node) error {
	// Enough for a watch, a token and a status of many pods at the same time.
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = 100, 200
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	running := map[string]context.CancelFunc{}
	networks := map[string]*network{}
	stop := func(pod *corev1.Pod) {
		if cancel, known := running[string(pod.UID)]; known {
			cancel()
			delete(running, string(pod.UID))
		}
	}
	start := func(pod *corev1.Pod) {
		if _, known := running[string(pod.UID)]; known || pod.Status.Phase != corev1.PodRunning {
			return
		}
		if networks[pod.Namespace] == nil {
			networks[pod.Namespace] = &network{directory: on.services, namespace: pod.Namespace}
		}
		podCtx, cancel := context.WithCancel(ctx)
		running[string(pod.UID)] = cancel
		go keepRunning(podCtx, config, pod, on, networks[pod.Namespace])
	}
	return pods.Watch(ctx, client, pods.Labelled(podLabels), start, stop)
}

// keepRunning starts a pod's container again whenever it ends, until the pod is gone.
func keepRunning(ctx context.Context, config *rest.Config, pod *corev1.Pod, on node, between *network) {
	contained, err := newContainer(config, pod, on)
	if err != nil {
		slog.Error("the container cannot be run", "pod", pod.Name, "error", err)
		return
	}
	for wait := firstRestart; ; wait = min(2*wait, lastRestart) {
		err := contained.run(ctx, between.mailbox())
		if ctx.Err() != nil {
			return
		}
		contained.log.Error("container ended", "error", err)
		if errors.Is(err, errNotMounted) {
			err = contained.status.Waiting(ctx, "ContainerCreating", err)
		} else {
			err = contained.status.Crashed(ctx, err)
		}
		if err != nil && ctx.Err() == nil {
			contained.log.Error("the pod's status cannot be written", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}
