package supervise

import (
	"os/exec"
	"runtime"
)

// starter starts processes from one thread that never ends. The signal that tells a child of its parent's death is
// Linux's PR_SET_PDEATHSIG, and what it calls the parent is the thread that started the child.
type starter chan request

type request struct {
	command *exec.Cmd
	result  chan error
}

func newStarter() starter {
	requests := make(starter)
	go func() {
		runtime.LockOSThread()
		for asked := range requests {
			asked.result <- asked.command.Start()
		}
	}()
	return requests
}

func (requests starter) start(command *exec.Cmd) error {
	asked := request{command, make(chan error, 1)}
	requests <- asked
	return <-asked.result
}
