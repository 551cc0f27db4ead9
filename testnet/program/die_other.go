//go:build !linux

package program

import "syscall"

// Only Linux ends a child with its parent.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
