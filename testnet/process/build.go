package process

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const commands = "github.com/openclaw/edge/cmd/"

// BinariesVariable names a directory with this module's commands: linking one takes seconds, and a
// run of all tests would link them in every package that starts some.
const BinariesVariable = "TESTNET_BINARIES"

// Build builds a command, such as openclaw-edge, into a directory and returns its path, or that of the
// one in the directory that BinariesVariable names. It needs the go command, and to be run somewhere in
// this module.
func Build(ctx context.Context, dir, command string) (string, error) {
	if ready := os.Getenv(BinariesVariable); ready != "" {
		return filepath.Join(ready, command), nil
	}
	path := filepath.Join(dir, command)
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", path, commands+command).CombinedOutput(); err != nil {
		return "", fmt.Errorf("process: go build %s: %w (it works in a clone of the project, with go installed; else name a binary)\n%s", commands+command, err, out)
	}
	return path, nil
}
