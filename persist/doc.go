// Package persist keeps snapshots in stores: Cloudflare KV first, Redis when KV fails, and
// a file beside them. It knows bytes, keys and versions; what they mean is its caller's.
package persist
