package kubelet

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// pod is a pod that runs, or has run. A pod that comes again under the same name is another one: its address is new, and what it
// left on its volumes is there.
type pod struct {
	world  *world
	name   string
	labels map[string]string
	spec   podSpec
	space  int // its network namespace
	ip     string
	root   string // of its files

	cmd    *exec.Cmd
	exited chan struct{} // closed once the container has ended
	out    output
}

// output keeps what a container prints.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write appends.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// errKubelet: a pod did not do what it was to do.
var errKubelet = errors.New("kubelet")

func (p *pod) container() *containerSpec { return &p.spec.Containers[0] }

// prepare makes the root file system: the image's files, and the volumes on them.
func (p *pod) prepare() error {
	if err := p.world.image.unpack(p.root); err != nil {
		return err
	}
	for _, mount := range p.container().VolumeMounts {
		if err := p.mount(mount); err != nil {
			return fmt.Errorf("volume %s: %w", mount.Name, err)
		}
	}
	return nil
}

// mount puts a volume where it belongs.
func (p *pod) mount(m volumeMount) error {
	target := filepath.Join(p.root, m.MountPath)
	at := slices.IndexFunc(p.spec.Volumes, func(v volume) bool { return v.Name == m.Name })
	switch {
	case at < 0: // a claim: it outlasts the pod
		return p.claim(m.Name, target)
	case p.spec.Volumes[at].ConfigMap != nil:
		return p.project(target, "ConfigMap/"+p.spec.Volumes[at].ConfigMap.Name, 0o644)
	case p.spec.Volumes[at].Secret != nil:
		s := p.spec.Volumes[at].Secret
		return p.project(target, "Secret/"+s.SecretName, fs.FileMode(s.DefaultMode))
	case p.spec.Volumes[at].EmptyDir != nil:
		return errors.Join(os.MkdirAll(target, 0o755), p.group(target))
	}
	return fmt.Errorf("%w: of an unknown kind", errManifest)
}

// claim is a directory of the name's own, which a pod gets by a link: its root can't be left, so the directory lies in it, and
// moves along when the next pod of that name comes.
func (p *pod) claim(name, target string) error {
	if err := os.RemoveAll(target); err != nil { // what the image has there
		return err
	}
	key := p.name + "/" + name
	if before, ok := p.world.claims[key]; ok {
		if err := os.Rename(before, target); err != nil {
			return err
		}
	} else if err := errors.Join(os.MkdirAll(target, 0o755), os.Mkdir(filepath.Join(target, "lost+found"), 0o700)); err != nil {
		return err
	}
	p.world.claims[key] = target
	return p.group(target)
}

// group gives a volume to the pod's group, as fsGroup says.
func (p *pod) group(path string) error {
	return errors.Join(os.Chown(path, 0, p.spec.SecurityContext.FSGroup), os.Chmod(path, 0o770|fs.ModeSetgid))
}

// project writes the keys of a ConfigMap or Secret as files, as the kubelet does it: behind a link that is swapped, so that all of
// them change at once.
func (p *pod) project(target, of string, mode fs.FileMode) error {
	contents, ok := p.world.manifests.files[of]
	if !ok {
		return fmt.Errorf("%w: there is no %s", errManifest, of)
	}
	p.world.version++
	version := fmt.Sprint("..version", p.world.version)
	if err := os.MkdirAll(filepath.Join(target, version), 0o755); err != nil {
		return err
	}
	for key, value := range contents {
		path := filepath.Join(target, version, key)
		err := errors.Join(os.WriteFile(path, value, 0o600), os.Chown(path, 0, p.spec.SecurityContext.FSGroup), os.Chmod(path, mode))
		link := filepath.Join(target, key)
		if _, exists := os.Lstat(link); errors.Is(exists, fs.ErrNotExist) {
			err = errors.Join(err, os.Symlink(filepath.Join("..data", key), link))
		}
		if err != nil {
			return err
		}
	}
	swap := filepath.Join(target, "..data_tmp")
	return errors.Join(os.Symlink(version, swap), os.Rename(swap, filepath.Join(target, "..data")))
}

// update writes a Secret's files anew in a pod that runs.
func (p *pod) update(secret string) error {
	for _, m := range p.container().VolumeMounts {
		for _, v := range p.spec.Volumes {
			if v.Name == m.Name && v.Secret != nil && v.Secret.SecretName == secret {
				return p.project(filepath.Join(p.root, m.MountPath), "Secret/"+secret, fs.FileMode(v.Secret.DefaultMode))
			}
		}
	}
	return fmt.Errorf("%w: %s mounts no %s", errManifest, p.name, secret)
}

var labelPath = regexp.MustCompile(`^metadata\.labels\['(.+)'\]$`)

// field is what the downward API says.
func (p *pod) field(path string) (string, error) {
	if m := labelPath.FindStringSubmatch(path); m != nil {
		return p.labels[m[1]], nil // a label that is missing is an empty value
	}
	switch path {
	case "metadata.name":
		return p.name, nil
	case "status.podIP":
		return p.ip, nil
	case "status.hostIP":
		return p.world.host(), nil
	}
	return "", fmt.Errorf("%w: field %s", errManifest, path)
}

var reference = regexp.MustCompile(`\$\(([A-Za-z_][A-Za-z0-9_]*)\)`)

