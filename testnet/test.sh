#!/usr/bin/env bash
# Everything that has to hold before a change is merged; some ten minutes on two cores.
# With root nothing is skipped: the tests that cut links need network namespaces. Without it
# those are, and are listed at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
began=$SECONDS

# What the tests need besides Go: ip and nft for the namespaces, Prometheus and Alertmanager for
# the alerts, Redis, a browser for the page, the proxies that are shipped with a configuration, openssl
# for the certificate that the README makes.
install_missing() {
	local packages=()
	command -v ip >/dev/null || packages+=(iproute2)
	command -v nft >/dev/null || packages+=(nftables)
	command -v promtool >/dev/null || packages+=(prometheus)
	command -v curl >/dev/null || packages+=(curl)
	command -v redis-server >/dev/null || packages+=(redis-server)
	command -v redis-sentinel >/dev/null || packages+=(redis-sentinel)
	command -v amtool >/dev/null || packages+=(prometheus-alertmanager)
	command -v chromium >/dev/null || packages+=(chromium fonts-dejavu-core)
	command -v nginx >/dev/null || packages+=(nginx-light)
	command -v haproxy >/dev/null || packages+=(haproxy)
	command -v caddy >/dev/null || packages+=(caddy)
	command -v openssl >/dev/null || packages+=(openssl)
	command -v systemd-analyze >/dev/null || packages+=(systemd)
	((${#packages[@]})) || return 0
	if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
		echo "not installed: ${packages[*]}; some tests will be skipped" >&2
		return 0
	fi
	apt-get update -q >/dev/null
	DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${packages[@]}" >/dev/null
}

step() { printf '== %s (%d s)\n' "$1" $((SECONDS - began)); }

step tools
PATH=$PATH:/usr/sbin:/sbin
install_missing

step gofmt
unformatted=$(gofmt -l .)
[[ -z $unformatted ]] || { printf 'run gofmt -w on:\n%s\n' "$unformatted"; exit 1; }

log=$(mktemp -d)
lanes=()
ended() { # kills what still runs: only after an error or a Ctrl-C is there anything
	for lane in "${lanes[@]}"; do kill -- "-$lane" 2>/dev/null || true; done
	rm -rf "$log"
}
trap ended EXIT
trap 'exit 1' INT TERM
status=0

# run NAME ARGS…: go test, its events into the log; what failed is printed with all it said. The compiler
# collects its garbage late, the tests do not; vet has a step of its own.
TIMEFORMAT='   %R s, %U + %S s of CPU'
run() {
	step "$1"
	local events=$log/${1//[^a-z]/-}.json
	shift
	time GOGC=400 go run gotest.tools/gotestsum@v1.13.0 --format pkgname --hide-summary skipped --jsonfile "$events" \
		-- -count=1 -timeout 14m -vet=off -exec 'env -u GOGC' "$@" || status=1
}

# lane NAME: the function NAME, beside everything else; what it says comes out when it is joined.
lane() {
	set -m # a process group of its own, which can be killed as a whole
	(status=0 && "$1" && exit "$status") >"$log/$1.out" 2>&1 &
	lanes+=($!)
	set +m
}
join() {
	for lane in "${lanes[@]}"; do wait "$lane" || status=1; done
	cat "$log"/*.out
	rm "$log"/*.out
	lanes=()
}

# What only computes comes first, on both cores. Tests that count tokens have nothing at all beside them:
# nodes that wait for a processor admit more than they should. Other tests that go by real time leave
# processors idle: never more of them at once than two cores serve at once, and in the time that they
# leave over, and no other, what else there is to compute.

# With the race detector everything but what it makes last for minutes, as it is some ten times
# slower: of the simulation a few seeds, no scenarios, and none of the tests named here.
many='AMillionBuckets$'
long='LagOfKV|LaggingKV|AMillionBucketsA|AFloodOfKeys|NeverRunAhead|LogsStayBounded|ChaosWithCrashes|NoOrderLoses|EverythingAcknowledged'
long+='|RestartsKeepToTheBudget|ManyNodesRestore|NoRestartMakes|APersonCuts|TheBudgetHolds|AHealthyFile|TenThousandKeys'
exact='ATakeIsSeen|TheLimitIsGlobal|LawfulTraffic|AKeyOnOneNode|RestartUnderLoad'
stores='KV|Redis|Kill|Mistake|AFullDisk|StrangeValues'
idle() { chrt --all-tasks --idle --pid 0 $BASHPID 2>/dev/null || renice -n 19 $BASHPID >/dev/null; }
simulation() (
	(($(df --output=avail /dev/shm 2>/dev/null | tail -1 || echo 0) > 2000000)) && export GOTMPDIR=${TMPDIR:-/tmp} TMPDIR=/dev/shm # some 2,000 nodes start here
	run 'simulation, all seeds and stories' ./testnet/sim
	exit "$status"
)
checks() {
	idle
	step vet
	GOGC=400 go vet ./... || status=1
	[[ ! -f testnet/compare/go.mod ]] || (cd testnet/compare && GOGC=400 go vet ./...) || status=1
	step staticcheck
	go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./... || status=1
	run 'long tests' -run "$long" ./node ./gossip ./persist
}
virtual() {
	idle
	run 'scenarios, sizes, commands' ./testnet/scale ./testnet/scenario ./cmd/openclaw-testnet ./cmd/openclawctl
	run 'testnet in virtual time, with the race detector' -race -run 'Links|Skewed|Refusals' ./testnet/local
	run 'simulation, with the race detector' -race -run 'TestSimulation$' ./testnet/sim -seeds 1
}
inside() {
	run 'testnet in this process' ./testnet/local
	run 'the page in a browser' -run "$long" ./testnet/page
	run 'scenarios of stores' -parallel 3 -run TestRealTime ./testnet/scenario -real kv-outage,redis-outage,both-stores-out
	run 'stores that fail' ./testnet/stores -chaos 5s -phase 300ms
}
outside() {
	run 'testnet of real processes' ./testnet/processes
	run 'snapshots of many buckets' -run "$many" ./node
	run 'alerts and their drill' ./alerts ./testnet/drill
}

step build
export TESTNET_BINARIES=$log/bin # see testnet/process/build.go
mkdir "$TESTNET_BINARIES"
GOGC=400 go build -o "$TESTNET_BINARIES" ./cmd/...
simulation || status=1
lane checks
run 'test, with the race detector' -race -skip "$long|$many" $(go list ./... | grep -vE 'testnet/(process|processes|sim|scale|scenario|stores|local|drill)$|cmd/openclaw(-testnet|ctl)$|alerts$')
join
run 'tests that count tokens in real time' -parallel 3 -run "$exact" ./testnet/process
lane virtual
lane inside
lane outside
run 'real processes' -parallel 3 -skip "$exact|$stores" ./testnet/process
run 'real processes and their stores' -parallel 6 -run "$stores" ./testnet/process
join

# count ACTION: how many tests ended so.
count() { cat "$log"/*.json | grep '"Test":' | grep -c "\"Action\":\"$1\"" || true; }
skipped=$(count skip)
if ((skipped)); then
	cat "$log"/*.json | grep '"Test":' | grep -A 1 '"Action":"output".*SKIP'
	[[ $(id -u) != 0 ]] || status=1 # root can run them all
fi
printf '%s: %d passed, %d failed, %d skipped, %d s\n' \
	"$( ((status)) && echo FAIL || echo PASS)" "$(count pass)" "$(count fail)" "$skipped" $((SECONDS - began))
exit "$status"
