package node

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

const goodFile = `
version: 7
limits:
  - {name: per-user, capacity: 5, refill_rate: 1/h}
`

func fileConfig(t *testing.T, text string) Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "edge.yaml")
	write(t, path, text)
	c, _, err := ReadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	d := testConfig(t)
	d.File, d.Limits, d.LimitsVersion = c.File, c.Limits, c.LimitsVersion
	return d
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// eventually is for what the operating system tells us in its own time.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("not within 20 s: %s", what)
}

func versionOf(n *Node) uint64 { _, v := n.Limits(); return v }

func TestABadFileLeavesTheLimitsInForce(t *testing.T) {
	c := fileConfig(t, goodFile)
	n := startNode(t, c)
	gauge := func() string { return call(t, "GET", "http://"+n.metrics+"/metrics", "").body }

	write(t, c.File, strings.Replace(goodFile, "capacity: 5", "capacity: lots", 1))
	a := n.call(t, "POST", "/-/reload", "")
	checkProblem(t, "reload of a bad file", a, 422, c.File+":4:32: limits[0].capacity")
	if !strings.Contains(gauge(), "\nopenclaw_config_last_reload_successful 0\n") {
		t.Error("the metric does not show it")
	}
	if a := n.call(t, "GET", "/v1/limits", ""); !strings.Contains(a.body, `"version":7,`) || !strings.Contains(a.body, `"capacity":5,`) {
		t.Errorf("%s", a.body)
	}

	write(t, c.File, strings.NewReplacer("7", "8", "capacity: 5", "capacity: 6").Replace(goodFile))
	if a := n.call(t, "POST", "/-/reload", ""); a.StatusCode != 200 || a.body != `{"reloaded":true,"version":8}`+"\n" {
		t.Errorf("%s %s", a.Status, a.body)
	}
	if !strings.Contains(gauge(), "\nopenclaw_config_last_reload_successful 1\n") {
		t.Error("the metric does not show the good file")
	}
	eventually(t, "version 8 in force", func() bool { return versionOf(n.Node) == 8 })

	os.Remove(c.File)
	checkProblem(t, "reload of no file", n.call(t, "POST", "/-/reload", ""), 422, "no such file")
}

func TestAChangedFileIsReloadedHoweverItChanged(t *testing.T) {
	c := fileConfig(t, goodFile)
	n := startNode(t, c)

	write(t, c.File, strings.Replace(goodFile, "7", "8", 1))
	eventually(t, "written in place", func() bool { return versionOf(n.Node) == 8 })

	write(t, c.File+".new", strings.Replace(goodFile, "7", "9", 1))
	if err := os.Rename(c.File+".new", c.File); err != nil {
		t.Fatal(err)
	}
	eventually(t, "renamed over", func() bool { return versionOf(n.Node) == 9 })

	write(t, c.File, strings.Replace(goodFile, "7", "10", 1))
	eventually(t, "written in place after the rename", func() bool { return versionOf(n.Node) == 10 })
}

func TestHangupReloads(t *testing.T) {
	c := fileConfig(t, strings.Replace(goodFile, "version: 7", "", 1))
	n := startNode(t, c)
	later := time.UnixMilli(int64(c.LimitsVersion) + 5000)
	if err := os.Chtimes(c.File, later, later); err != nil { // the same content: no reload of itself
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the version is the file's new time", func() bool { return versionOf(n.Node) == uint64(later.UnixMilli()) })
}

func TestOnlyAChangeOfContentReloads(t *testing.T) {
	s := newTestServer(t, fileConfig(t, goodFile))
	s.reload.ok.Set(-1) // any reload would set it
	s.reload.changed()
	if got := testutil.ToFloat64(s.reload.ok); got != -1 {
		t.Error("reloaded for nothing")
	}
	write(t, s.node.cfg.File, strings.Replace(goodFile, "7", "8", 1))
	s.reload.changed()
	if got := testutil.ToFloat64(s.reload.ok); got != 1 {
		t.Errorf("not reloaded: %v", got)
	}
}
