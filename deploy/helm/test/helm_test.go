package test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

const (
	chart     = "../quorlog"
	release   = "quorlog"
	namespace = "streams"
)

// helms are the programs to test with: those of QUORLOG_HELM3 and QUORLOG_HELM4, or helm from PATH.
func helms(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, name := range []string{"QUORLOG_HELM3", "QUORLOG_HELM4"} {
		if path := os.Getenv(name); path != "" {
			out[name] = path
		} else if os.Getenv("QUORLOG_REQUIRE_CLIENTS") != "" {
			t.Fatalf("%s is not set", name)
		}
	}
	if len(out) == 0 {
		path, err := exec.LookPath("helm")
		if err != nil {
			t.Skipf("helm is missing: %v", err)
		}
		out["helm"] = path
	}
	return out
}

// kubernetes is the oldest version that the chart is for. A Helm that was built by `go install` believes in a much older one.
const kubernetes = "1.28.0"

func run(helm string, args ...string) (string, error) {
	if args[0] != "version" {
		args = append(args, "--kube-version", kubernetes)
	}
	cmd := exec.Command(helm, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s%s", err, out, errs.String())
	}
	return string(out), err
}

// values are the chart's files of values.
func values(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(chart, "ci", "*-values.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	return files
}

// objects are what a release consists of.
type objects struct {
	set        *appsv1.StatefulSet
	services   []*corev1.Service
	configMaps map[string]*corev1.ConfigMap
	secrets    map[string]*corev1.Secret
	budgets    []*policyv1.PodDisruptionBudget
	policies   []*networkingv1.NetworkPolicy
	accounts   []*corev1.ServiceAccount
	tests      []*corev1.Pod
	monitors   []*serviceMonitor
}

// serviceMonitor is as much of Prometheus Operator's type as the chart uses, so that its module is not needed.
type serviceMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Selector  metav1.LabelSelector `json:"selector"`
		Endpoints []struct {
			Port        string `json:"port"`
			Path        string `json:"path"`
			Interval    string `json:"interval"`
			HonorLabels bool   `json:"honorLabels"`
		} `json:"endpoints"`
	} `json:"spec"`
}

// decode reads what `helm template` prints, strictly.
func decode(t *testing.T, text string) *objects {
	t.Helper()
	o := &objects{configMaps: map[string]*corev1.ConfigMap{}, secrets: map[string]*corev1.Secret{}}
	for doc := range strings.SplitSeq("\n"+text, "\n---\n") {
		var head metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(doc), &head); err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		strictly := func(into any) {
			if err := yaml.UnmarshalStrict([]byte(doc), into); err != nil {
				t.Errorf("%s: %v in\n%s", head.Kind, err, doc)
			}
		}
		switch head.APIVersion + " " + head.Kind {
		case " ": // comments only
		case "apps/v1 StatefulSet":
			o.set = &appsv1.StatefulSet{}
			strictly(o.set)
		case "v1 Service":
			o.services = append(o.services, &corev1.Service{})
			strictly(o.services[len(o.services)-1])
		case "v1 ConfigMap":
			c := &corev1.ConfigMap{}
			strictly(c)
			o.configMaps[c.Name] = c
		case "v1 Secret":
			s := &corev1.Secret{}
			strictly(s)
			o.secrets[s.Name] = s
		case "policy/v1 PodDisruptionBudget":
			o.budgets = append(o.budgets, &policyv1.PodDisruptionBudget{})
			strictly(o.budgets[len(o.budgets)-1])
		case "networking.k8s.io/v1 NetworkPolicy":
			o.policies = append(o.policies, &networkingv1.NetworkPolicy{})
			strictly(o.policies[len(o.policies)-1])
		case "v1 ServiceAccount":
			o.accounts = append(o.accounts, &corev1.ServiceAccount{})
			strictly(o.accounts[len(o.accounts)-1])
		case "v1 Pod":
			o.tests = append(o.tests, &corev1.Pod{})
			strictly(o.tests[len(o.tests)-1])
		case "monitoring.coreos.com/v1 ServiceMonitor":
			o.monitors = append(o.monitors, &serviceMonitor{})
			strictly(o.monitors[len(o.monitors)-1])
		default:
			t.Errorf("unknown object %s %s", head.APIVersion, head.Kind)
		}
	}
	if o.set == nil {
		t.Fatalf("no StatefulSet in\n%s", text)
	}
	return o
}

