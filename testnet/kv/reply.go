package kv

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// reply is an answer, ready to be written.
type reply struct {
	status      int
	contentType string // "": JSON
	retryAfter  string
	body        []byte
}

// envelope is what every answer but a single value comes in.
type envelope struct {
	Result     any         `json:"result"`
	Success    bool        `json:"success"`
	Errors     []message   `json:"errors"`
	Messages   []message   `json:"messages"`
	ResultInfo *resultInfo `json:"result_info,omitempty"`
}

type message struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

type resultInfo struct {
	Count  int    `json:"count"`
	Cursor string `json:"cursor"`
}

func success(result any, info *resultInfo) reply {
	return enveloped(http.StatusOK, envelope{Result: result, Success: true, Errors: []message{}, Messages: []message{}, ResultInfo: info})
}

func failure(status, code int, text string) reply {
	return enveloped(status, envelope{Errors: []message{{Code: code, Message: text}}, Messages: []message{}})
}

func enveloped(status int, e envelope) reply {
	body, err := json.Marshal(e)
	if err != nil {
		panic(err) // of our own types, and metadata that was checked on its way in
	}
	return reply{status: status, body: body}
}

// page is what a proxy in front of the API says.
func page(status int) reply {
	html := fmt.Sprintf("<!DOCTYPE html>\n<html><head><title>%[1]d: %[2]s</title></head><body><h1>%[2]s</h1></body></html>\n", status, http.StatusText(status))
	return reply{status: status, contentType: "text/html; charset=UTF-8", body: []byte(html)}
}

func (out reply) write(w http.ResponseWriter) {
	if out.contentType == "" {
		out.contentType = "application/json"
	}
	w.Header().Set("Content-Type", out.contentType)
	if out.retryAfter != "" {
		w.Header().Set("Retry-After", out.retryAfter)
	}
	w.WriteHeader(out.status)
	w.Write(out.body)
}
