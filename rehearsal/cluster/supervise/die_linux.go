package supervise

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes the kernel kill a process when this one ends, even when this one was killed itself.
func dieWithParent(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
