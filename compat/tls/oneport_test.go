package tls

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/quorlog/quorlog/compat/rig"
	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// portTopic has a partition that the node leads whose ports are used.
const portTopic = "all"

// door is a listener of one node, as a client that comes in by it sees the node.
type door struct {
	addr      string
	tls       *tls.Config // nil: plain text
	settings  []string    // kcat's
	partition int32       // that the node leads
}

// visitor is a client of one protocol: it writes a value, and reads all that the partition holds.
type visitor struct {
	name  string
	write func(ctx context.Context, value string) error
	read  func(ctx context.Context) ([]string, error)
}

// visit writes a value, and checks that what this visitor has written before comes back with it, each once and in order.
func (v *visitor) visit(ctx context.Context, round int) error {
	value := func(round int) string { return v.name + " " + strconv.Itoa(round) }
	if err := v.write(ctx, value(round)); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	for {
		all, err := v.read(ctx)
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		own := slices.DeleteFunc(slices.Clone(all), func(s string) bool { return !strings.HasPrefix(s, v.name+" ") })
		for i, s := range own {
			if s != value(i) || i > round {
				return fmt.Errorf("its value %d is %q", i, s)
			}
		}
		if len(own) == round+1 {
			return nil
		}
		if rig.Idle(10*time.Millisecond, ctx.Done()) { // who follows may be a little behind
			return fmt.Errorf("%d of its %d values are there: %q", len(own), round+1, all)
		}
	}
}

// TestOnePort: one port of one node serves kcat, curl, clients of gRPC and HTTP, and the other nodes, all at the same time; in plain text and by
// TLS. Of two listeners the nodes use the first with each other.
func TestOnePort(t *testing.T) {
	kcat, curl := rig.Tool(t, "kcat"), rig.Tool(t, "curl")
	certs := issue(t)
	for _, first := range []string{"plain", "TLS"} {
		t.Run("nodes by "+first, func(t *testing.T) {
			plain, secure := map[int]string{}, map[int]string{}
			for id := 1; id <= 3; id++ {
				plain[id], secure[id] = testcluster.FreeAddr(t), testcluster.FreeAddr(t)
			}
			// What goes by way of the first node does so for as long as that leads: none is to take over from a node that is slow.
			stay := []string{"--set", "quorlog.election.timeout.ms=10000"}
			testcluster.StartCluster(t, testcluster.ClusterOptions{Args: stay, NodeArgs: func(id int) []string {
				listeners := []string{"PLAIN://" + plain[id], "SSL://" + secure[id] + "?tls=true"}
				if first == "TLS" {
					slices.Reverse(listeners)
				}
				return certs.node(id, "--listeners", strings.Join(listeners, ","))
			}})
			adm := kadm.NewClient(client(t, plain[1]))
			partition := ledBy(t, adm, 1)
			open := door{plain[1], nil, nil, partition}
			closed := door{secure[1], certs.config(""), librdkafka(certs, false), partition}
			var visitors []*visitor
			for name, d := range map[string]door{"plain": open, "TLS": closed} {
				visitors = append(visitors, d.byKcat(kcat, name), d.byCurl(curl, certs, name), d.byGRPC(t, name), d.byHTTP(t, name))
			}
			// What comes in at the second node goes on to the first, and what the third has, it has from there.
			second, third := door{plain[2], nil, nil, partition}, door{plain[3], nil, nil, partition}
			peers := &visitor{"nodes", second.byGRPC(t, "").write, third.byGRPC(t, "").read}
			together(t, append(visitors, peers), rig.Count(5, 10, 100))
		})
	}
}

// together has all visitors come at the same time, in rounds.
func together(t *testing.T, visitors []*visitor, rounds int) {
	t.Helper()
	for round := range rounds {
		ctx := limited(t)
		var visits sync.WaitGroup
		for _, v := range visitors {
			visits.Go(func() {
				if err := v.visit(ctx, round); err != nil {
					t.Errorf("%s, round %d: %v", v.name, round, err)
				}
			})
		}
		visits.Wait()
		if t.Failed() {
			return
		}
	}
	t.Logf("%d clients at the same time, %d times", len(visitors), rounds)
}

// ledBy makes the topic, with a replica on each node, and finds a partition that a node leads.
func ledBy(t *testing.T, adm *kadm.Client, node int32) (partition int32) {
	t.Helper()
	if _, err := adm.CreateTopic(limited(t), 6, 3, nil, portTopic); err != nil {
		t.Fatal(err)
	}
	await(t, fmt.Sprintf("a partition that node %d leads, with all replicas in sync", node), func() bool {
		topics, err := adm.ListTopics(limited(t), portTopic)
		if err != nil {
			return false
		}
		for _, p := range topics[portTopic].Partitions {
			if p.Leader == node && len(p.ISR) == 3 {
				partition = p.Partition
				return true
			}
		}
		return false
	})
	return partition
}

