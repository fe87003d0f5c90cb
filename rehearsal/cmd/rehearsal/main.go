// Rehearsal is every program of the rehearsal in one binary, so that what they share is compiled and linked once.
//
// The first argument names the program; the others are its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	helm "helm.sh/helm/v4/pkg/cmd"
	"helm.sh/helm/v4/pkg/kube"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"

	"meshtrust/rehearsal/cluster/admission"
	"meshtrust/rehearsal/cluster/certmanager"
	"meshtrust/rehearsal/cluster/confine"
	"meshtrust/rehearsal/cluster/kubelet"
	"meshtrust/rehearsal/cluster/nodes"
	"meshtrust/rehearsal/cluster/starts"
	"meshtrust/rehearsal/cluster/supervise"
	"meshtrust/rehearsal/cluster/trustmanager"
	"meshtrust/rehearsal/mesh/identity"
	"meshtrust/rehearsal/mesh/injector"
	"meshtrust/rehearsal/mesh/leaf"
	"meshtrust/rehearsal/mesh/proxies"
	"meshtrust/rehearsal/objectstore"
)

var programs = map[string]func() int{
	"etcd":                    etcd,
	"kube-apiserver":          func() int { return cli.Run(apiserver.NewAPIServerCommand()) },
	"kube-controller-manager": func() int { return cli.Run(controllermanager.NewControllerManagerCommand()) },
	"kube-scheduler":          func() int { return cli.Run(scheduler.NewSchedulerCommand()) },
	"kwok":                    command(nodes.NewCommand),
	"cert-manager":            command(certmanager.NewControllerCommand),
	"cainjector":              command(certmanager.NewInjectorCommand),
	"cert-manager-webhook":    command(admission.NewCommand),
	confine.Program:           command(confine.NewCommand),
	"container-starts":        command(starts.NewCommand),
	"helm":                    runHelm,
	"kubectl":                 runKubectl,
	"kubelet":                 command(kubelet.NewCommand),
	"leaf":                    command(leaf.NewCommand),
	"linkerd-identity":        command(identity.NewCommand),
	"linkerd-proxies":         command(proxies.NewCommand),
	"linkerd-proxy-injector":  command(injector.NewCommand),
	"s3":                      command(objectstore.NewCommand),
	"supervise":               command(supervise.NewCommand),
	"trust-manager":           command(trustmanager.NewCommand),
}

func main() {
	names := make([]string, 0, len(programs))
	for name := range programs {
		names = append(names, name)
	}
	slices.Sort(names)
	if len(os.Args) < 2 || programs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: rehearsal PROGRAM [ARGUMENT ...], where PROGRAM is one of", strings.Join(names, ", "))
		os.Exit(2)
	}
	program := programs[os.Args[1]]
	os.Args = os.Args[1:]
	os.Exit(program())
}

// command runs one of our own programs until it ends or the process is told to stop.
func command(build func() *cobra.Command) func() int {
	return func() int {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if err := build().ExecuteContext(ctx); err != nil && !errors.Is(err, context.Canceled) {
			fmt.Fprintln(os.Stderr, "error:", err)
			return 1
		}
		return 0
	}
}

func etcd() int {
	etcdmain.Main(os.Args)
	return 0
}

func runKubectl() int {
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		// It tells the error as kubectl does, and ends the process with kubectl's exit code.
		kubectlutil.CheckErr(err)
	}
	return 0
}

func runHelm() int {
	// Named as the helm command names itself, whatever this binary is called.
	kube.ManagedFieldsManager = "helm"
	root, err := helm.NewRootCmd(os.Stdout, os.Args[1:], helm.SetupLogging)
	if err != nil {
		slog.Error("helm cannot start", "error", err)
		return 1
	}
	if err := root.Execute(); err != nil {
		var failure helm.CommandError
		if errors.As(err, &failure) {
			return failure.ExitCode
		}
		return 1
	}
	return 0
}
