// Package nodes plays the nodes of a rehearsal cluster with kwok: every pod on them is running and ready at once, the
// pods of a Job are done at once, and a pod that is deleted is gone at once.
package nodes

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	nodestages "sigs.k8s.io/kwok/kustomize/stage/node/fast"
	podstages "sigs.k8s.io/kwok/kustomize/stage/pod/fast"
	"sigs.k8s.io/kwok/pkg/config"
	kwok "sigs.k8s.io/kwok/pkg/kwok/cmd"
	"sigs.k8s.io/kwok/pkg/log"
)

// NewCommand returns kwok with its own fast stages and the given arguments. Which stages it plays must be known before
// its command is made, so that the arguments are parsed twice, as in kwok's own main.
func NewCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "kwok",
		DisableFlagParsing: true,
		SilenceUsage:       true,
		SilenceErrors:      true,
		RunE: func(command *cobra.Command, arguments []string) error {
			stages, err := writeStages()
			if err != nil {
				return err
			}
			defer os.Remove(stages)
			// Kwok reads this flag from the process's arguments, wherever its command gets its own from.
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

func writeStages() (string, error) {
	file, err := os.CreateTemp("", "kwok-stages-*.yaml")
	if err != nil {
		return "", err
	}
	defer file.Close()
	_, err = fmt.Fprintln(file, strings.Join([]string{
		nodestages.DefaultNodeInit,
		podstages.DefaultPodReady,
		podstages.DefaultPodComplete,
		podstages.DefaultPodDelete,
	}, "\n---\n"))
	return file.Name(), err
}
