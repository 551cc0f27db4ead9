package netns

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Names of namespaces are ocedge-PID-START-NETWORK-NODE, of directories ocedge-PID-START-NETWORK-files.
// START is the start time of the process in the kernel's ticks: a process id is used again, both
// together are not.
const ours = "ocedge-"

func ownPrefix() string {
	pid := os.Getpid()
	return fmt.Sprintf("%s%d-%s-", ours, pid, startTime(pid))
}

func (n *Network) dir() string { return filepath.Join(os.TempDir(), n.prefix+"files") }

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

// sweep removes what belongs to processes that are gone. There is nobody to tell of what it
// cannot: the next one tries again.
func sweep() {
	for _, name := range append(namespaces(""), directories("")...) {
		owner := strings.SplitN(strings.TrimPrefix(name, ours), "-", 4)
		if len(owner) < 4 {
			continue
		}
		if pid, err := strconv.Atoi(owner[0]); err == nil && startTime(pid) != owner[1] {
			remove(strings.TrimSuffix(name, owner[3]))
		}
	}
}

// namespaces returns the names of this package's that begin with prefix.
func namespaces(prefix string) (names []string) {
	out, err := exec.Command("ip", "netns", "list").Output()
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 0 && strings.HasPrefix(f[0], ours) && strings.HasPrefix(f[0], prefix) {
			names = append(names, f[0])
		}
	}
	return names
}

// directories returns the names of this package's that begin with prefix.
func directories(prefix string) (names []string) {
	all, err := os.ReadDir(os.TempDir())
	if err != nil {
		return nil
	}
	for _, e := range all {
		if strings.HasPrefix(e.Name(), ours) && strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	return names
}

// remove ends the processes in all namespaces whose names begin with prefix, and removes the
// namespaces with their links, and the directories.
func remove(prefix string) error {
	var errs []error
	for _, name := range namespaces(prefix) {
		for range endTries {
			pids := inside(name)
			if len(pids) == 0 {
				break
			}
			kill(pids)
			time.Sleep(endPause)
		}
		if err := run("ip", "netns", "delete", name); err != nil {
			errs = append(errs, fmt.Errorf("netns: %w", err))
		}
	}
	for _, name := range directories(prefix) {
		if err := os.RemoveAll(filepath.Join(os.TempDir(), name)); err != nil {
			errs = append(errs, fmt.Errorf("netns: %w", err))
		}
	}
	return errors.Join(errs...)
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
