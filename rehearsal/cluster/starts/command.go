// Package starts lets the pods of a rehearsal cluster take the time to start that they take on real nodes: a node mounts
// the volumes of a pod, pulls each image once, and starts the containers.
//
// It follows a kubelet where the time goes. Volumes are mounted before any image is pulled (kubernetes
// pkg/kubelet/kubelet.go, SyncPod: WaitForAttachAndMount, then containerRuntime.SyncPod), so that a pod whose Secret is
// missing pulls nothing. A mount that fails is tried again after pauses that double
// (pkg/util/goroutinemap/exponentialbackoff). The images of one pod are pulled one after the other, those of several pods
// at once or not, by serializeImagePulls; and init containers are started one after the other.
package starts

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"meshtrust/rehearsal/cluster/daemon"
	"meshtrust/rehearsal/cluster/pods"
)

// Started is the annotation of a pod whose containers run. Until it is there, the nodes leave the pod Pending.
const Started = "rehearsal.meshtrust.io/started"

// times are the waiting times of a cluster; Python writes them.
type times struct {
	// Pulls are the seconds that a node takes to pull an image, by the image's path without registry and tag; of an
	// image that is not listed it takes OtherPulls.
	Pulls      map[string]float64 `json:"pulls"`
	OtherPulls float64            `json:"otherPulls"`
	// ShortestStart and LongestStart are the bounds of the seconds that a container takes to start.
	ShortestStart float64 `json:"shortestStart"`
	LongestStart  float64 `json:"longestStart"`
	// SerializeImagePulls is the kubelet's setting of that name: a node pulls one image at a time.
	SerializeImagePulls bool `json:"serializeImagePulls"`
	// Missing are images that the registry does not have.
	Missing []string `json:"missing"`
}

// NewCommand returns the program: it starts the pods of a cluster until it is stopped.
func NewCommand() *cobra.Command {
	var path string
	command := daemon.New("container-starts", func(ctx context.Context, cluster *rest.Config) error {
		slog.SetDefault(slog.New(slog.NewTextHandler(os.Stdout, nil)))
		return run(ctx, cluster, path)
	})
	command.Flags().StringVar(&path, "times", "", "file with the waiting times, which is read again at each pull")
	return command
}

func run(ctx context.Context, config *rest.Config, path string) error {
	if _, err := read(path); err != nil {
		return err
	}
	// Enough for the pods of a rotation of hundreds of workloads.
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = 500, 1000
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	images := newImages(path)
	running := map[types.UID]context.CancelFunc{}
	gone := func(pod *corev1.Pod) {
		if cancel, known := running[pod.UID]; known {
			cancel()
			delete(running, pod.UID)
		}
	}
	changed := func(pod *corev1.Pod) {
		isStarting := pod.Spec.NodeName != "" && pod.Status.Phase == corev1.PodPending && pod.Annotations[Started] == ""
		if _, known := running[pod.UID]; known || !isStarting {
			return
		}
		podCtx, cancel := context.WithCancel(ctx)
		running[pod.UID] = cancel
		go (&start{client: client, pod: pod, images: images}).run(podCtx)
	}
	return pods.Watch(ctx, client, func(*metav1.ListOptions) {}, changed, gone)
}

func read(path string) (*times, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var read times
	if err := json.Unmarshal(text, &read); err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", path, err)
	}
	return &read, nil
}

// sleep waits, or ends with the context.
func sleep(ctx context.Context, pause time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pause):
		return nil
	}
}
