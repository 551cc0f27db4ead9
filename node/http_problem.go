package node

import (
	"encoding/json"
	"errors"
	"net/http"
)

// problemBody is RFC 9457. The detail says what to do.
type problemBody struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

const reducedCapacity = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"

var problemType = []string{"application/problem+json"}

func problem(w http.ResponseWriter, status int, detail string) int {
	kind := "about:blank" // the status says it all
	if status == http.StatusServiceUnavailable {
		kind = reducedCapacity
	}
	b, err := json.Marshal(problemBody{kind, http.StatusText(status), status, detail})
	if err != nil {
		panic(err) // four strings
	}
	h := w.Header()
	h["Content-Type"] = problemType
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(append(b, '\n'))
	return status
}

// refuse answers an error of the node, or of reading the request. Nothing was taken.
func (s *server) refuse(w http.ResponseWriter, err error) int {
	var refusal *Refusal
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &refusal):
		return problem(w, refusal.Status, err.Error())
	case errors.Is(err, ErrUnknownLimit):
		return problem(w, http.StatusNotFound, err.Error())
	case errors.As(err, &large):
		return problem(w, http.StatusRequestEntityTooLarge, "the body is over 1 MiB; send fewer takes at once")
	}
	s.log.Error("http: request failed", "err", err)
	return problem(w, http.StatusInternalServerError, "a fault of this node, not of the request; its log says more")
}

func badRequest(detail string) error { return &Refusal{http.StatusBadRequest, detail} }
