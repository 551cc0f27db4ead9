package persist

type target struct{}
type segment struct{}

func newHybrid(cfg Config) *Hybrid { return &Hybrid{cfg: cfg} }
