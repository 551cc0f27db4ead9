package process

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
)

const command = "github.com/openclaw/edge/cmd/openclaw-edge"

// Build builds openclaw-edge into a directory and returns its path. It needs the go command, and
// to be run somewhere in this module.
func Build(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "openclaw-edge")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", path, command).CombinedOutput(); err != nil {
		return "", fmt.Errorf("process: go build %s: %w (it works in a clone of the project, with go installed; else name a binary)\n%s", command, err, out)
	}
	return path, nil
}
