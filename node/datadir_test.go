package node

import (
	"encoding/json"
	"net"
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

// Why a node ends names the part that failed, once.
func TestAnAddressInUseIsSaidOnce(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for part, set := range map[string]func(*Config){
		"gossip": func(c *Config) { c.Gossip = taken.Addr().String() },
		"http":   func(c *Config) { c.HTTP = taken.Addr().String() },
	} {
		c := testConfig(t)
		set(&c)
		n, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		err = n.Run(t.Context())
		if err == nil || !strings.HasPrefix(err.Error(), "node: "+part+": ") || strings.Count(err.Error(), part+":") != 1 {
			t.Errorf("%s: %v", part, err)
		}
	}
}
