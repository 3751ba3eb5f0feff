// eventstream answers a POST that asks for a stream with one of chat completion chunks, for the gateway's benchmark:
// nginx can answer at once, but not 200 times with a pause. GET /sent gives the number of chunks sent so far; other
// requests get a whole completion or a list of models, since some gateways ask for health or models first.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"regexp"
	"sync/atomic"
	"time"
)

const chunk = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"big",` +
	`"choices":[{"index":0,"delta":{"role":"assistant","content":"token "},"finish_reason":%s}]}` + "\n\n"

const whole = `{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"big","choices":[{"index":0,` +
	`"message":{"role":"assistant","content":"token"},"finish_reason":"stop"}],` +
	`"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`

var streams = regexp.MustCompile(`"stream"\s*:\s*true`)

func main() {
	listen := flag.String("listen", "127.0.0.1:18001", "HOST:PORT")
	count := flag.Int("chunks", 200, "chunks in a stream")
	pause := flag.Duration("pause", 5*time.Millisecond, "between two chunks")
	flag.Parse()
	var sent atomic.Int64
	body, last := []byte(fmt.Sprintf(chunk, "null")), []byte(fmt.Sprintf(chunk, `"stop"`)+"data: [DONE]\n\n")

	http.HandleFunc("/sent", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, sent.Load()) })
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"object":"list","data":[{"id":"big","object":"model","created":0,"owned_by":"bench"}]}`)
			return
		}
		request, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if !streams.Match(request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, whole)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		flusher := w.(http.Flusher)
		for n := 1; n <= *count; n++ {
			piece := body
			if n == *count {
				piece = last
			}
			if _, err := w.Write(piece); err != nil {
				return
			}
			flusher.Flush()
			sent.Add(1)
			time.Sleep(*pause)
		}
	})
	log.Fatal(http.ListenAndServe(*listen, nil))
}