// Every Helm lints and renders every file of values, and each object is one of Kubernetes' types and fits the others.
func TestChart(t *testing.T) {
	rendered := map[string]string{} // of secure values, in which nothing is random, by Helm
	for name, helm := range helms(t) {
		version, err := run(helm, "version", "--short")
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s is %s", name, strings.TrimSpace(version))
		for _, file := range values(t) {
			t.Run(name+"/"+filepath.Base(file), func(t *testing.T) {
				if _, err := run(helm, "lint", "--strict", chart, "--values", file); err != nil {
					t.Error(err)
				}
				text, err := run(helm, "template", release, chart, "--namespace", namespace, "--values", file)
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(file, "secure") {
					rendered[withoutBlanks(text)] = name
				}
				check(t, decode(t, text))
			})
		}
	}
	if len(rendered) != 1 {
		t.Errorf("the Helms render secure-values.yaml in %d ways: %v", len(rendered), slices.Collect(maps.Values(rendered)))
	}
}

// withoutBlanks leaves out empty lines, in which Helms differ.
func withoutBlanks(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) != "" {
			out.WriteString(line)
		}
	}
	return out.String()
}

// check holds the objects of a release against each other.
func check(t *testing.T, o *objects) {
	t.Helper()
	spec := o.set.Spec.Template.Spec
	restricted(t, spec)
	for _, pod := range o.tests {
		restricted(t, pod.Spec)
	}
	c := spec.Containers[0]
	pods := labels.Set(o.set.Spec.Template.Labels)
	selects(t, "StatefulSet", o.set.Spec.Selector, pods)
	if o.set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement {
		t.Errorf("pods are started %s", o.set.Spec.PodManagementPolicy)
	}
	for _, b := range o.budgets {
		selects(t, "PodDisruptionBudget", b.Spec.Selector, pods)
	}
	for _, p := range o.policies {
		selects(t, "NetworkPolicy", &p.Spec.PodSelector, pods)
	}
	for _, s := range spec.TopologySpreadConstraints {
		selects(t, "spread", s.LabelSelector, pods)
	}
	headless := false
	for _, s := range o.services {
		service(t, s, c, pods)
		if s.Name == o.set.Spec.ServiceName {
			headless = s.Spec.ClusterIP == corev1.ClusterIPNone && s.Spec.PublishNotReadyAddresses
		}
	}
	if !headless {
		t.Errorf("%s is no headless Service that names pods that are not ready", o.set.Spec.ServiceName)
	}
	volumes(t, o, spec)
	settings(t, o, c)
	probes(t, c)
	if drains := c.Lifecycle != nil && c.Lifecycle.PreStop != nil; drains && *o.set.Spec.Replicas == 1 {
		t.Error("a single node is drained before it stops")
	}
	for _, m := range o.monitors {
		found := false
		for _, s := range o.services {
			found = found || matches(t, &m.Spec.Selector, s.Labels)
		}
		if !found {
			t.Error("the ServiceMonitor selects no Service")
		}
	}
}

func matches(t *testing.T, s *metav1.LabelSelector, set labels.Set) bool {
	t.Helper()
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		t.Fatal(err)
	}
	return !selector.Empty() && selector.Matches(set)
}

func selects(t *testing.T, what string, s *metav1.LabelSelector, pods labels.Set) {
	t.Helper()
	if !matches(t, s, pods) {
		t.Errorf("%s: %v does not select %v", what, s, pods)
	}
}

