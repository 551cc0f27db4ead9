package program

import (
	"os/exec"
	"runtime"
)

// Child starts cmd, on Linux as one that ends with this process however that ends. wait is called
// once it runs, in a goroutine that lasts as long as wait, which has to call cmd.Wait.
func Child(cmd *exec.Cmd, wait func()) error {
	endsWithParent(cmd)
	started := make(chan error)
	go func() {
		// The kernel takes the end of the thread that started it for the end of the parent.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			wait()
		}
	}()
	return <-started
}
