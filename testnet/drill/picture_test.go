package drill

import (
	"bytes"
	"context"
	"flag"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

var picture = flag.String("picture", "", "take a picture of the console during a partition, and write it to this file")

// The picture in alerts/README.md: minutes of a healthy cluster, then a partition, until its
// alerts fire.
func TestPictureOfAPartition(t *testing.T) {
	if *picture == "" {
		return // a tool more than a test, and no test of CI may be skipped
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
	s.wait(t, 170*time.Second)
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

// shoot draws the page, all of it, in few colours.
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
	full, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	few := image.NewPaletted(full.Bounds(), mostUsed(full, 64))
	draw.Draw(few, few.Bounds(), full, full.Bounds().Min, draw.Src)
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, few); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(*picture, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d bytes", *picture, out.Len())
}

// mostUsed are the n colours that a picture has most of.
func mostUsed(m image.Image, n int) color.Palette {
	count := map[color.Color]int{}
	for y := range m.Bounds().Dy() {
		for x := range m.Bounds().Dx() {
			count[m.At(x, y)]++
		}
	}
	all := slices.SortedFunc(maps.Keys(count), func(a, b color.Color) int { return count[b] - count[a] })
	return all[:min(n, len(all))]
}
