//go:build !linux

package persist

import (
	"os"
	"testing"
)

func asNobody(t *testing.T, work func() error) error {
	if os.Getuid() == 0 {
		t.Skip("root may write anywhere")
	}
	return work()
}
