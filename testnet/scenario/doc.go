// Package scenario plays stories on a testnet, judges them, and reports.
//
//	text ── Parse ──▶ Scenario ── Play, on a world.World ──▶ Result ── Report ──▶ HTML, JSON, a line of a table
//	                     steps ─────────────▶ cut, crash, …    │ samples, four a second
//	                     expectations ────────────────────────▶ checks, each with what was measured
//
// A scenario is a text file, a thing a line; what follows a # is a comment, and the comment on
// top says what is played, and what is broken if this breaks.
//
//	regions eu us ap               # these three if nothing is said
//	nodes 2                        # in each region: eu-1, eu-2, us-1, …
//	delay eu us 40ms               # one way; pairs that are not named have their own defaults
//	lasts 40s                      # under load; it is followed by quiet, in which all must agree
//	limit burst capacity 100 rate 100/s policy quorum backup 10 1/s
//	load burst 600/s               # takes a second, on one key, by all nodes in turn
//	load fair 60/s keys 20 zipf 1.2 in eu,us from 5s to 30s
//
//	at 5s cut eu from *            # cut us -> ap: this direction only
//	at 7s,9s,11s heal all
//	at 9s expect ready eu no       # just before what else happens at 9s
//	within 4s of cut eu expect refill eu < 20%
//	from 10s to 24s expect mean refill us,ap > 95%
//	expect admitted/ideal burst between 0.95 and 1.05      # over the whole run
//	expect converged within 15s of heal
//	expect laws                    # those of testnet/judge
//
// A place is a region, a node, several of them with commas, or * for all (others). Whatever
// follows "of" is how a step begins; each such step is meant. A word that is not known is an
// error, with line and column and what could stand there; the rest of the words is said by those
// errors, and by the scenarios themselves (testnet/scenarios).
//
// Play is one goroutine, and knows no clock but the World's: in a bubble of testing/synctest
// the same scenario takes virtual time. Samples are kept whole and judged when all is over: so
// what is expected is a pure function of what was seen.
package scenario
