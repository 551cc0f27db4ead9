// Package kv stands in for Cloudflare's Workers KV: the REST calls that its documentation
// describes, with faults that can be switched on.
//
//	client ──HTTP──▶ /client/v4/accounts/{account}/storage/kv/namespaces/{namespace}/…
//	       ──HTTP──▶ /_/fault, /_/heal, /_/lag, /_/stats, /_/dump          (control, no token)
//	test   ─────────▶ Server.RoundTripper(): the same, in process and in virtual time
//
// The calls: PUT …/bulk, POST …/bulk/get, POST …/bulk/delete (DELETE …/bulk, the older form),
// GET …/keys, and GET, PUT, DELETE …/values/{key}, GET …/metadata/{key}. Counts, sizes and the
// envelope {result, success, errors, messages, result_info} are the documented ones. Error codes
// that no document names (which of 10029, 10030, 10047 means what) are a guess, and clients
// should not tell them apart.
//
// It is eventually consistent where it is told to be: with a Lag a reader sees what was there so
// long ago, a missing key included; writes are ordered by when they were applied and the last one
// wins. That is the worst that the real one may do, all the time; Config.Stale mixes it with
// fresh answers. Dump tells the truth, whatever the lag.
//
// The control calls take and give JSON:
//
//	POST /_/fault {"op":"put","kind":"error","status":429,"code":971,"retry_after":"30","calls":3}
//	POST /_/fault {"kind":"down","for":"60s"}
//	POST /_/heal                         ends all faults
//	POST /_/lag   {"lag":"60s"}
//	GET  /_/stats                        Stats
//	GET  /_/dump                         {key: {"value": base64, "metadata", "expires"}}
//
// Time is the time package's, so that a test in a synctest bubble goes through minutes at once.
package kv
