package persist

import (
	"os"
	"runtime"
	"syscall"
	"testing"
)

// asNobody runs work with the rights of an unprivileged user on files: root may write anywhere.
func asNobody(t *testing.T, work func() error) error {
	if os.Getuid() != 0 {
		return work()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		syscall.RawSyscall(syscall.SYS_SETFSUID, 65534, 0, 0)
		defer syscall.RawSyscall(syscall.SYS_SETFSUID, 0, 0, 0)
		done <- work()
	}()
	return <-done
}
