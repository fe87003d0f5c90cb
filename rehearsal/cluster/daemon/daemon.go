// Package daemon makes the commands of programs that work on a cluster: each is told its cluster by a kubeconfig, and
// runs until it is stopped.
package daemon

import (
	"context"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// New returns the command of a program that works on a cluster until its context ends.
func New(name string, run func(ctx context.Context, cluster *rest.Config) error) *cobra.Command {
	var kubeconfig string
	command := &cobra.Command{
		Use:           name,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(command *cobra.Command, _ []string) error {
			cluster, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
			if err != nil {
				return err
			}
			return run(command.Context(), cluster)
		},
	}
	command.Flags().StringVar(&kubeconfig, "kubeconfig", "", "kubeconfig of the cluster")
	return command
}

// Serving returns the command of a program that answers for Services, too, and publishes where in a directory. It writes
// one log on its standard output, with that of the Kubernetes client.
func Serving(name string, run func(ctx context.Context, cluster *rest.Config, directory string) error) *cobra.Command {
	var directory string
	command := New(name, func(ctx context.Context, cluster *rest.Config) error {
		slog.SetDefault(slog.New(slog.NewTextHandler(os.Stdout, nil)))
		klog.SetSlogLogger(slog.Default())
		return run(ctx, cluster, directory)
	})
	command.Flags().StringVar(&directory, "services", "", "directory in which Services are published")
	return command
}
