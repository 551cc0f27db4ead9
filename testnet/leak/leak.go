// Package leak finds goroutines that outlive what a test has started.
package leak

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

// None fails the test if goroutines are left that the options do not name. It waits for them: memberlist's
// Shutdown does not wait for its last probe, which may take twelve seconds to time out.
func None(t testing.TB, options ...goleak.Option) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := goleak.Find(options...)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Error(err)
			return
		}
	}
}
