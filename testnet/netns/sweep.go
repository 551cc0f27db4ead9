package netns

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Names of namespaces are ocedge-PID-START-NETWORK-NODE. START is the start time
// of the process in the kernel's ticks: a process id is used again, both
// together are not.
const namespaces = "ocedge-"

func ownPrefix() string {
	pid := os.Getpid()
	return fmt.Sprintf("%s%d-%s-", namespaces, pid, startTime(pid))
}

// startTime is field 22 of /proc/PID/stat, empty when there is no such process.
func startTime(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// Field 2 is the command in parentheses, which may contain anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return ""
	}
	return fields[19]
}

// sweep removes the namespaces of test processes that are gone.
func sweep() {
	for _, name := range list() {
		owner := strings.SplitN(strings.TrimPrefix(name, namespaces), "-", 3)
		if len(owner) < 3 {
			continue
		}
		if pid, err := strconv.Atoi(owner[0]); err == nil && startTime(pid) != owner[1] {
			remove(name)
		}
	}
}

// list returns the names of all namespaces of this package.
func list() (names []string) {
	out, err := exec.Command("ip", "netns", "list").Output()
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 0 && strings.HasPrefix(f[0], namespaces) {
			names = append(names, f[0])
		}
	}
	return names
}

// remove ends the processes in all namespaces whose names begin with prefix,
// and the namespaces with their links. It does what it can: there is nobody
// to tell, and sweep tries again.
func remove(prefix string) {
	for _, name := range list() {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		for range endTries {
			pids := inside(name)
			if len(pids) == 0 {
				break
			}
			kill(pids)
			time.Sleep(endPause)
		}
		run("ip", "netns", "delete", name)
	}
}

// Killing is asked for, and happens a little later; ports and files are free only then.
const (
	endTries = 100
	endPause = 10 * time.Millisecond
)

// inside returns the processes in a namespace, as ip prints them.
func inside(name string) []string {
	out, _ := exec.Command("ip", "netns", "pids", name).Output()
	return strings.Fields(string(out))
}

func kill(pids []string) {
	for _, field := range pids {
		pid, err := strconv.Atoi(field)
		if err != nil || pid == os.Getpid() {
			continue
		}
		if p, err := os.FindProcess(pid); err == nil {
			p.Kill()
		}
	}
}
