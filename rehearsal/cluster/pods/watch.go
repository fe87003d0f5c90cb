package pods

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// Watch tells of every pod of the cluster that is selected, and of every change of one, until the context ends. A pod that
// is being deleted, or is not selected any more, is told to be gone: once or more.
func Watch(
	ctx context.Context, client kubernetes.Interface, selected func(*metav1.ListOptions), changed, gone func(*corev1.Pod),
) error {
	observe := func(object any) {
		if pod := object.(*corev1.Pod); pod.DeletionTimestamp != nil {
			gone(pod)
		} else {
			changed(pod)
		}
	}
	_, controller := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewFilteredListWatchFromClient(
			client.CoreV1().RESTClient(), "pods", metav1.NamespaceAll, selected),
		ObjectType: &corev1.Pod{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    observe,
			UpdateFunc: func(_, object any) { observe(object) },
			DeleteFunc: func(object any) {
				if unknown, isUnknown := object.(cache.DeletedFinalStateUnknown); isUnknown {
					object = unknown.Obj
				}
				gone(object.(*corev1.Pod))
			},
		},
	})
	controller.RunWithContext(ctx)
	return ctx.Err()
}

// Labelled selects pods by their labels.
func Labelled(labels string) func(*metav1.ListOptions) {
	return func(options *metav1.ListOptions) { options.LabelSelector = labels }
}
