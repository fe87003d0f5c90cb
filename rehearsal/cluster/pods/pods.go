// Package pods runs a program as long as the pod exists that would have run it. The pods of a rehearsal cluster are
// objects that kwok marks as ready; their containers are processes of the rehearsal, and this ties the two together.
package pods

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// Container is a program that a pod would have run. It ends when its context does.
type Container func(ctx context.Context, pod *corev1.Pod) error

// Run waits for a running pod with these labels, in any namespace, and runs its container until the pod is gone.
func Run(ctx context.Context, config *rest.Config, labels string, container Container) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	pod, err := waitRunning(ctx, client, labels)
	if err != nil {
		return err
	}
	fmt.Printf("pod %s/%s is running\n", pod.Namespace, pod.Name)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended, gone := make(chan error, 1), make(chan error, 1)
	go func() { ended <- container(ctx, pod) }()
	go func() { gone <- waitGone(ctx, client, pod) }()
	select {
	case err := <-ended:
		return err
	case err := <-gone:
		if err == nil {
			fmt.Printf("pod %s/%s is gone\n", pod.Namespace, pod.Name)
		}
		return err
	}
}

// As returns a client configuration with the rights of a pod's service account, so that its chart's RBAC counts.
func As(config *rest.Config, pod *corev1.Pod) *rest.Config {
	impersonating := rest.CopyConfig(config)
	impersonating.Impersonate = rest.ImpersonationConfig{
		UserName: fmt.Sprintf("system:serviceaccount:%s:%s", pod.Namespace, pod.Spec.ServiceAccountName),
		Groups: []string{
			"system:serviceaccounts", "system:serviceaccounts:" + pod.Namespace, "system:authenticated",
		},
	}
	return impersonating
}

func waitRunning(ctx context.Context, client kubernetes.Interface, labels string) (*corev1.Pod, error) {
	withLabels := func(options *metav1.ListOptions) { options.LabelSelector = labels }
	pods := cache.NewFilteredListWatchFromClient(client.CoreV1().RESTClient(), "pods", metav1.NamespaceAll, withLabels)
	event, err := watchtools.UntilWithSync(ctx, pods, &corev1.Pod{}, nil, func(event watch.Event) (bool, error) {
		pod, isPod := event.Object.(*corev1.Pod)
		return isPod && event.Type != watch.Deleted && isRunning(pod), nil
	})
	if err != nil {
		return nil, fmt.Errorf("no pod with the labels %s was started: %w", labels, err)
	}
	return event.Object.(*corev1.Pod), nil
}

func isRunning(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodRunning
}

func isReady(pod *corev1.Pod) bool {
	if pod.DeletionTimestamp != nil {
		return false
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

func waitGone(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod) error {
	named := fields.OneTermEqualSelector("metadata.name", pod.Name)
	pods := cache.NewListWatchFromClient(client.CoreV1().RESTClient(), "pods", pod.Namespace, named)
	isAbsent := func(store cache.Store) (bool, error) { return len(store.List()) == 0, nil }
	_, err := watchtools.UntilWithSync(ctx, pods, &corev1.Pod{}, isAbsent, func(event watch.Event) (bool, error) {
		return event.Type == watch.Deleted, nil
	})
	return err
}
