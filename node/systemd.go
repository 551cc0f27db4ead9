package node

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// systemd's Type=notify. Without a NOTIFY_SOCKET all of this does nothing; its errors are
// systemd's to notice.

func notifyReady()    { daemon.SdNotify(false, daemon.SdNotifyReady) }
func notifyStopping() { daemon.SdNotify(false, daemon.SdNotifyStopping) }

// watchdog tells systemd that the node lives, twice as often as it asks, each time after
// probe has returned: a probe that hangs on a lock gets the process restarted.
func watchdog(ctx context.Context, probe func()) error {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return nil
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			probe()
			daemon.SdNotify(false, daemon.SdNotifyWatchdog)
		}
	}
}
