// Package confine runs a program that is made for a container: one that reads its volumes from fixed paths below /var/run.
//
// The program gets a mount namespace of its own, in which a directory of the rehearsal is /var/run; the rest of the
// machine's files stay in sight. Users other than root get a user namespace for it, where the machine lets them.
package confine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// Program is the name of the program below that a Command starts first.
const Program = "confine"

// Command returns a command whose /var/run is the given directory, and that has no environment. It ends with the thread
// that starts it.
func Command(ctx context.Context, directory, binary string, arguments ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, "/proc/self/exe", append([]string{Program, directory, binary}, arguments...)...)
	command.Env = []string{}
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		command.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		command.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		command.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return command
}

// NewCommand returns the program that runs inside the namespace: it mounts the directory and becomes the one to run. With
// --check alone it says instead whether this machine gives such a namespace.
func NewCommand() *cobra.Command {
	return &cobra.Command{
		Use:                Program + " --check | DIRECTORY BINARY [ARGUMENT ...]",
		Args:               cobra.MinimumNArgs(1),
		DisableFlagParsing: true,
		SilenceUsage:       true,
		SilenceErrors:      true,
		RunE: func(command *cobra.Command, arguments []string) error {
			if arguments[0] == "--check" {
				return check(command.Context())
			}
			return become(arguments[0], arguments[1:])
		},
	}
}

// check mounts a directory and looks whether what is in it is seen below /var/run.
func check(ctx context.Context) error {
	directory, err := os.MkdirTemp("", "meshtrust-confine-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(directory)
	const seen = "seen"
	if err := os.WriteFile(filepath.Join(directory, seen), nil, 0o600); err != nil {
		return err
	}
	runtime.LockOSThread()
	output, err := Command(ctx, directory, "/bin/ls", "/var/run").CombinedOutput()
	if said := strings.TrimSpace(string(output)); err != nil || said != seen {
		return fmt.Errorf("a directory cannot be mounted on /var/run: %w", errors.Join(err, errors.New(said)))
	}
	return nil
}

func become(directory string, command []string) error {
	// It is a link to /run on most machines, and what is mounted on is what it leads to.
	target, err := filepath.EvalSymlinks("/var/run")
	if err != nil {
		return err
	}
	// Nothing that is mounted here is to be seen outside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("the mounts of this machine cannot be kept apart: %w", err)
	}
	if err := unix.Mount(directory, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("%s cannot be mounted on %s: %w", directory, target, err)
	}
	// That it ends with its parent the kernel keeps by thread, and the thread that becomes the program may be another than
	// the first.
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("%s cannot be made to end with its parent: %w", command[0], err)
	}
	return fmt.Errorf("%s cannot be run: %w", command[0], unix.Exec(command[0], command, []string{}))
}
