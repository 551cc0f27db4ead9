package persist

var (
	StoreLaws = storeLaws
	BenchPut  = benchPut
)
