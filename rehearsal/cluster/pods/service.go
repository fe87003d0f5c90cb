package pods

import (
	"context"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// How long a Service is left alone whose program ended with an error.
const serviceBackoff = time.Second

// Service is a program that stands for all ready pods of a Service at once. It ends when its context does; current
// returns the one of the pods that became ready last.
type Service func(ctx context.Context, current func() *corev1.Pod) error

// RunService runs a program for each namespace in which there is a ready pod with these labels, without a break while one
// pod is replaced by another, and ends it with the last of them.
func RunService(ctx context.Context, config *rest.Config, labels string, service Service) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	byNamespace := map[string]*endpoints{}
	within := func(pod *corev1.Pod) *endpoints {
		if byNamespace[pod.Namespace] == nil {
			byNamespace[pod.Namespace] = &endpoints{ready: map[types.UID]*corev1.Pod{}, service: service}
		}
		return byNamespace[pod.Namespace]
	}
	return Watch(ctx, client, Labelled(labels),
		func(pod *corev1.Pod) {
			if isReady(pod) {
				within(pod).add(ctx, pod)
			} else {
				within(pod).remove(pod)
			}
		},
		func(pod *corev1.Pod) { within(pod).remove(pod) })
}

// endpoints are the ready pods of one namespace.
type endpoints struct {
	service Service

	lock   sync.Mutex
	ready  map[types.UID]*corev1.Pod
	newest *corev1.Pod
	stop   context.CancelFunc
	ended  chan struct{}
}

func (serving *endpoints) current() *corev1.Pod {
	serving.lock.Lock()
	defer serving.lock.Unlock()
	return serving.newest
}

func (serving *endpoints) add(ctx context.Context, pod *corev1.Pod) {
	serving.lock.Lock()
	defer serving.lock.Unlock()
	if _, known := serving.ready[pod.UID]; !known || serving.newest.UID == pod.UID {
		serving.newest = pod
	}
	serving.ready[pod.UID] = pod
	if len(serving.ready) > 1 || serving.stop != nil {
		return
	}
	slog.Info("the first pod is ready", "pod", pod.Name)
	previous := serving.ended
	serving.ended = make(chan struct{})
	ctx, serving.stop = context.WithCancel(ctx)
	go func(ended chan struct{}) {
		defer close(ended)
		if previous != nil {
			<-previous
		}
		serving.keepRunning(ctx)
	}(serving.ended)
}

func (serving *endpoints) remove(pod *corev1.Pod) {
	serving.lock.Lock()
	defer serving.lock.Unlock()
	delete(serving.ready, pod.UID)
	if len(serving.ready) == 0 && serving.stop != nil {
		slog.Info("the last pod is gone", "pod", pod.Name)
		serving.stop()
		serving.stop = nil
	}
}

func (serving *endpoints) keepRunning(ctx context.Context) {
	for ctx.Err() == nil {
		if err := serving.service(ctx, serving.current); err != nil && ctx.Err() == nil {
			slog.Error("the program of a Service ended", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(serviceBackoff):
		}
	}
}
