package identity

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
)

// reportReady says in the pod's status that its container runs. The node of a rehearsal cluster says so by itself, but
// not after a failure was reported.
func (running *container) reportReady(ctx context.Context) error {
	return running.report(ctx, corev1.ConditionTrue, "", func(status *corev1.ContainerStatus) {
		if status.State.Running == nil {
			status.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}
		}
		status.Ready = true
	})
}

// reportWaiting says that the container cannot be created yet, as a kubelet does whose mounts wait for an object.
func (running *container) reportWaiting(ctx context.Context, cause error) error {
	return running.report(ctx, corev1.ConditionFalse, "ContainersNotReady", func(status *corev1.ContainerStatus) {
		status.Ready = false
		status.State = corev1.ContainerState{
			Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating", Message: cause.Error()},
		}
	})
}

// reportCrash says that the container has ended with an error and will be started again.
func (running *container) reportCrash(ctx context.Context, cause error) error {
	return running.report(ctx, corev1.ConditionFalse, "ContainersNotReady", func(status *corev1.ContainerStatus) {
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

func (running *container) report(
	ctx context.Context, ready corev1.ConditionStatus, reason string, change func(*corev1.ContainerStatus),
) error {
	ours := running.kubelet.CoreV1().Pods(running.pod.Namespace)
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		pod, err := ours.Get(ctx, running.pod.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for index := range pod.Status.ContainerStatuses {
			if status := &pod.Status.ContainerStatuses[index]; status.Name == containerName {
				change(status)
			}
		}
		for index := range pod.Status.Conditions {
			condition := &pod.Status.Conditions[index]
			isReadiness := condition.Type == corev1.PodReady || condition.Type == corev1.ContainersReady
			if isReadiness && condition.Status != ready {
				condition.Status, condition.Reason, condition.LastTransitionTime = ready, reason, metav1.Now()
			}
		}
		_, err = ours.UpdateStatus(ctx, pod, metav1.UpdateOptions{})
		return err
	})
}