// service checks that a Service leads to a port of the pods.
func service(t *testing.T, s *corev1.Service, c corev1.Container, pods labels.Set) {
	t.Helper()
	for name, value := range s.Spec.Selector {
		if name == appsv1.PodIndexLabel { // the controller of the set adds it
			continue
		}
		if pods[name] != value {
			t.Errorf("Service %s selects %s=%s", s.Name, name, value)
		}
	}
	for _, p := range s.Spec.Ports {
		if !slices.ContainsFunc(c.Ports, func(of corev1.ContainerPort) bool { return of.Name == p.TargetPort.StrVal }) {
			t.Errorf("Service %s leads to %s, which is no port of the pod", s.Name, p.TargetPort.String())
		}
		if s.Spec.Type == corev1.ServiceTypeNodePort && (p.NodePort < 1 || p.NodePort > 65535) {
			t.Errorf("Service %s has node port %d", s.Name, p.NodePort)
		}
	}
}

// volumes checks that each mount has its volume, and each volume what it shows.
func volumes(t *testing.T, o *objects, spec corev1.PodSpec) {
	t.Helper()
	known := map[string]bool{}
	for _, v := range spec.Volumes {
		known[v.Name] = true
		if v.ConfigMap != nil && o.configMaps[v.ConfigMap.Name] == nil {
			t.Errorf("there is no ConfigMap %s", v.ConfigMap.Name)
		}
		if v.Secret != nil && (v.Secret.DefaultMode == nil || *v.Secret.DefaultMode != 0o440) {
			t.Errorf("everybody may read the Secret %s", v.Secret.SecretName)
		}
	}
	for _, claim := range o.set.Spec.VolumeClaimTemplates {
		known[claim.Name] = true
	}
	for _, m := range spec.Containers[0].VolumeMounts {
		if !known[m.Name] {
			t.Errorf("there is no volume %s", m.Name)
		}
		if !m.ReadOnly && m.Name != "data" {
			t.Errorf("%s can be written", m.Name)
		}
		delete(known, m.Name)
	}
	for name := range known {
		t.Errorf("nobody uses the volume %s", name)
	}
}

var imageSetting = regexp.MustCompile(`"(QUORLOG_[A-Z_]+)=`)

// settings checks that no setting of the ConfigMap is one that the image's environment sets, which is stronger than any file: what
// the file says would never hold. Such a setting belongs into the container's environment, which is stronger than the image's.
func settings(t *testing.T, o *objects, c corev1.Container) {
	t.Helper()
	source, err := os.ReadFile(filepath.Join("..", "..", "image", "oci.go"))
	if err != nil {
		t.Fatal(err)
	}
	byImage := imageSetting.FindAllStringSubmatch(string(source), -1)
	if len(byImage) == 0 {
		t.Fatal("the image sets nothing, or says so in another way than this test knows")
	}
	var file map[string]any
	if err := yaml.Unmarshal([]byte(o.configMaps[o.set.Name].Data["quorlog.yaml"]), &file); err != nil || len(file) == 0 {
		t.Fatalf("%v in %v", err, o.configMaps)
	}
	for _, m := range byImage {
		name := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(m[1], "QUORLOG_")), "_", "-")
		if value, there := file[name]; there {
			t.Errorf("%s: %v stands in the ConfigMap, but the image's %s holds", name, value, m[1])
		}
		if !slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == m[1] }) {
			t.Errorf("%s is left to the image", m[1])
		}
	}
}

func probes(t *testing.T, c corev1.Container) {
	t.Helper()
	for name, p := range map[string]*corev1.Probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe} {
		if p == nil || p.HTTPGet == nil || !slices.ContainsFunc(c.Ports, func(of corev1.ContainerPort) bool { return of.Name == p.HTTPGet.Port.StrVal }) {
			t.Errorf("%s probe: %+v", name, p)
		}
	}
}

