package test

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// template renders the chart with values given on the command line.
func template(t *testing.T, helm string, args ...string) *objects {
	t.Helper()
	text, err := run(helm, append([]string{"template", release, chart, "--namespace", namespace}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, text)
}

// More nodes, or fewer, are no reason to restart those that run: what the file says of their number counts at the first start only. What
// counts while they run does restart them.
func TestReplicasRestartNobody(t *testing.T) {
	for name, helm := range helms(t) {
		for _, also := range []string{"logFormat=json", "listeners.internal.sasl=true"} {
			three, four := template(t, helm, "--set", also+",replicas=3"), template(t, helm, "--set", also+",replicas=4")
			if !reflect.DeepEqual(three.set.Spec.Template, four.set.Spec.Template) {
				t.Errorf("%s, %s: the pods of 3 and of 4 replicas differ:\n%v\n%v", name, also, three.set.Spec.Template, four.set.Spec.Template)
			}
			if file := four.configMaps[release].Data["quorlog.yaml"]; !strings.Contains(file, "bootstrap-expect: 4\n") {
				t.Errorf("%s: the fourth node is not told how many begin:\n%s", name, file)
			}
		}
		for _, change := range []string{"logFormat=text", "gossip.port=9999", `config.num\.partitions=6`, "auth.superUsers={User:a}"} {
			if reflect.DeepEqual(template(t, helm).set.Spec.Template, template(t, helm, "--set", change).set.Spec.Template) {
				t.Errorf("%s: %s restarts nobody", name, change)
			}
		}
	}
}

// The way from plain text to TLS between nodes: certificates while the listener is still plain, and the file says how they are used.
func TestPeers(t *testing.T) {
	for name, helm := range helms(t) {
		for peers, want := range map[string]bool{"auto": false, "optional": true, "required": true} {
			o := template(t, helm, "--set", "tls.existingSecret=certs,tls.peers="+peers)
			check(t, o)
			file := o.configMaps[release].Data["quorlog.yaml"]
			if !strings.Contains(file, "tls: false\n") || strings.Contains(file, "tls-peers: "+peers+"\n") != want || strings.Contains(file, "tls-ca: ") != want {
				t.Errorf("%s, %s:\n%s", name, peers, file)
			}
			mounted := slices.ContainsFunc(o.set.Spec.Template.Spec.Containers[0].VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == "tls" })
			if mounted != want || (env(o, "QUORLOG_TLS_CERT") != "") != want {
				t.Errorf("%s, %s: certificates mounted: %t, QUORLOG_TLS_CERT=%q", name, peers, mounted, env(o, "QUORLOG_TLS_CERT"))
			}
		}
	}
}

// Go's collector must know the limit of the container, whatever it is: nine tenths of it, unless somebody says it differently.
func TestGoMemLimit(t *testing.T) {
	const variable = "GOMEMLIMIT"
	for name, helm := range helms(t) {
		for memory, want := range map[string]string{
			"1Gi": "966367641", "2Gi": "1932735283", "16Gi": "15461882265", "1.5Gi": "1449551462", "512Mi": "483183820", "1048576Ki": "966367641",
			"1G": "900000000", "500M": "450000000", "2000000k": "1800000000", "1073741824": "966367641", "null": "",
		} {
			o := template(t, helm, "--set", "resources.limits.memory="+memory)
			if got := env(o, variable); got != want {
				t.Errorf("%s: with a limit of %s, %s=%q, want %q", name, memory, variable, got, want)
			}
		}
		file := filepath.Join(t.TempDir(), "values.yaml")
		if err := os.WriteFile(file, []byte("resources: {limits: {memory: 2147483648}}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := env(template(t, helm, "--values", file), variable); got != "1932735283" {
			t.Errorf("%s: with a number in a file, %q", name, got)
		}
		if got := env(template(t, helm, "--set", "goMemLimit=700MiB"), variable); got != "700MiB" {
			t.Errorf("%s: the user's own: %q", name, got)
		}
		if got := env(template(t, helm, "--set", "resources=null"), variable); got != "" {
			t.Errorf("%s: without resources: %q", name, got)
		}
		if _, err := run(helm, "template", release, chart, "--set", "resources.limits.memory=2GB"); err == nil || !strings.Contains(err.Error(), "goMemLimit") {
			t.Errorf("%s: a limit that is none: %v", name, err)
		}
	}
}

// env is the value of a variable of the container.
func env(o *objects, name string) string {
	for _, e := range o.set.Spec.Template.Spec.Containers[0].Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}
