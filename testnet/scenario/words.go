package scenario

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// line is a line of a file, read word by word. The first mistake is kept, and whatever is read
// after it is zero; so those who read look at err once, at the end.
type line struct {
	file  string
	no    int
	words []word
	read  int // words so far
	err   error
}

type word struct {
	text   string
	column int
}

// split cuts a line into words and throws its comment away.
func split(file string, no int, text string) *line {
	l := &line{file: file, no: no}
	text, _, _ = strings.Cut(text, "#")
	for at := 0; at < len(text); {
		if isSpace(text[at]) {
			at++
			continue
		}
		end := at
		for end < len(text) && !isSpace(text[end]) {
			end++
		}
		l.words = append(l.words, word{text[at:end], at + 1})
		at = end
	}
	return l
}

func isSpace(b byte) bool { return b == ' ' || b == '\t' || b == '\r' }

// text is some of the words, one space between two of them.
func (l *line) text(from, to int) string {
	var all []string
	for _, w := range l.words[min(from, len(l.words)):min(to, len(l.words))] {
		all = append(all, w.text)
	}
	return strings.Join(all, " ")
}

func (l *line) fail(w word, format string, args ...any) {
	if l.err == nil {
		l.err = fmt.Errorf("%s:%d:%d: %s", l.file, l.no, w.column, fmt.Sprintf(format, args...))
	}
}

// next is the next word. Where there is none, what says what it should have been.
func (l *line) next(what string) word {
	if l.err == nil && l.read < len(l.words) {
		l.read++
		return l.words[l.read-1]
	}
	behind := word{column: 1}
	if n := len(l.words); n > 0 {
		behind.column = l.words[n-1].column + len(l.words[n-1].text)
	}
	l.fail(behind, "the line ends too soon; write %s", what)
	return behind
}

// more tells whether another word follows.
func (l *line) more() bool { return l.err == nil && l.read < len(l.words) }

// peek is the word that next would return, or "".
func (l *line) peek() string {
	if !l.more() {
		return ""
	}
	return l.words[l.read].text
}

// accept reads the next word if it is this one.
func (l *line) accept(text string) bool {
	if l.peek() != text {
		return false
	}
	l.read++
	return true
}

// must reads a word that has to be there.
func (l *line) must(text string) {
	if w := l.next(strconv.Quote(text)); l.err == nil && w.text != text {
		l.fail(w, "%q; write %q", w.text, text)
	}
}

// choose reads one of several words.
func (l *line) choose(of ...string) string {
	list := strings.Join(of, ", ")
	w := l.next("one of " + list)
	for _, o := range of {
		if w.text == o {
			return o
		}
	}
	l.fail(w, "%q is unknown here; write one of %s", w.text, list)
	return ""
}

// done complains of words that are left over.
func (l *line) done() {
	if l.more() {
		w := l.next("")
		l.fail(w, "%q is one word too many; end the line before it", w.text)
	}
}

// longest is how long anything in a scenario may take.
const longest = 10 * time.Minute

// duration reads one such as 250ms or 1m30s, at most longest.
func (l *line) duration(what string) time.Duration {
	w := l.next(what + ", such as 5s or 250ms")
	return l.parseDuration(w, w.text, what)
}

func (l *line) parseDuration(w word, text, what string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > longest {
		l.fail(w, "%q; write %s, such as 5s or 250ms, at most %v", text, what, longest)
		return 0
	}
	return d
}

// offset reads a duration that may have a sign.
func (l *line) offset(what string) time.Duration {
	w := l.next(what + ", such as 5s or -5s")
	text, behind := strings.CutPrefix(w.text, "-")
	d := l.parseDuration(w, strings.TrimPrefix(text, "+"), what)
	if behind {
		return -d
	}
	return d
}

// count reads a whole number.
func (l *line) count(what string, least, most int64) int64 {
	w := l.next(what)
	n, err := strconv.ParseInt(w.text, 10, 64)
	if err != nil || n < least || n > most {
		l.fail(w, "%q; write %s: a whole number from %d to %d", w.text, what, least, most)
		return 0
	}
	return n
}

// number reads a decimal number, at least 0.
func (l *line) number(what string) float64 {
	w := l.next(what)
	return l.parseNumber(w, w.text, what)
}

func (l *line) parseNumber(w word, text, what string) float64 {
	x, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(x) || x < 0 || x > 1e12 {
		l.fail(w, "%q; write %s", w.text, what)
		return 0
	}
	return x
}

// share reads a part of a whole: 0.1 or 10%.
func (l *line) share(what string) float64 {
	w := l.next(what + ", such as 10%")
	text, percent := strings.CutSuffix(w.text, "%")
	x := l.parseNumber(w, text, what+", such as 10%")
	if percent {
		x /= 100
	}
	if x > 1 {
		l.fail(w, "%q; write %s, at most 100%%", w.text, what)
		return 0
	}
	return x
}

// rate reads how often something is done: 60/s or 60.
func (l *line) rate(what string, most float64) float64 {
	w := l.next(what + ", such as 60/s")
	x := l.parseNumber(w, strings.TrimSuffix(w.text, "/s"), what+", such as 60/s")
	if l.err == nil && (x <= 0 || x > most) {
		l.fail(w, "%q; write %s: more than 0/s, at most %g/s", w.text, what, most)
	}
	return x
}
