package starts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// Pauses before a mount is tried again (kubernetes pkg/util/goroutinemap/exponentialbackoff).
const (
	firstMountPause = 500 * time.Millisecond
	lastMountPause  = 2*time.Minute + 2*time.Second
)

// The pause before a pull is tried again. A kubelet waits for 10 seconds to 5 minutes, a rehearsal not so long.
const pullPause = time.Second

// start is the start of one pod on its node.
type start struct {
	client kubernetes.Interface
	pod    *corev1.Pod
	images *images
}

func (start *start) run(ctx context.Context) {
	begun := time.Now()
	err := start.containers(ctx)
	if err == nil {
		err = start.annotate(ctx)
	}
	if err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) {
		slog.Error("the pod cannot be started", "pod", start.pod.Name, "error", err)
	} else if err == nil {
		slog.Info("started", "namespace", start.pod.Namespace, "pod", start.pod.Name, "node", start.pod.Spec.NodeName,
			"after", time.Since(begun).Round(time.Millisecond))
	}
}

// containers returns once all containers of the pod run, and those of them that are to be ready would be.
func (start *start) containers(ctx context.Context) error {
	if err := start.mount(ctx); err != nil {
		return err
	}
	for _, container := range start.pod.Spec.InitContainers {
		pause, err := start.container(ctx, container)
		if err != nil {
			return err
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
	var ready time.Time
	for _, container := range start.pod.Spec.Containers {
		pause, err := start.container(ctx, container)
		if err != nil {
			return err
		}
		if then := time.Now().Add(pause); then.After(ready) {
			ready = then
		}
	}
	return sleep(ctx, time.Until(ready))
}

// container pulls a container's image, and returns how long the container then takes to start.
func (start *start) container(ctx context.Context, container corev1.Container) (time.Duration, error) {
	reported := false
	for {
		err := start.images.pull(ctx, start.pod.Spec.NodeName, container.Image)
		if err == nil {
			return start.images.startTime(container.Name)
		}
		if !errors.Is(err, errMissing) {
			return 0, err
		}
		if !reported {
			if err := start.backOff(ctx, container, err); err != nil {
				return 0, err
			}
			reported = true
		}
		if err := sleep(ctx, pullPause); err != nil {
			return 0, err
		}
	}
}

// mount returns once all that the pod's volumes are made from is there.
func (start *start) mount(ctx context.Context) error {
	for pause := firstMountPause; ; pause = min(2*pause, lastMountPause) {
		missing, err := start.missing(ctx)
		if err != nil || missing == "" {
			return err
		}
		if err := start.warn(ctx, "FailedMount", missing); err != nil {
			return err
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// missing tells, in a kubelet's words, which object a volume of the pod needs and is not there; empty if all are.
func (start *start) missing(ctx context.Context) (string, error) {
	core := start.client.CoreV1()
	for _, volume := range start.pod.Spec.Volumes {
		var err error
		if source := volume.Secret; source != nil && (source.Optional == nil || !*source.Optional) {
			_, err = core.Secrets(start.pod.Namespace).Get(ctx, source.SecretName, metav1.GetOptions{})
		}
		if source := volume.ConfigMap; source != nil && (source.Optional == nil || !*source.Optional) {
			_, err = core.ConfigMaps(start.pod.Namespace).Get(ctx, source.Name, metav1.GetOptions{})
		}
		if apierrors.IsNotFound(err) {
			return fmt.Sprintf("MountVolume.SetUp failed for volume %q : %v", volume.Name, err), nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", nil
}

// warn records an event of the pod, as its node would.
func (start *start) warn(ctx context.Context, reason, message string) error {
	now := metav1.Now()
	_, err := start.client.CoreV1().Events(start.pod.Namespace).Create(ctx, &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{GenerateName: start.pod.Name + "."},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: start.pod.Namespace, Name: start.pod.Name, UID: start.pod.UID,
		},
		Type: corev1.EventTypeWarning, Reason: reason, Message: message,
		Source: corev1.EventSource{Component: "kubelet", Host: start.pod.Spec.NodeName},
		Count:  1, FirstTimestamp: now, LastTimestamp: now,
	}, metav1.CreateOptions{})
	if apierrors.IsForbidden(err) {
		// The pod's namespace is being deleted.
		return nil
	}
	return err
}

// backOff reports that a container's image does not come.
func (start *start) backOff(ctx context.Context, container corev1.Container, cause error) error {
	status := func(container corev1.Container) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: container.Name, Image: container.Image, State: corev1.ContainerState{
			Waiting: &corev1.ContainerStateWaiting{Reason: "PodInitializing"},
		}}
	}
	var change corev1.PodStatus
	waiting := func(statuses []corev1.ContainerStatus) {
		for index := range statuses {
			if statuses[index].Name == container.Name {
				statuses[index].State.Waiting = &corev1.ContainerStateWaiting{
					Reason:  "ImagePullBackOff",
					Message: fmt.Sprintf("Back-off pulling image %q: ErrImagePull: %v", container.Image, cause),
				}
			}
		}
	}
	for _, each := range start.pod.Spec.InitContainers {
		change.InitContainerStatuses = append(change.InitContainerStatuses, status(each))
	}
	for _, each := range start.pod.Spec.Containers {
		change.ContainerStatuses = append(change.ContainerStatuses, status(each))
	}
	waiting(change.InitContainerStatuses)
	waiting(change.ContainerStatuses)
	patch, err := json.Marshal(map[string]any{"status": map[string]any{
		"initContainerStatuses": change.InitContainerStatuses, "containerStatuses": change.ContainerStatuses,
	}})
	if err != nil {
		return err
	}
	_, err = start.client.CoreV1().Pods(start.pod.Namespace).Patch(
		ctx, start.pod.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// annotate tells the nodes that the pod's containers run.
func (start *start) annotate(ctx context.Context) error {
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"true"}}}`, Started)
	_, err := start.client.CoreV1().Pods(start.pod.Namespace).Patch(
		ctx, start.pod.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}
