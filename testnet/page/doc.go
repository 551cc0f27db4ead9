// Package page shows a testnet in a browser, and is where people break it.
//
//	browser ◀── SSE: hello, points, log, state ─── stream ◀── publish ┐
//	        ──▶ POST /do: one command ──▶ orders ───────────────────▶ hub ──▶ World: Run 100 ms, State, Look
//	                                                                   ├ faults   switches → Cut, Heal, Link
//	                                                                   ├ watch    what changed → event log
//	                                                                   └ why      what is seen → words
//
// One goroutine, the hub's, owns the World and everything that is known about it. It hands out
// frames that nobody changes any more; a browser that is slow gets the newest one and what it
// has missed of the history, never a queue.
//
// Why not WebSockets, a framework or a build step: all goes one way but for a rare switch, and
// a page that a reader can open in an editor is part of the explanation. The charts are uPlot's
// (assets/vendor, with its licence); everything else is in assets, and works offline.
//
// The page can crash nodes, so it answers on loopback names only and to its own origin only: a
// web page from elsewhere, or a name that is made to point here, reaches nothing.
package page
