package kubelet

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// zone is the domain of the cluster's names.
const zone = "svc.cluster.local"

// world is the machine that the pods run on: its network, names, Services and volumes.
type world struct {
	t         testing.TB
	manifests *manifests
	image     *image
	network   *testcluster.Network
	namespace string
	outside   []string          // names that clients outside use; they lead to this machine
	claims    map[string]string // of persistent volumes: where they are now
	version   int               // of projected volumes
	started   int               // pods
	hosts     string            // file with all names, for the clients of this machine

	mu struct {
		sync.Mutex
		pods  []*pod // those that run
		names map[string][]string
	}
}

func newWorld(t testing.TB, m *manifests, im *image, namespace string, outside ...string) *world {
	w := &world{
		t: t, manifests: m, image: im, namespace: namespace, outside: outside, claims: map[string]string{},
		network: testcluster.NewNetwork(t, 2*m.set.Spec.Replicas+1), hosts: filepath.Join(t.TempDir(), "hosts"),
	}
	t.Cleanup(func() {
		for _, p := range w.pods() {
			p.kill()
			if t.Failed() {
				t.Logf("%s printed:\n%s", p.name, tail(p.out.String()))
			}
		}
	})
	for _, s := range m.services {
		if s.Spec.ClusterIP != "None" {
			w.serve(s)
		}
	}
	return w
}

func tail(s string) string { return s[max(0, len(s)-8<<10):] }

// host is the machine's address, which stands for those of Services, too.
func (w *world) host() string { return w.network.Host(testcluster.ClientHost) }

func (w *world) pods() []*pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]*pod(nil), w.mu.pods...)
}

// add makes a pod of the set, with the labels that its controller gives, and starts it.
func (w *world) add(ordinal int) *pod {
	w.t.Helper()
	set := w.manifests.set
	labels := map[string]string{"apps.kubernetes.io/pod-index": strconv.Itoa(ordinal)}
	for k, v := range set.Spec.Template.Metadata.Labels {
		labels[k] = v
	}
	return w.launch(fmt.Sprintf("%s-%d", set.Metadata.Name, ordinal), labels, set.Spec.Template.Spec)
}

// launch starts a pod at an address that none of the pods before it had, as long as there are some.
func (w *world) launch(name string, labels map[string]string, spec podSpec) *pod {
	w.t.Helper()
	space := w.started%(2*w.manifests.set.Spec.Replicas+1) + 1
	w.started++
	p := &pod{world: w, name: name, labels: labels, spec: spec, space: space, ip: w.network.Host(space), exited: make(chan struct{})}
	p.root = filepath.Join(w.t.TempDir(), fmt.Sprint(name, "-", w.started))
	if err := p.prepare(); err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.mu.pods = append(w.mu.pods, p)
	w.mu.Unlock()
	w.tellNames()
	if err := p.run(); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// remove forgets a pod that has ended.
func (w *world) remove(gone *pod) {
	w.mu.Lock()
	w.mu.pods = without(w.mu.pods, gone)
	w.mu.Unlock()
	w.tellNames()
}

func without(pods []*pod, gone *pod) (out []*pod) {
	for _, p := range pods {
		if p != gone {
			out = append(out, p)
		}
	}
	return out
}

// tellNames writes the names of all Services and pods into the hosts files of all pods and of the machine's clients, as DNS would
// tell them.
func (w *world) tellNames() {
	w.t.Helper()
	names := map[string][]string{"localhost": {"127.0.0.1"}}
	add := func(name, ip string) { names[name] = append(names[name], ip) }
	for _, s := range w.manifests.services {
		full := fmt.Sprintf("%s.%s.%s", s.Metadata.Name, w.namespace, zone)
		if s.Spec.ClusterIP != "None" {
			add(full, w.host())
			continue
		}
		for _, p := range w.pods() {
			// Before it runs a pod is not ready, and who is not ready has no name unless the Service says so.
			if matches(s.Spec.Selector, p.labels) && s.Spec.PublishNotReadyAddresses {
				add(full, p.ip)
				add(p.name+"."+full, p.ip)
			}
		}
	}
	for _, name := range w.outside {
		add(name, w.host())
	}
	var text strings.Builder
	for name, ips := range names {
		for _, ip := range ips {
			fmt.Fprintln(&text, ip, name)
		}
	}
	w.mu.Lock()
	w.mu.names = names
	w.mu.Unlock()
	files := []string{w.hosts}
	for _, p := range w.pods() {
		files = append(files, filepath.Join(p.root, "etc", "hosts"))
	}
	for _, file := range files {
		// Whoever reads it meanwhile must see the old names or the new ones.
		if err := errors.Join(os.WriteFile(file+"~", []byte(text.String()), 0o644), os.Rename(file+"~", file)); err != nil {
			w.t.Fatal(err)
		}
	}
}

// resolve is the address of host:port, for clients in the test itself.
func (w *world) resolve(hostPort string) (string, error) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return "", err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	ips := w.mu.names[host]
	if len(ips) == 0 {
		return "", fmt.Errorf("%w: no such name: %s", errKubelet, host)
	}
	return net.JoinHostPort(ips[rand.IntN(len(ips))], port), nil
}

func matches(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return len(selector) > 0
}

// serve opens a Service's ports on the machine and hands each connection to one of the pods behind it.
func (w *world) serve(s service) {
	w.t.Helper()
	for _, port := range s.Spec.Ports {
		number := port.Port
		if s.Spec.Type == "NodePort" {
			number = port.NodePort
		}
		l, err := net.Listen("tcp", net.JoinHostPort(w.host(), strconv.Itoa(number)))
		if err != nil {
			w.t.Fatal(err)
		}
		var conns sync.WaitGroup
		conns.Go(func() {
			for {
				from, err := l.Accept()
				if err != nil {
					return
				}
				conns.Go(func() { w.forward(from, s, port) })
			}
		})
		w.t.Cleanup(func() {
			_ = l.Close() // nothing is lost
			for _, p := range w.pods() {
				p.kill() // which ends what is forwarded to it
			}
			conns.Wait()
		})
	}
}

// forward joins a connection with one to a pod. Without a pod it is closed.
func (w *world) forward(from net.Conn, s service, port servicePort) {
	defer from.Close()
	var behind []*pod
	for _, p := range w.pods() {
		if matches(s.Spec.Selector, p.labels) && (s.Spec.PublishNotReadyAddresses || p.ready()) {
			behind = append(behind, p)
		}
	}
	if len(behind) == 0 {
		return
	}
	p := behind[rand.IntN(len(behind))]
	number, err := p.container().port(port.TargetPort)
	if err != nil {
		w.t.Error(err)
		return
	}
	to, err := net.Dial("tcp", net.JoinHostPort(p.ip, strconv.Itoa(number)))
	if err != nil {
		return
	}
	defer to.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(to, from) // a broken connection is what it is
		_ = to.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(from, to)
	_ = from.Close()
	<-done
}
