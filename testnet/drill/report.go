package drill

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// result is a fault that has been played.
type result struct {
	fault
	drill
}

// tableHead is that of the table of all faults.
const tableHead = `
| fault | alert, without OpenClaw | node | shows after | promised | fires after | Alertmanager | resolved after |
| --- | --- | --- | ---: | ---: | ---: | --- | ---: |
`

// table writes what was promised and what came of it, and what is wrong below; its error says how
// much that is.
func table(out io.Writer, results []*result) error {
	fmt.Fprint(out, tableHead)
	var wrong []string
	for _, r := range results {
		wrong = append(wrong, r.write(out)...)
	}
	for _, w := range wrong {
		fmt.Fprintf(out, "FAIL %s\n", w)
	}
	if len(wrong) > 0 {
		return fmt.Errorf("drill: %d alerts were not as promised", len(wrong))
	}
	return nil
}

// write writes the result's part of the table, and returns what is wrong.
func (r *result) write(out io.Writer) (wrong []string) {
	for _, l := range r.lines {
		if l.may && l.fired.IsZero() {
			continue
		}
		mark := ""
		if why := r.judge(l); why != "" {
			mark = " **!**"
			wrong = append(wrong, fmt.Sprintf("%s: %s on %s %s", r.fault.name, l.at.alert, l.node, why))
		}
		told := "tells"
		switch {
		case l.by != "":
			told = "silent: " + short(l.by)
		case !l.known:
			told = "not known"
		}
		shows := after(r.began, l.showed)
		if l.may {
			shows = "–" // nobody looked
		}
		fmt.Fprintf(out, "| %s | %s%s | %s | %s | %s | %s | %s | %s |\n", r.fault.name, short(l.at.alert), mark, l.node,
			shows, seconds(l.promise), after(l.showed, l.fired), told, after(r.healed, l.ended))
	}
	for _, k := range r.unexpected() {
		wrong = append(wrong, fmt.Sprintf("%s: %s on %s fires %s after the fault began, and nothing is wrong there", r.fault.name, k.alert, k.node, after(r.began, r.surprises[k])))
	}
	return wrong
}

// judge says what is wrong with a line; "": nothing.
func (r *result) judge(l *line) string {
	switch took := l.fired.Sub(l.showed); {
	case l.fired.IsZero() && l.may:
		return ""
	case l.fired.IsZero():
		return "never fired"
	case l.ended.IsZero():
		return "does not resolve"
	case l.may:
		return ""
	case l.showed.IsZero():
		return "fired, but the node never showed the trouble"
	case took > r.latest(l):
		return fmt.Sprintf("fired %s after the trouble showed: promised are %s, and a fifth more, and two scrapes", seconds(took), seconds(l.promise))
	case !l.early && took < r.soonest(l):
		return fmt.Sprintf("fired %s after the trouble showed, too soon for one of %s", seconds(took), seconds(l.promise))
	case !l.known && l.under == nil:
		return "is not told by Alertmanager"
	case !l.known:
		return "is not silenced in Alertmanager by " + strings.Join(l.under, " or ")
	}
	return ""
}

func (r *result) unexpected() (all []at) {
	for k := range r.surprises {
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b at) int { return strings.Compare(a.alert+a.node, b.alert+b.node) })
	return all
}

func short(alert string) string { return strings.TrimPrefix(alert, "OpenClaw") }

// after is the time from one to another, if both have come.
func after(from, to time.Time) string {
	if from.IsZero() || to.IsZero() {
		return "–"
	}
	return seconds(to.Sub(from))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
