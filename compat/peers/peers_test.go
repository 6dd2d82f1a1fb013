package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorlog/quorlog/internal/bench"
	"github.com/quorlog/quorlog/internal/testcluster"
)

var full = flag.Bool("full", false, "run the full comparison (a quarter of an hour)")

// TestCompare starts all three products and measures them: by default just enough to know that the comparison works, with
// -full the figures of docs/PERFORMANCE.md. It asserts nothing about speed.
func TestCompare(t *testing.T) {
	for _, name := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(name); err != nil {
			testcluster.Missing(t, name, err)
		}
	}
	if _, err := fetchKafka(t.Context()); err != nil {
		testcluster.Missing(t, "Kafka", err)
	}
	if _, _, err := buildNATS(t.Context()); err != nil {
		testcluster.Missing(t, "NATS", err)
	}
	t.Setenv("QUORLOG_BINARY", testcluster.Binary(t))
	args := []string{"-dir", t.TempDir()}
	if !*full {
		args = append(args, "-systems", "quorlog,kafka,nats", "-rounds", "1", "-records", "2000", "-warmup", "100", "-latency-seconds", "0", "-json")
	}
	o, err := parseOptions(args)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := compare(t.Context(), o, &out, t.Output()); err != nil {
		t.Fatal(err)
	}
	if *full {
		t.Logf("\n%s", out.String())
		return
	}
	var got []figures
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(o.systems) {
		t.Fatalf("%d measurements of %d systems", len(got), len(o.systems))
	}
	for _, f := range got {
		if f.Rate.Records != 2000 || f.Rate.Bytes != 2000*1024 || f.Rate.MBPerSecond <= 0 || f.Rate.Errors != 0 {
			t.Errorf("%s: %+v", f.System, f.Rate)
		}
	}
	if left, err := os.ReadDir(o.dir); err != nil || len(left) > 0 {
		t.Errorf("%d clusters left their data behind, %v", len(left), err)
	}
}

func TestSummary(t *testing.T) {
	o, err := parseOptions([]string{"-systems", "quorlog,kafka,nats", "-rounds", "3"})
	if err != nil {
		t.Fatal(err)
	}
	var all []figures
	for round, rates := range [][]float64{{100, 50, 20}, {40, 80, 10}, {90, 30, 30}} { // ratios to kafka 2, 0.5, 3; to nats 5, 4, 3
		for i, s := range o.systems {
			f := figures{System: s.name, Round: round + 1, Rate: bench.Result{MBPerSecond: rates[i]}}
			if s.name != "nats" {
				f.Ack = &bench.Result{P50: float64(round), P99: float64(10 * round)}
			}
			all = append(all, f)
		}
	}
	rows := summarize(o, all)
	if rows[0].ratio != 1 || rows[1].ratio != 2 || rows[2].ratio != 4 || rows[0].rate != 90 || rows[1].lowest != 30 {
		t.Errorf("%+v", rows)
	}
	if a := rows[1].ack; a == nil || *a != [2]float64{1, 10} || rows[2].ack != nil || rows[1].endToEnd != nil {
		t.Errorf("latencies of %+v", rows)
	}
	var out bytes.Buffer
	if err := printTable(&out, o, rows); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"medians of 3 rounds", "QUORLOG IS", "2.00 x", "4.00 x", "1.00 / 10.00"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, args := range [][]string{{"-systems", "pulsar"}, {"-rounds", "0"}, {"-records", "-1"}} {
		if _, err := parseOptions(args); err == nil {
			t.Errorf("%v is accepted", args)
		}
	}
}

// TestVersions holds the version that is told against the one that is fetched.
func TestVersions(t *testing.T) {
	pom, err := os.ReadFile(filepath.Join("kafka", "pom.xml"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(pom), "<artifactId>kafka_2.13</artifactId>\n      <version>"+kafkaVersion+"</version>") {
		t.Errorf("kafka/pom.xml does not fetch %s", kafkaVersion)
	}
}
