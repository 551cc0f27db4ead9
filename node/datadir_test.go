package node

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestADataDirectoryHasOneOwner(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	unlock, err := lockDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockDataDir(dir); err == nil || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("a second owner: %v", err)
	}
	unlock()
	unlock, err = lockDataDir(dir)
	if err != nil {
		t.Errorf("after the first one left: %v", err)
	}
	unlock()
	if unlock, err = lockDataDir(""); err != nil {
		t.Error(err)
	}
	unlock()
}

func TestAddressesAreThoseReallyBound(t *testing.T) {
	c := testConfig(t)
	path := filepath.Join(c.DataDir, "addresses.json")
	t.Run("while it runs", func(t *testing.T) {
		n := startNode(t, c)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var a Addresses
		if err := json.Unmarshal(b, &a); err != nil || a.HTTP != n.http || a.Metrics != n.metrics || strings.HasSuffix(a.HTTP, ":0") {
			t.Errorf("%s, %v", b, err)
		}
	})
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("after it stopped: %v", err)
	}
}