// environ is the container's environment: the image's, then the manifest's, in whose values $(NAME) stands for what came before.
func (p *pod) environ() ([]string, error) {
	set := map[string]string{}
	for _, pair := range p.world.image.config.Config.Env {
		name, value, _ := strings.Cut(pair, "=")
		set[name] = value
	}
	for _, e := range p.container().Env {
		value := reference.ReplaceAllStringFunc(e.Value, func(ref string) string {
			if known, ok := set[ref[2:len(ref)-1]]; ok {
				return known
			}
			return ref
		})
		if path := e.ValueFrom.FieldRef.FieldPath; path != "" {
			var err error
			if value, err = p.field(path); err != nil {
				return nil, err
			}
		}
		set[e.Name] = value
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(set)) {
		out = append(out, name+"="+set[name])
	}
	return out, nil
}

// start runs a command in the pod: in its namespace, on its files, as its user.
func (p *pod) start(argv []string, out io.Writer) (*exec.Cmd, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	env, err := p.environ()
	if err != nil {
		return cmd, err
	}
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = env, "/", out, out
	as := p.spec.SecurityContext
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot: p.root, Credential: &syscall.Credential{Uid: as.RunAsUser, Gid: as.RunAsGroup, Groups: []uint32{uint32(as.FSGroup)}},
		Pdeathsig: syscall.SIGKILL,
	}
	return cmd, p.world.network.Start(cmd, p.space)
}

// run starts the container.
func (p *pod) run() (err error) {
	c, image := p.container(), p.world.image.config.Config
	argv := c.Command
	if len(argv) == 0 {
		argv = image.Entrypoint
	}
	args := c.Args
	if len(args) == 0 && len(c.Command) == 0 {
		args = image.Cmd
	}
	if p.cmd, err = p.start(slices.Concat(argv, args), &p.out); err != nil {
		close(p.exited)
		return err
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // its state is looked at
	}()
	return nil
}

// exec runs a command in the container until it ends, as a hook of type exec does.
func (p *pod) exec(argv ...string) (string, error) {
	var out output
	cmd, err := p.start(argv, &out)
	if err == nil {
		err = cmd.Wait()
	}
	return out.String(), err
}

// gone tells whether the container has ended.
func (p *pod) gone() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// check makes one HTTP probe. As the kubelet, it believes any certificate, shows none, and would speak HTTP/2.
func (p *pod) check(pr *probe) error {
	port, err := p.container().port(pr.HTTPGet.Port)
	if err != nil {
		return err
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true, ForceAttemptHTTP2: true}
	client := &http.Client{Transport: transport, Timeout: time.Duration(pr.TimeoutSeconds) * time.Second}
	url := strings.ToLower(cmp.Or(pr.HTTPGet.Scheme, "HTTP")) + "://" + net.JoinHostPort(p.ip, strconv.Itoa(port)) + pr.HTTPGet.Path
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode < 200 || resp.StatusCode >= 400 {
		return fmt.Errorf("%w: %s: %s: %s", errKubelet, url, resp.Status, body)
	}
	return nil
}

// ready tells whether the pod is, by its probe.
func (p *pod) ready() bool { return !p.gone() && p.check(p.container().Readiness) == nil }

// awaitReady waits as the kubelet and the controller of the set do: for the startup probe, as often as it may fail, then for the
// readiness probe. A pod that is ready must be alive.
func (p *pod) awaitReady(ctx context.Context, t testing.TB) {
	t.Helper()
	c := p.container()
	started := time.Now()
	limit := time.Duration(c.Startup.PeriodSeconds*c.Startup.FailureThreshold) * time.Second
	for pr := c.Startup; ; {
		err := p.check(pr)
		switch {
		case p.gone():
			t.Fatalf("%s ended: %v\n%s", p.name, p.cmd.ProcessState, p.out.String())
		case err == nil && pr == c.Readiness:
			if err := p.check(c.Liveness); err != nil {
				t.Errorf("%s is ready, but not alive: %v", p.name, err)
			}
			return
		case err == nil:
			pr = c.Readiness
			continue
		case time.Since(started) > limit || ctx.Err() != nil:
			t.Fatalf("%s: %v\n%s", p.name, err, p.out.String())
		}
		pause(probePause)
	}
}

// probePause lies between probes here; the manifest's periods are for real time.
const probePause = 100 * time.Millisecond

func pause(d time.Duration) { <-time.After(d) }

// stop ends the pod as the kubelet does: the hook, then SIGTERM, all within the grace period; after that comes SIGKILL, which here
// is a failure. It returns what the hook has printed.
func (p *pod) stop(t testing.TB) (hook string) {
	t.Helper()
	grace := time.After(time.Duration(p.spec.TerminationGracePeriodSeconds) * time.Second)
	hook, err := p.hook()
	if err != nil {
		t.Errorf("%s: the hook before the stop: %v: %s", p.name, err, hook)
	}
	p.terminate(t, grace)
	return hook
}

// hook runs what the manifest has before a stop, if anything.
func (p *pod) hook() (out string, err error) {
	if argv := p.container().Lifecycle.PreStop.Exec.Command; len(argv) > 0 {
		return p.exec(argv...)
	}
	return "", nil
}

// terminate sends SIGTERM, and waits for the end until the grace is over.
func (p *pod) terminate(t testing.TB, grace <-chan time.Time) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("%s: %v", p.name, err)
	}
	select {
	case <-p.exited:
	case <-grace:
		p.kill()
		t.Errorf("%s did not stop within %d s", p.name, p.spec.TerminationGracePeriodSeconds)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("%s ended with %d\n%s", p.name, code, p.out.String())
	}
}

func (p *pod) kill() {
	if p.cmd == nil {
		return
	}
	if p.cmd.Process != nil {
		_ = p.cmd.Process.Kill() // it may have ended
	}
	<-p.exited
}
