//go:build !linux

package redis

import "syscall"

// Only Linux ends a child with its parent.
func dieWithParent() *syscall.SysProcAttr { return nil }
