package controller

import "sync"

// watchers calls back whoever wants to know about new images.
type watchers struct {
	machine *Machine
	added   chan struct{} // wakes the loop for a new watcher
	stop    chan struct{}
	stopped chan struct{}
	empty   *Image

	mu struct {
		sync.Mutex
		all []*watcher
	}
}

type watcher struct {
	fn   func(old, new *Image)
	seen *Image // only the loop's
	gone bool   // under mu
}

func startWatchers(m *Machine) *watchers {
	w := &watchers{
		machine: m, added: make(chan struct{}, 1), stop: make(chan struct{}), stopped: make(chan struct{}),
		empty: emptyImage(m.local),
	}
	go w.watchLoop()
	return w
}

func (w *watchers) close() {
	close(w.stop)
	<-w.stopped
}

func (w *watchers) watch(fn func(old, new *Image)) (cancel func()) {
	one := &watcher{fn: fn, seen: w.empty}
	w.mu.Lock()
	w.mu.all = append(w.mu.all, one)
	w.mu.Unlock()
	select {
	case w.added <- struct{}{}:
	default:
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		one.gone = true
	}
}

// watchLoop tells each watcher the newest image. It never makes Raft wait: images that come while a watcher is busy are
// told as one step, which is why a watcher compares two images rather than counting calls.
func (w *watchers) watchLoop() {
	defer close(w.stopped)
	for {
		select {
		case <-w.stop:
			return
		case <-w.machine.changed:
		case <-w.added:
		}
		for _, one := range w.present() {
			newest := w.machine.Image()
			if one.seen == newest {
				continue
			}
			old := one.seen
			one.seen = newest
			one.fn(old, newest)
		}
	}
}

func (w *watchers) present() []*watcher {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*watcher
	for _, one := range w.mu.all {
		if !one.gone {
			out = append(out, one)
		}
	}
	w.mu.all = out
	return append([]*watcher(nil), out...)
}
