package page

// hello is what stays the same.
type hello struct {
	Regions []string     `json:"regions"`
	Nodes   []helloNode  `json:"nodes"`
	Links   []helloLink  `json:"links"`
	Limits  []helloLimit `json:"limits"`
	Stores  string       `json:"stores"`
	Loads   []float64    `json:"loads"`
	Flood   float64      `json:"flood"` // takes a second
}

type helloNode struct {
	Name    string `json:"name"`
	Region  string `json:"region"`
	HTTP    string `json:"http"`
	Metrics string `json:"metrics"`
}

type helloLink struct {
	From string `json:"from"`
	To   string `json:"to"`
}

type helloLimit struct {
	Name     string  `json:"name"`
	Policy   string  `json:"policy"`
	Capacity float64 `json:"capacity"` // tokens
	Rate     float64 `json:"rate"`     // tokens a second
	Backup   bool    `json:"backup"`
}

// state is everything that changes, as of one moment.
type state struct {
	Seq     uint64        `json:"seq"`
	At      float64       `json:"t"`
	Status  line          `json:"status"`
	Why     []line        `json:"why"`
	Regions []regionState `json:"regions"`
	Nodes   []nodeState   `json:"nodes"`
	Links   []linkState   `json:"links"`
	Limits  []limitState  `json:"limits"`
	Buckets []bucketState `json:"buckets"`
	KV      storeState    `json:"kv"`
	Redis   storeState    `json:"redis"`
	Slow    bool          `json:"slow"`
	Flood   bool          `json:"flood"`
	Load    float64       `json:"load"`
	Offered float64       `json:"offered"` // takes a second
}

type regionState struct {
	Name string `json:"name"`
	Mode string `json:"mode"` // of its switch
	Word string `json:"word"`
	Tone string `json:"tone"`
}

type nodeState struct {
	Name      string  `json:"name"`
	Word      string  `json:"word"` // ready, not ready, paused, starting, down
	Reason    string  `json:"reason"`
	Reachable int     `json:"reachable"`
	Members   int     `json:"members"`
	Speed     float64 `json:"speed"`    // of the quorum clock, 0–1
	Snapshot  float64 `json:"snapshot"` // its age in seconds; −1: none yet
}

type linkState struct {
	From  string  `json:"from"`
	To    string  `json:"to"`
	Mode  string  `json:"mode"`  // of its switch
	There bool    `json:"there"` // cut from From to To, whatever for
	Back  bool    `json:"back"`
	Slow  bool    `json:"slow"`
	Delay float64 `json:"delay"` // ms, one way
	Lag   float64 `json:"lag"`   // ms, the worse direction
}

type limitState struct {
	Rates       []*float64 `json:"rates"` // tokens a second, by region
	Admitted    int64      `json:"admitted"`
	Ideal       int64      `json:"ideal"`
	Offered     int64      `json:"offered"`
	Backup      int64      `json:"backup"`
	MinuteTaken int64      `json:"minute_admitted"`
	MinuteIdeal int64      `json:"minute_ideal"`
	Overdraft   float64    `json:"overdraft"` // tokens over the limit, the worst so far
}

type bucketState struct {
	Limit  string     `json:"limit"`
	Key    string     `json:"key"`
	Ideal  float64    `json:"ideal"`  // tokens that one bucket would hold, had it admitted the same
	Levels []*float64 `json:"levels"` // tokens, by node; null: it does not know the bucket, or does not run
}

type storeState struct {
	Fault   string `json:"fault"`
	Word    string `json:"word"`
	Tone    string `json:"tone"`
	Detail  string `json:"detail"`
	Active  bool   `json:"active"`  // snapshots go there now
	Pending int    `json:"pending"` // segments that wait there for KV
}
