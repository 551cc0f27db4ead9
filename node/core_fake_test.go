package node

import (
	"strings"
	"testing"
)

// Tests that look into the stand-in for the core. Delete with core_fake.go, once the real
// core shows the same in its own way.

func TestReadinessTellsTheReason(t *testing.T) {
	n := startNode(t, testConfig(t))
	if a := n.call(t, "GET", "/readyz", ""); a.StatusCode != 200 {
		t.Errorf("%s %s", a.Status, a.body)
	}
	n.mu.Lock()
	n.notReady = "without refill authority"
	n.mu.Unlock()
	a := n.call(t, "GET", "/readyz", "")
	checkProblem(t, "readyz", a, 503, "without refill authority")
	if !strings.Contains(a.body, reducedCapacity) {
		t.Errorf("%s", a.body)
	}
	if a := n.call(t, "GET", "/healthz", ""); a.StatusCode != 200 {
		t.Errorf("alive all the same: %s", a.Status)
	}
}

func TestOperatorsCallsReachTheCore(t *testing.T) {
	n := startNode(t, testConfig(t))
	state := func() (paused, failover bool, forgot string) {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.paused, n.failover, n.forgot
	}
	n.call(t, "POST", "/-/refill?paused=true", "")
	n.call(t, "POST", "/-/forget/edge-9?force=true", "")
	n.call(t, "POST", "/-/failover", `{"version":"4","status":"firing","alerts":[{"status":"resolved"},{"status":"firing"},{"status":"resolved"}]}`)
	if paused, failover, forgot := state(); !paused || !failover || forgot != "edge-9true" {
		t.Error(paused, failover, forgot)
	}
	n.call(t, "POST", "/-/refill?paused=false", "")
	n.call(t, "POST", "/-/failover", `{"version":"4","status":"resolved","alerts":[{"status":"resolved"},{"status":"resolved"}]}`)
	if paused, failover, _ := state(); paused || failover {
		t.Error(paused, failover)
	}
}
