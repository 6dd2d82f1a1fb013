package agent

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// Who is too many goes by how long they have waited, never while a request is answered; and nobody is counted twice.
func TestWebConns(t *testing.T) {
	conns := &webConns{most: 3}
	enter := func() *webConn {
		c := &webConn{conns: conns}
		if over := conns.enter(c); over != nil {
			t.Fatal("there was room")
		}
		return c
	}
	a, b, c := enter(), enter(), enter()
	a.answering(true)
	d := &webConn{conns: conns}
	if over := conns.enter(d); over != b {
		t.Error("b has waited longest")
	}
	a.answering(false) // from now on it waits, behind c and d
	leave := func(c *webConn) {
		conns.mu.Lock()
		defer conns.mu.Unlock()
		c.leaveLocked()
	}
	leave(c)
	leave(c)
	leave(b)
	e := enter()
	for _, busy := range []*webConn{a, d, e} {
		busy.answering(true)
	}
	if last := (&webConn{conns: conns}); conns.enter(last) != last {
		t.Error("all are being answered: the new one goes")
	}
	b.answering(false) // it is gone
	for _, gone := range []*webConn{a, d, e} {
		leave(gone)
		gone.answering(false)
	}
	if conns.mu.open != 0 || conns.mu.waiting.Len() != 0 {
		t.Errorf("%d open, %d wait", conns.mu.open, conns.mu.waiting.Len())
	}
}

func TestFew(t *testing.T) {
	inside, leave := make(chan struct{}), make(chan struct{})
	h := few(1, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		inside <- struct{}{}
		<-leave
	}))
	ask := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
		return w
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		ask()
	}()
	<-inside
	if w := ask(); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Error(w.Code, w.Header())
	}
	close(leave)
	<-done
	go func() { <-inside }()
	if w := ask(); w.Code != http.StatusOK {
		t.Error(w.Code)
	}
}
