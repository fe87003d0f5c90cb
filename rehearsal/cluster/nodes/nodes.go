// Package nodes plays the nodes of a rehearsal cluster with kwok: every pod on them is running and ready at once, the
// pods of a Job are done at once, and a pod that is deleted is gone at once. Only a pod with a proxy of Linkerd's, and that
// of trust-manager, are not ready until the process says so that plays them: a Deployment must not take the old pod for
// spare before, nor a release the API for one that answers.
package nodes

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	nodestages "sigs.k8s.io/kwok/kustomize/stage/node/fast"
	podstages "sigs.k8s.io/kwok/kustomize/stage/pod/fast"
	"sigs.k8s.io/kwok/pkg/apis/v1alpha1"
	"sigs.k8s.io/kwok/pkg/config"
	kwok "sigs.k8s.io/kwok/pkg/kwok/cmd"
	"sigs.k8s.io/kwok/pkg/log"
	"sigs.k8s.io/yaml"

	"meshtrust/rehearsal/cluster/starts"
)

// waits is the argument by which the pods wait until their containers have been started (package starts).
const waits = "--pods-wait"

// played is a query for "yes" where a process tells the readiness of a pod: that of its proxy, as a container or as a
// native sidecar, or that of trust-manager.
const played = `if any((.spec.initContainers // [])[], .spec.containers[]; .name == "linkerd-proxy" or .name == "trust-manager")
	and .metadata.annotations["rehearsal.meshtrust.io/proxy"] != "none" then "yes" else "no" end`

// staying is a query for "yes" where a Job's pod is to run until it is deleted, instead of being done at once.
const staying = `if .metadata.annotations["rehearsal.meshtrust.io/stays"] == "true" then "yes" else "no" end`

// started is a query for "yes" where the containers of a pod run, in a cluster whose pods take their time.
const started = `if .metadata.annotations["` + starts.Started + `"] == "true" then "yes" else "no" end`

// initialising is a query for "yes" where an init container of a pod never ends, from the pod's start until it is deleted.
const initialising = `if .metadata.annotations["rehearsal.meshtrust.io/initialising"] == "true" then "yes" else "no" end`

// NewCommand returns kwok with its own fast stages and the given arguments. Which stages it plays must be known before
// its command is made, so that the arguments are parsed twice, as in kwok's own main.
func NewCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "kwok",
		DisableFlagParsing: true,
		SilenceUsage:       true,
		SilenceErrors:      true,
		RunE: func(command *cobra.Command, arguments []string) error {
			waiting := slices.Contains(arguments, waits)
			withoutWaits := func(argument string) bool { return argument == waits }
			arguments = slices.DeleteFunc(arguments, withoutWaits)
			// Kwok reads flags from the process's arguments, wherever its command gets its own from.
			os.Args = slices.DeleteFunc(os.Args, withoutWaits)
			stages, err := writeStages(waiting)
			if err != nil {
				return err
			}
			defer os.Remove(stages)
			os.Args = append(os.Args, "--config", stages)
			flags := pflag.NewFlagSet("kwok", pflag.ContinueOnError)
			flags.ParseErrorsAllowlist.UnknownFlags = true
			flags.Usage = func() {}
			ctx, _ := log.InitFlags(command.Context(), flags)
			ctx, err = config.InitFlags(ctx, flags)
			if err != nil {
				return err
			}
			player := kwok.NewCommand(ctx)
			player.PersistentFlags().AddFlagSet(flags)
			player.SetArgs(arguments)
			// Kubernetes has a flag --version too, of another type, and its flags are every command's in this binary.
			player.Version = ""
			return player.ExecuteContext(ctx)
		},
	}
}

func writeStages(waiting bool) (string, error) {
	others, err := restricted(podstages.DefaultPodReady, played, v1alpha1.SelectorOpNotIn)
	if err != nil {
		return "", err
	}
	running, err := restricted(playedPodStarted, played, v1alpha1.SelectorOpIn)
	if err != nil {
		return "", err
	}
	running, err = restricted(running, initialising, v1alpha1.SelectorOpNotIn)
	if err != nil {
		return "", err
	}
	held, err := restricted(playedPodHeld, played, v1alpha1.SelectorOpIn)
	if err != nil {
		return "", err
	}
	held, err = restricted(held, initialising, v1alpha1.SelectorOpIn)
	if err != nil {
		return "", err
	}
	if waiting {
		for _, stage := range []*string{&others, &running, &held} {
			if *stage, err = restricted(*stage, started, v1alpha1.SelectorOpIn); err != nil {
				return "", err
			}
		}
	}
	completed, err := restricted(podstages.DefaultPodComplete, staying, v1alpha1.SelectorOpNotIn)
	if err != nil {
		return "", err
	}
	file, err := os.CreateTemp("", "kwok-stages-*.yaml")
	if err != nil {
		return "", err
	}
	defer file.Close()
	_, err = fmt.Fprintln(file, strings.Join([]string{
		nodestages.DefaultNodeInit,
		others,
		running,
		held,
		completed,
		podstages.DefaultPodDelete,
	}, "\n---\n"))
	return file.Name(), err
}

// restricted makes a stage one of pods for which a query has the answer "yes", or of those for which it has not.
func restricted(text, query string, operator v1alpha1.SelectorOperator) (string, error) {
	var stage v1alpha1.Stage
	if err := yaml.Unmarshal([]byte(text), &stage); err != nil {
		return "", err
	}
	stage.Spec.Selector.MatchExpressions = append(stage.Spec.Selector.MatchExpressions, v1alpha1.MatchExpression{
		JQ: &v1alpha1.SelectorJQ{Key: query, Operator: operator, Values: []string{"yes"}},
	})
	changed, err := yaml.Marshal(stage)
	return string(changed), err
}
