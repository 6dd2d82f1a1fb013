package rig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// Foreign finds a program on somebody else's client and returns the start of its command line; it skips the test where the
// client is missing (see testcluster.Missing). The programs are in compat/clients; its README says what they do.
type Foreign func(testing.TB) []string

// Configured is the command line of a foreign client with settings "name=value", in the client's own names.
func Configured(t testing.TB, argv []string, settings ...string) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "client.properties")
	if err := os.WriteFile(file, []byte(strings.Join(settings, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return append([]string{"env", "QUORLOG_CLIENT_CONFIG=" + file}, argv...)
}

func folder(name string) string { return filepath.Join(testcluster.Root(), "compat", "clients", name) }

// Tool returns the path of a program on PATH.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		testcluster.Missing(t, name, err)
	}
	return path
}

// Go builds a program of the nested module, once per call.
func Go(name string) Foreign {
	return func(t testing.TB) []string {
		bin := filepath.Join(t.TempDir(), name)
		build := exec.Command("go", "build", "-o", bin, "./"+name)
		build.Dir = folder("go")
		if out, err := build.CombinedOutput(); err != nil {
			testcluster.Missing(t, name, fmt.Errorf("%w: %s", err, out))
		}
		return []string{bin}
	}
}

// Node is kafkajs.
func Node(t testing.TB) []string {
	dir := folder("kafkajs")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "kafkajs")); err != nil {
		testcluster.Missing(t, "kafkajs", err)
	}
	return []string{Tool(t, "node"), filepath.Join(dir, "client.js")}
}

// Python runs with the interpreter of QUORLOG_PYTHON, which .ci/run points at a virtual environment.
func Python(script, module string) Foreign {
	return func(t testing.TB) []string {
		python := os.Getenv("QUORLOG_PYTHON")
		if python == "" {
			python = "python3"
		}
		if out, err := exec.Command(python, "-c", "import "+module).CombinedOutput(); err != nil {
			testcluster.Missing(t, module, fmt.Errorf("%w: %s", err, out))
		}
		return []string{python, filepath.Join(folder("python"), script)}
	}
}

// Java runs a class of ours on what Maven has fetched.
func Java(class string, options ...string) Foreign {
	return func(t testing.TB) []string {
		target := filepath.Join(folder("java"), "target")
		jars, err := filepath.Glob(filepath.Join(target, "dependency", "*.jar"))
		if err != nil || len(jars) == 0 {
			testcluster.Missing(t, "the Java client", fmt.Errorf("%s holds no jars: run mvn package dependency:copy-dependencies there", target))
		}
		path := strings.Join(append(jars, filepath.Join(target, "classes")), ":")
		argv := append([]string{Tool(t, "java"), "-Xmx256m", "-XX:TieredStopAtLevel=1"}, options...)
		return append(argv, "-cp", path, "org.quorlog.compat."+class)
	}
}
