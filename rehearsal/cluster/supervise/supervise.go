// Package supervise keeps the processes of one rehearsal cluster running, and ends them all with itself.
package supervise

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

// How long a process that ended is left alone before it is started again.
const backoff = 200 * time.Millisecond

// plan is what a cluster consists of; Python writes it to cluster.json in the cluster's directory.
type plan struct {
	// Processes are started side by side, in this order, and started again whenever they end.
	Processes []process `json:"processes"`
	// Egress is the path of the socket on which the API server reaches Services, Services the directory they are in.
	Egress   string `json:"egress"`
	Services string `json:"services"`
	// Kubeconfig leads to the API server.
	Kubeconfig string `json:"kubeconfig"`
}

type process struct {
	Name string   `json:"name"`
	Args []string `json:"args"`
	// Path is that of another program than this one; empty for this one.
	Path string `json:"path"`
}

// NewCommand returns the program that runs a cluster. Its output, and each process's, goes into the cluster's directory.
func NewCommand() *cobra.Command {
	var keep bool
	command := &cobra.Command{
		Use:           "supervise DIRECTORY",
		Args:          cobra.ExactArgs(1),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(command *cobra.Command, arguments []string) error {
			ctx, stop := context.WithCancel(command.Context())
			defer stop()
			if !keep {
				// Whoever started this holds the other end of its input, which closes however that process ends.
				go func() {
					_, _ = io.Copy(io.Discard, os.Stdin)
					stop()
				}()
			}
			return run(ctx, arguments[0])
		},
	}
	command.Flags().BoolVar(&keep, "keep", false, "run until stopped, whatever becomes of the process that started this")
	return command
}

func run(ctx context.Context, directory string) error {
	text, err := os.ReadFile(filepath.Join(directory, "cluster.json"))
	if err != nil {
		return err
	}
	var cluster plan
	if err := json.Unmarshal(text, &cluster); err != nil {
		return fmt.Errorf("cluster.json cannot be read: %w", err)
	}
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	temporary := filepath.Join(directory, "temporary")
	if err := os.MkdirAll(temporary, 0o700); err != nil {
		return err
	}
	// Processes are killed at the end, and remove no file of theirs. Here it is removed with the cluster.
	if err := os.Setenv("TMPDIR", temporary); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serveEgress(ctx, cluster) })
	for _, entry := range cluster.Processes {
		group.Go(func() error { return keepRunning(ctx, directory, binary, entry) })
	}
	return group.Wait()
}

// keepRunning starts a process whenever it is not running. Programs that wait for a pod end with it and are then started
// to wait for the next; a process that someone kills is a crash, and comes back as a kubelet would bring it.
func keepRunning(ctx context.Context, directory, binary string, entry process) error {
	log, err := os.OpenFile(filepath.Join(directory, entry.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	pidFile := filepath.Join(directory, entry.Name+".pid")
	for ctx.Err() == nil {
		if err := runOnce(ctx, binary, entry, log, pidFile); err != nil {
			fmt.Fprintf(log, "rehearsal: %s ended: %v\n", entry.Name, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
	}
	return nil
}

// starting is held while a process is started: the signal that a child gets when its parent dies is tied to the thread
// that started it, which has to be one that lives as long as this process.
var starting = newStarter()

func runOnce(ctx context.Context, binary string, entry process, log io.Writer, pidFile string) error {
	if entry.Path != "" {
		binary = entry.Path
	}
	// Killed at the end, without ceremony: what a cluster holds is thrown away with it.
	command := exec.CommandContext(ctx, binary, entry.Args...)
	command.Stdout, command.Stderr = log, log
	dieWithParent(command)
	if err := starting.start(command); err != nil {
		return err
	}
	if err := os.WriteFile(pidFile, fmt.Appendf(nil, "%d", command.Process.Pid), 0o600); err != nil {
		return err
	}
	defer os.Remove(pidFile)
	return command.Wait()
}