func (d door) byKcat(kcat, name string) *visitor {
	argv := []string{"-b", d.addr, "-t", portTopic, "-p", strconv.Itoa(int(d.partition))}
	for _, s := range d.settings {
		argv = append(argv, "-X", s)
	}
	run := func(ctx context.Context, stdin string, more ...string) (string, error) {
		cmd := exec.CommandContext(ctx, kcat, append(slices.Clone(argv), more...)...)
		var out, errs bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("kcat: %w: %s", err, errs.String())
		}
		return out.String(), nil
	}
	return &visitor{
		name: "kcat, " + name,
		write: func(ctx context.Context, value string) error {
			_, err := run(ctx, value+"\n", "-P")
			return err
		},
		read: func(ctx context.Context) ([]string, error) {
			out, err := run(ctx, "", "-C", "-o", "beginning", "-e", "-q")
			return strings.Split(strings.TrimSuffix(out, "\n"), "\n"), err
		},
	}
}

func (d door) byGRPC(t *testing.T, name string) *visitor {
	t.Helper()
	creds := insecure.NewCredentials()
	if d.tls != nil {
		creds = credentials.NewTLS(d.tls)
	}
	cc, err := grpc.NewClient("passthrough:///"+d.addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	records := quorlogv1.NewRecordsClient(cc)
	return &visitor{
		name: "gRPC, " + name,
		write: func(ctx context.Context, value string) error {
			_, err := records.Produce(ctx, &quorlogv1.ProduceRequest{Topic: portTopic, Partition: &d.partition, Records: []*quorlogv1.Record{{Value: []byte(value)}}})
			return err
		},
		read: func(ctx context.Context) (values []string, err error) {
			got, err := records.Consume(ctx, &quorlogv1.ConsumeRequest{Topic: portTopic, Partition: d.partition})
			for _, r := range got.GetRecords() {
				values = append(values, string(r.Value))
			}
			return values, err
		},
	}
}

func (d door) byCurl(curl string, certs certificates, name string) *visitor {
	argv := []string{"--silent", "--show-error", "--fail-with-body"}
	if d.tls != nil {
		argv = append(argv, "--cacert", certs.file("ca.crt"))
	}
	return d.byREST("curl, "+name, func(ctx context.Context, method, url string, sent []byte) ([]byte, error) {
		own := append(slices.Clone(argv), "--request", method, url)
		if sent != nil {
			own = append(own, "--data-binary", "@-")
		}
		cmd := exec.CommandContext(ctx, curl, own...)
		var errs bytes.Buffer
		cmd.Stdin, cmd.Stderr = bytes.NewReader(sent), &errs
		text, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("curl: %w: %s%s", err, errs.String(), text)
		}
		return text, nil
	})
}

func (d door) byHTTP(t *testing.T, name string) *visitor {
	t.Helper()
	transport := &http.Transport{}
	if d.tls != nil {
		transport.TLSClientConfig = d.tls.Clone()
	}
	t.Cleanup(transport.CloseIdleConnections)
	return d.byREST("HTTP, "+name, func(ctx context.Context, method, url string, sent []byte) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(sent))
		if err != nil {
			return nil, err
		}
		resp, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s: %s", resp.Status, text)
		}
		return text, nil
	})
}

// byREST is a visitor that sends requests by HTTP in some way, and has their answers from it, or an error if they are not 200.
func (d door) byREST(name string, send func(ctx context.Context, method, url string, sent []byte) ([]byte, error)) *visitor {
	scheme := "http"
	if d.tls != nil {
		scheme = "https"
	}
	topic := scheme + "://" + d.addr + "/v1/topics/" + portTopic
	type record struct {
		Value []byte `json:"value"`
	}
	return &visitor{
		name: name,
		write: func(ctx context.Context, value string) error {
			sent, err := json.Marshal(map[string]any{"partition": d.partition, "records": []record{{[]byte(value)}}})
			if err != nil {
				return err
			}
			text, err := send(ctx, http.MethodPost, topic+"/records", sent)
			if err != nil {
				return err
			}
			return json.Unmarshal(text, &struct{}{})
		},
		read: func(ctx context.Context) (values []string, err error) {
			text, err := send(ctx, http.MethodGet, fmt.Sprintf("%s/partitions/%d/records", topic, d.partition), nil)
			if err != nil {
				return nil, err
			}
			var got struct{ Records []record }
			err = json.Unmarshal(text, &got)
			for _, r := range got.Records {
				values = append(values, string(r.Value))
			}
			return values, err
		},
	}
}
