package client_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/openclaw/edge/node/client"
)

// A server whose uploads are limited by user: two, and one more an hour, wherever the user's
// requests arrive.
func ExampleClient_Middleware() {
	addr, stop := startNode()
	defer stop()

	limiter, err := client.New(client.Config{
		Addr:      addr, // http://127.0.0.1:8080
		Limit:     "uploads",
		Key:       func(r *http.Request) string { return r.Header.Get("X-User-ID") },
		OnFailure: client.FailOpen,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer limiter.Close()
	upload := func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "stored") }
	server := httptest.NewServer(limiter.Middleware(http.HandlerFunc(upload)))
	defer server.Close()

	for range 3 {
		r, _ := http.NewRequest("POST", server.URL, nil)
		r.Header.Set("X-User-ID", "alice")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
		fmt.Println(resp.Status, resp.Header.Get("RateLimit-Policy"), resp.Header.Get("Content-Type"))
	}
	// Output:
	// 200 OK "uploads";q=2;w=7200 text/plain; charset=utf-8
	// 200 OK "uploads";q=2;w=7200 text/plain; charset=utf-8
	// 429 Too Many Requests "uploads";q=2;w=7200 application/problem+json
}

// One call, for what is no HTTP request: a job of a queue, say.
func ExampleClient_Take() {
	addr, stop := startNode()
	defer stop()

	limiter, err := client.New(client.Config{Addr: addr, OnFailure: client.FailClosed})
	if err != nil {
		log.Fatal(err)
	}
	defer limiter.Close()
	res, err := limiter.Take(context.Background(), "uploads", "bob", 2)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(res.Allowed, res.Remaining)

	_, err = limiter.Take(context.Background(), "upload", "bob", 1)
	fmt.Println(err)
	// Output:
	// true 0
	// client: 404: unknown limit "upload": GET /v1/limits lists those in force
}

// A call of a language model: its tokens are estimated before, and known after. Who is cut short in
// between gets the estimate back after the ttl.
func ExampleClient_Reserve() {
	addr, stop := startNode()
	defer stop()

	limiter, err := client.New(client.Config{Addr: addr, OnFailure: client.FailClosed})
	if err != nil {
		log.Fatal(err)
	}
	defer limiter.Close()
	res, err := limiter.Reserve(context.Background(), "uploads", "carol", 2, 90*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(res.Allowed, res.Remaining)

	for range 2 { // a retry settles once
		done, err := limiter.Settle(context.Background(), res.ID, 1)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(done.Key, done.Reserved, done.Used, done.Applied, done.Again)
	}
	_, err = limiter.Settle(context.Background(), res.ID, 2)
	fmt.Println(err)
	// Output:
	// true 0
	// carol 2 1 true false
	// carol 2 1 true true
	// client: 409: this reservation is settled: 1 tokens were used, and that stays; credit or take the difference, if it was wrong
}
