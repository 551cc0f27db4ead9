package kv

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Rested gives a node that starts on an empty data directory the calls of one that has not called
// for long: without them it has to earn each (persist's budget), which takes some seconds.
func Rested(dir string) error {
	file := filepath.Join(dir, "kv-calls")
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("kv: %w", err)
	}
	if err := os.WriteFile(file, fmt.Appendf(nil, `{"calls_left":200,"at_ms":%d}`, time.Now().UnixMilli()), 0o600); err != nil {
		return fmt.Errorf("kv: %w", err)
	}
	return nil
}
