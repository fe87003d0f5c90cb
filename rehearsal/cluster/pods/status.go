package pods

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"
)

// Reporter writes what becomes of some containers into the status of their pod, as the kubelet of its node would.
type Reporter struct {
	Client     kubernetes.Interface
	Pod        *corev1.Pod
	Containers []string
}

// Ready says that the containers run and are ready.
func (reporter Reporter) Ready(ctx context.Context) error {
	return reporter.report(ctx, func(status *corev1.ContainerStatus) {
		run(status)
		started := true
		status.Ready, status.Started = true, &started
	})
}

// NotReady says that the containers run, but are not ready yet.
func (reporter Reporter) NotReady(ctx context.Context) error {
	return reporter.report(ctx, func(status *corev1.ContainerStatus) {
		run(status)
		status.Ready = false
	})
}

// Waiting says that the containers cannot be created yet, as a kubelet does whose mounts wait for an object.
func (reporter Reporter) Waiting(ctx context.Context, reason string, cause error) error {
	return reporter.report(ctx, func(status *corev1.ContainerStatus) {
		status.Ready = false
		status.State = corev1.ContainerState{
			Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: cause.Error()},
		}
	})
}

// Crashed says that the containers have ended with an error and will be started again.
func (reporter Reporter) Crashed(ctx context.Context, cause error) error {
	return reporter.report(ctx, func(status *corev1.ContainerStatus) {
		status.Ready = false
		status.RestartCount++
		status.LastTerminationState = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: 1, Reason: "Error", Message: cause.Error(), FinishedAt: metav1.Now(),
		}}
		status.State = corev1.ContainerState{
			Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: cause.Error()},
		}
	})
}

// Restarted says that the containers have ended and run anew.
func (reporter Reporter) Restarted(ctx context.Context) error {
	return reporter.report(ctx, func(status *corev1.ContainerStatus) {
		status.Ready = false
		status.RestartCount++
		status.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}
	})
}

func run(status *corev1.ContainerStatus) {
	if status.State.Running == nil {
		status.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}
	}
}

func (reporter Reporter) report(ctx context.Context, change func(*corev1.ContainerStatus)) error {
	ours := reporter.Client.CoreV1().Pods(reporter.Pod.Namespace)
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		pod, err := ours.Get(ctx, reporter.Pod.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, statuses := range [][]corev1.ContainerStatus{
			pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses,
		} {
			for index := range statuses {
				if slices.Contains(reporter.Containers, statuses[index].Name) {
					change(&statuses[index])
				}
			}
		}
		setReadiness(pod)
		_, err = ours.UpdateStatus(ctx, pod, metav1.UpdateOptions{})
		return err
	})
}

// setReadiness makes the pod ready exactly when all of its containers are.
func setReadiness(pod *corev1.Pod) {
	isUnready := func(status corev1.ContainerStatus) bool { return !status.Ready }
	ready, reason := corev1.ConditionTrue, ""
	if slices.ContainsFunc(pod.Status.InitContainerStatuses, isUnready) ||
		slices.ContainsFunc(pod.Status.ContainerStatuses, isUnready) {
		ready, reason = corev1.ConditionFalse, "ContainersNotReady"
	}
	for index := range pod.Status.Conditions {
		condition := &pod.Status.Conditions[index]
		isReadiness := condition.Type == corev1.PodReady || condition.Type == corev1.ContainersReady
		if isReadiness && condition.Status != ready {
			condition.Status, condition.Reason, condition.LastTransitionTime = ready, reason, metav1.Now()
		}
	}
}
