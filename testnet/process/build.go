package process

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const command = "github.com/openclaw/edge/cmd/openclaw-edge"

// BinaryVariable names an openclaw-edge that is there already: linking one takes seconds, and
// a run of all tests would link it in every package that starts nodes.
const BinaryVariable = "TESTNET_BINARY"

// Build builds openclaw-edge into a directory and returns its path, or that of the one which
// BinaryVariable names. It needs the go command, and to be run somewhere in this module.
func Build(ctx context.Context, dir string) (string, error) {
	if path := os.Getenv(BinaryVariable); path != "" {
		return path, nil
	}
	path := filepath.Join(dir, "openclaw-edge")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", path, command).CombinedOutput(); err != nil {
		return "", fmt.Errorf("process: go build %s: %w (it works in a clone of the project, with go installed; else name a binary)\n%s", command, err, out)
	}
	return path, nil
}
