// Package proxies stands in for the proxies of Linkerd's data plane in a cluster whose pods have no containers.
//
// For every pod with a container linkerd-proxy it plays the kubelet and the proxy, in one process for all of them: a proxy
// reads its trust anchors when it starts and never again, gets a leaf from the identity service by the real protocol,
// refuses one that its own anchors do not verify, renews it in time, and is ready once it has one (linkerd2-proxy
// linkerd/app/src/env.rs, linkerd/proxy/identity-client, linkerd/meshtls). Instead of an application's traffic, proxies
// make connections to each other all the time, each a full TLS 1.3 handshake in which both sides check the other, and
// what comes of it is served as JSON. The pods of the identity service have their proxy from the process that plays it.
package proxies

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"meshtrust/rehearsal/cluster/daemon"
	"meshtrust/rehearsal/cluster/pods"
	"meshtrust/rehearsal/cluster/services"
	"meshtrust/rehearsal/mesh/certify"
)

// Where the report is published.
const (
	reportNamespace = "rehearsal"
	reportName      = "handshakes"
	reportPort      = 80
)

// Pods that have no proxy of ours: those with this annotation, for a cluster with thousands of pods that do nothing, and
// those of the identity service.
const (
	proxyAnnotation = "rehearsal.meshtrust.io/proxy"
	// A change of it has the proxy's container restarted, which reads its environment again.
	restartAnnotation = "rehearsal.meshtrust.io/restart"
	componentLabel    = "linkerd.io/control-plane-component"
)

// process is what all proxies share.
type process struct {
	kubelet  kubelet
	services string
	traffic  *traffic
}

// NewCommand returns the program: it plays all proxies of a cluster until it is stopped.
func NewCommand() *cobra.Command {
	var chosen rate
	command := daemon.Serving("linkerd-proxies", func(ctx context.Context, cluster *rest.Config, directory string) error {
		if chosen.perProxy <= 0 || chosen.limit <= 0 {
			return errors.New("--rate and --limit are connections per second, and more than 0")
		}
		slog.Info("stand-in for Linkerd's proxies, for rehearsals and tests only")
		return run(ctx, cluster, directory, chosen)
	})
	flags := command.Flags()
	flags.Float64Var(&chosen.perProxy, "rate", 5, "connections that each proxy makes per second")
	flags.Float64Var(&chosen.limit, "limit", 250, "connections per second that all proxies together make at most")
	return command
}

func run(ctx context.Context, config *rest.Config, directory string, chosen rate) error {
	// Enough for the tokens and the statuses of hundreds of pods at the same time.
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = 200, 400
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	shared := &process{kubelet: kubelet{client}, services: directory, traffic: newTraffic(chosen)}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return shared.watch(ctx) })
	group.Go(func() error { return shared.serveReport(ctx) })
	group.Go(func() error {
		shared.traffic.run(ctx)
		return nil
	})
	return group.Wait()
}

// played is a proxy's container: what ends it, and the value of its pod's restartAnnotation.
type played struct {
	stop    context.CancelFunc
	restart string
}

// watch runs a proxy for every pod that a node has started and that has one, as long as the pod exists.
func (shared *process) watch(ctx context.Context) error {
	running := map[types.UID]played{}
	start := func(pod *corev1.Pod) {
		before, known := running[pod.UID]
		if !isOurs(pod) || !isStarted(pod) || known && before.restart == pod.Annotations[restartAnnotation] {
			return
		}
		if known {
			before.stop()
		}
		gone, stop := context.WithCancel(ctx)
		running[pod.UID] = played{stop, pod.Annotations[restartAnnotation]}
		playing := &proxy{
			pod:    pod,
			gone:   gone,
			log:    slog.With("pod", key(pod)),
			status: pods.Reporter{Client: shared.kubelet.client, Pod: pod, Containers: []string{certify.ProxyContainer}},
		}
		go func() {
			if known {
				playing.report(playing.status.Restarted(gone))
			}
			playing.run(shared)
		}()
	}
	stop := func(pod *corev1.Pod) {
		if playing, known := running[pod.UID]; known {
			playing.stop()
			delete(running, pod.UID)
		}
	}
	unfinished := func(options *metav1.ListOptions) {
		options.FieldSelector = fields.AndSelectors(
			fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)),
			fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)),
		).String()
	}
	return pods.Watch(ctx, shared.kubelet.client, unfinished, start, stop)
}

func isOurs(pod *corev1.Pod) bool {
	_, isMeshed := container(pod)
	return isMeshed && pod.Annotations[proxyAnnotation] != "none" && pod.Labels[componentLabel] != "identity"
}

// isStarted tells whether a pod's node has come to its proxy, as a native sidecar maybe long before the pod is Running.
func isStarted(pod *corev1.Pod) bool {
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if status.Name == certify.ProxyContainer {
			return true
		}
	}
	return false
}

func (shared *process) serveReport(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	withdraw, err := services.Publish(
		shared.services, reportNamespace, reportName, reportPort, listener.Addr().String())
	if err != nil {
		return err
	}
	defer withdraw()
	server := &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(response http.ResponseWriter, _ *http.Request) {
			response.Header().Set("Content-Type", "application/json")
			if err := json.NewEncoder(response).Encode(shared.traffic.snapshot()); err != nil {
				slog.Error("the report cannot be written", "error", err)
			}
		}),
	}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("the report is not served: %w", err)
	}
	return nil
}
