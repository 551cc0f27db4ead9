package main

import "slices"

// finding is what the answers of one round come to, by index of the target.
type finding struct {
	groups   [][]int          // of those that answered; the largest first
	disagree [subjects][]bool // with most of those that answered
}

// subject is what nodes should agree on.
type subject int

const (
	onMembers subject = iota
	onLimits
	subjects
)

func (s subject) String() string { return [...]string{"members", "limits"}[s] }

// judge is a pure function.
func judge(answers []answer) (f finding) {
	var there []int
	for i := range answers {
		if answers[i].err == nil {
			there = append(there, i)
		}
	}
	f.groups = groups(answers, there)
	f.disagree[onMembers] = odd(answers, there, func(a *answer) string { return a.members })
	f.disagree[onLimits] = odd(answers, there, func(a *answer) string { return a.limits })
	return f
}

// groups are those that hang together by links of which both ends speak. One end alone is not
// believed: in a one-way cut the deaf side would else be counted with those that it hears not.
func groups(answers []answer, there []int) (all [][]int) {
	in := make(map[int]bool, len(there))
	for _, first := range there {
		if in[first] {
			continue
		}
		in[first] = true
		group := []int{first}
		for k := 0; k < len(group); k++ {
			a := &answers[group[k]]
			for _, j := range there {
				if b := &answers[j]; !in[j] && a.alive[b.node] && b.alive[a.node] {
					in[j] = true
					group = append(group, j)
				}
			}
		}
		slices.Sort(group)
		all = append(all, group)
	}
	slices.SortStableFunc(all, func(a, b []int) int { return len(b) - len(a) })
	return all
}

// odd marks those that say something else than most. Where no saying has more voices than
// every other, nobody is right, and all are marked.
func odd(answers []answer, there []int, said func(*answer) string) []bool {
	voices := map[string]int{}
	for _, i := range there {
		voices[said(&answers[i])]++
	}
	best, times := "", 0
	for saying, n := range voices {
		switch {
		case n > voices[best] || times == 0:
			best, times = saying, 1
		case n == voices[best]:
			times++
		}
	}
	marks := make([]bool, len(answers))
	for _, i := range there {
		marks[i] = times > 1 || said(&answers[i]) != best
	}
	return marks
}
