package drill

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

var picture = flag.String("picture", "", "take a picture of the console during a partition, and write it to this file")

// The picture in alerts/README.md: minutes of a healthy cluster, then a partition, until its
// alerts fire.
func TestPictureOfAPartition(t *testing.T) {
	if *picture == "" {
		t.Skip("no -picture=FILE: nothing to draw")
	}
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("no chromium: apt-get install chromium")
	}
	s, err := open(10)
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	if err != nil {
		t.Fatal(err)
	}
	d := &drill{stage: s, out: os.Stdout}
	if err := d.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.load.user(cutOff)
	s.wait(t, 3*time.Minute)
	if err := s.cut(true); err != nil {
		t.Fatal(err)
	}
	s.wait(t, 75*time.Second)
	shoot(t, chromium, "http://"+s.prometheus.Addr+"/consoles/openclaw.html?job=edge&minutes=5&bucket="+userLimit)
}

func (s *stage) wait(t *testing.T, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		if err := s.pass(t.Context(), time.Second); err != nil {
			t.Fatal(err)
		}
	}
}

// shoot draws the page, all of it.
func shoot(t *testing.T, chromium, url string) {
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	ctx, stop := chromedp.NewExecAllocator(context.Background(), options...)
	defer stop()
	ctx, leave := chromedp.NewContext(ctx)
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1180, 1500), chromedp.Navigate(url), chromedp.WaitReady(`body[data-drawn="yes"]`)); err != nil {
		t.Fatal(err)
	}
	raw, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(*picture, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d bytes", *picture, len(raw))
}