// restricted holds a pod against the profile of that name (Pod Security Standards), and wants a root that can't be written.
func restricted(t *testing.T, spec corev1.PodSpec) {
	t.Helper()
	p := spec.SecurityContext
	if p == nil || p.RunAsNonRoot == nil || !*p.RunAsNonRoot || p.SeccompProfile == nil || p.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("pod: %+v", p)
	}
	for _, c := range spec.Containers {
		s := c.SecurityContext
		if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem ||
			s.Capabilities == nil || !slices.Contains(s.Capabilities.Drop, "ALL") || len(s.Capabilities.Add) > 0 {
			t.Errorf("container %s: %+v", c.Name, s)
		}
	}
	if spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken {
		t.Error("the pod gets a token that it does not need")
	}
}

// Values that can't be meant are refused, with words that help.
func TestBadValues(t *testing.T) {
	for name, helm := range helms(t) {
		for set, want := range map[string]string{
			"replicas=0":                      "replicas",
			"replicas=three":                  "replicas",
			"replica=3":                       "replica",
			"listeners.internal.port=80":      "port",
			"listeners.internal.tls=true":     "tls.existingSecret",
			"listeners.external.type=Ingress": "type",
			"listeners.external.enabled=true": "tls.existingSecret",
			"tls.clientAuth=maybe":            "clientAuth",
			"tls.peers=always":                "peers",
			"tls.peers=optional":              "tls.existingSecret",
			"tls.peers=optional,tls.existingSecret=x,listeners.internal.tls=true": "must speak it with each other",
			"auth.authorizer=casbin":                               "authorizer",
			"auth.authorizer=acl":                                  "no client can say who it is",
			"auth.admin=a:b":                                       "admin",
			`config.retention\.msec=1`:                             "retention.msec",
			`config.node\.id=1`:                                    "node.id",
			"persistence.whenDeleted=Forget":                       "whenDeleted",
			"listeners.external.enabled=true,tls.existingSecret=x": "advertise must say",
			"listeners.external.enabled=true,tls.existingSecret=x,listeners.external.advertise=b:1":                                       "differ from node to node",
			"listeners.external.enabled=true,tls.existingSecret=x,listeners.external.port=9092,listeners.external.advertise=b{node-id}:1": "ports of their own",
		} {
			if out, err := run(helm, "template", release, chart, "--set", strings.ReplaceAll(set, "{node-id}", `\{node-id\}`)); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %s: %v, want %q\n%.200s", name, set, err, want, out)
			}
		}
	}
}

// An upgrade must not make new secrets: what the chart makes at the first install it looks up afterwards. Without a cluster it finds
// nothing, so that two renderings differ; with secrets of the user's own there is nothing random.
func TestSecrets(t *testing.T) {
	for name, helm := range helms(t) {
		sets := map[string]string{"made": "listeners.internal.sasl=true", "given": "listeners.internal.sasl=true,clusterKey.existingSecret=a,auth.users.existingSecret=b"}
		for kind, set := range sets {
			first, err := run(helm, "template", release, chart, "--set", set)
			if err != nil {
				t.Fatal(err)
			}
			o := decode(t, first)
			if want := map[string]int{"made": 2, "given": 0}[kind]; len(o.secrets) != want {
				t.Errorf("%s, %s: %d secrets", name, kind, len(o.secrets))
			}
			// The volumes outlast the release and SASL's being off, and what is in them knows only the first password. So must these.
			for _, s := range o.secrets {
				if policy := s.Annotations["helm.sh/resource-policy"]; policy != "keep" {
					t.Errorf("%s, %s: the Secret %s goes with the release (%q)", name, kind, s.Name, policy)
				}
			}
			users := o.secrets["quorlog-users"]
			if kind == "made" && string(users.Data["users"]) != "admin:"+string(users.Data["password"])+"\n" {
				t.Errorf("%s: %q", name, users.Data)
			}
		}
	}
}
