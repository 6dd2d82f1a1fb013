package tls

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// foreign are clients of other makes, and how each is told to use TLS, with alice's certificate or with none.
var foreign = map[string]struct {
	find     rig.Foreign
	settings func(c certificates, named bool) []string
}{
	"kcat":             {kcat, librdkafka},
	"confluent-python": {rig.Python("confluent.py", "confluent_kafka"), librdkafka},
	"aiokafka": {rig.Python("aio.py", "aiokafka"), func(c certificates, named bool) []string {
		s := []string{"security_protocol=SSL", "ssl_cafile=" + c.file("ca.crt")}
		if named {
			s = append(s, "ssl_certfile="+c.file("alice.crt"), "ssl_keyfile="+c.file("alice.key"))
		}
		return s
	}},
	"kafkajs": {rig.Node, func(c certificates, named bool) []string {
		s := []string{"ssl.ca=" + c.file("ca.crt")}
		if named {
			s = append(s, "ssl.cert="+c.file("alice.crt"), "ssl.key="+c.file("alice.key"))
		}
		return s
	}},
	"java": {rig.Java("Client"), func(c certificates, named bool) []string {
		s := []string{"security.protocol=SSL", "ssl.truststore.type=PEM", "ssl.truststore.location=" + c.file("ca.crt")}
		if named { // Java wants key and certificate in one file
			both := filepath.Join(c.t.TempDir(), "alice.pem")
			if err := os.WriteFile(both, append(read(c.t, c.file("alice.key")), read(c.t, c.file("alice.crt"))...), 0o600); err != nil {
				c.t.Fatal(err)
			}
			s = append(s, "ssl.keystore.type=PEM", "ssl.keystore.location="+both)
		}
		return s
	}},
}

func librdkafka(c certificates, named bool) []string {
	s := []string{"security.protocol=ssl", "ssl.ca.location=" + c.file("ca.crt")}
	if named {
		s = append(s, "ssl.certificate.location="+c.file("alice.crt"), "ssl.key.location="+c.file("alice.key"))
	}
	return s
}

// kcat has a command line of its own; in front of its arguments comes the name of the program.
func kcat(t testing.TB) []string { return []string{rig.Tool(t, "kcat")} }

// commands are how a client is told to send the lines of a file, and to print as many.
func commands(t *testing.T, argv, settings []string, addr, topic, file string, lines int) (produce, consume []string) {
	t.Helper()
	if filepath.Base(argv[0]) != "kcat" {
		argv = rig.Configured(t, argv, settings...)
		return append(slices.Clone(argv), "produce", addr, topic, file), append(slices.Clone(argv), "consume", addr, topic, fmt.Sprint(lines))
	}
	argv = append(slices.Clone(argv), "-b", addr, "-t", topic)
	for _, s := range settings {
		argv = append(argv, "-X", s)
	}
	return append(slices.Clone(argv), "-P", "-l", file), append(argv, "-C", "-e", "-q")
}

// Clients of other makes on two listeners, one that wants no certificate and one that does.
func TestForeignClients(t *testing.T) {
	const lines = 500
	certs := issue(t)
	open, closed := map[int]string{}, map[int]string{}
	for id := 1; id <= 3; id++ {
		open[id], closed[id] = testcluster.FreeAddr(t), testcluster.FreeAddr(t)
	}
	testcluster.StartCluster(t, testcluster.ClusterOptions{NodeArgs: func(id int) []string {
		return certs.node(id, "--listeners", fmt.Sprintf("OPEN://%s?tls=true,CLOSED://%s?tls=true&client-auth=required", open[id], closed[id]))
	}})
	adm := kadm.NewClient(client(t, open[1], kgo.DialTLSConfig(certs.config(""))))
	file := filepath.Join(t.TempDir(), "lines")
	if err := os.WriteFile(file, []byte(strings.Repeat("line\n", lines)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, f := range foreign {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait most of their time
			argv := f.find(t)
			for named, addr := range map[bool]string{false: open[2], true: closed[2]} {
				topic := fmt.Sprintf("%s-%t", name, named)
				if _, err := adm.CreateTopic(limited(t), 3, 3, nil, topic); err != nil {
					t.Fatal(err)
				}
				settings := f.settings(certs, named)
				produce, consume := commands(t, argv, settings, addr, topic, file, lines)
				run(t, produce)
				if n := strings.Count(run(t, consume), "line\n"); n != lines {
					t.Errorf("with a certificate %t: %d lines of %d came back", named, n, lines)
				}
			}
		})
	}
}

// run runs a client to its end and returns what it printed.
func run(t *testing.T, argv []string) string {
	t.Helper()
	cmd := exec.CommandContext(limited(t), argv[0], argv[1:]...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, errs.String())
	}
	return out.String()
}
