//go:build race

package persist

const freePageRounds = 200 // each takes five times as long
