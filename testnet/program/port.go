//go:build unix

package program

import "syscall"

// Unused tells whether nobody uses a port of the loopback, for TCP nor for UDP. It is free again
// when the answer comes: a child that was being started meanwhile would hold it until it runs its
// program, and so none is.
func Unused(port int) bool {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return binds(syscall.SOCK_STREAM, port) && binds(syscall.SOCK_DGRAM, port)
}

func binds(kind, port int) bool {
	s, err := syscall.Socket(syscall.AF_INET, kind, 0)
	if err != nil {
		return false
	}
	defer syscall.Close(s)
	if kind == syscall.SOCK_STREAM { // as listeners do: connections of an earlier one do not matter
		if syscall.SetsockoptInt(s, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1) != nil {
			return false
		}
	}
	return syscall.Bind(s, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}) == nil
}
