package agent

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	callmeta "google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/quorlog/quorlog/broker/auth"
	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
	"github.com/quorlog/quorlog/internal/config"
)

// TestDamagedPolicyStopsTheStart: a policy that can't be read must not be taken for one that allows.
func TestDamagedPolicyStopsTheStart(t *testing.T) {
	dir := t.TempDir()
	model, policy := filepath.Join(dir, "model.conf"), filepath.Join(dir, "policy.csv")
	text := "[request_definition]\nr = sub, obj, act\n[policy_definition]\np = sub, obj, act\n[policy_effect]\ne = some(where (p.eft == allow))\n" +
		"[matchers]\nm = r.sub == p.sub && r.obj == p.obj && r.act == p.act\n"
	for path, text := range map[string]string{model: text, policy: "p, User:alice, topic:orders\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		settings []string
		want     error
		where    string
	}{
		"damaged":  {[]string{"authorizer=casbin", "authorizer.casbin.model=" + model, "authorizer.casbin.policy=" + policy}, auth.ErrCasbin, policy + ":1: "},
		"no files": {[]string{"authorizer=casbin"}, ErrAuthorizer, "authorizer.casbin"},
	} {
		node, err := config.Load(config.Sources{Set: tc.settings, Flags: map[string]string{"data-dir": t.TempDir(), "listen": "127.0.0.1:0"}})
		if err != nil {
			t.Fatal(err)
		}
		a, err := New(Config{Node: node, OnFatal: func(err error) { t.Error(err) }})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Start(t.Context()); !errors.Is(err, tc.want) || !strings.Contains(fmt.Sprint(err), tc.where) {
			t.Errorf("%s: %v", name, err)
		}
		if err := a.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

const casbinPolicy = `p, writers, topic:orders*, write, allow
p, readers, topic:orders*, read, allow
p, User:eve, topic:*, all, deny
g, User:alice, writers
g, User:eve, writers
g, User:bob, readers
`

// TestCasbinDecides: a node with a Casbin policy lets in whom it allows, and nobody else, by each protocol.
func TestCasbinDecides(t *testing.T) {
	a := casbinNode(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	admin := kadm.NewClient(newClient(t, loginAs(a, "admin")...)) // may do everything, without a rule
	if _, err := admin.CreateTopics(ctx, 1, 1, nil, "orders", "bills"); err != nil {
		t.Fatal(err)
	}
	who := []string{"admin", "alice", "eve", "bob", "nobody's friend"}
	may := map[string]bool{"admin orders": true, "admin bills": true, "alice orders": true}
	protocols := writers(t, a)
	for _, user := range who {
		for _, topic := range []string{"orders", "bills"} {
			for protocol, write := range protocols {
				if allowed, err := write(ctx, user, topic); err != nil || allowed != may[user+" "+topic] {
					t.Errorf("%s, by %s to %s: allowed is %v, %v", user, protocol, topic, allowed, err)
				}
			}
		}
		reader := newClient(t, append(loginAs(a, user), kgo.KeepRetryableFetchErrors(),
			kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"orders": {0: kgo.NewOffset().AtStart()}}))...)
		fetched := reader.PollFetches(ctx)
		reader.Close()
		if allowed := user == "admin" || user == "bob"; allowed != (fetched.NumRecords() > 0) || !allowed && !errors.Is(fetched.Err(), kerr.TopicAuthorizationFailed) {
			t.Errorf("%s: %d records, %v", user, fetched.NumRecords(), fetched.Err())
		}
	}
	// What was denied is not there: each protocol has written once for the two who may write to the first topic, and once to the second.
	ends, err := admin.ListEndOffsets(ctx, "orders", "bills")
	if orders, bills := ends["orders"][0].Offset, ends["bills"][0].Offset; err != nil || orders != int64(2*len(protocols)) || bills != int64(len(protocols)) {
		t.Errorf("%d orders, %d bills, %v", orders, bills, err)
	}
	// The files are the only rules.
	rule := kadm.NewACLs().Allow("User:bob").AllowHosts("*").Topics("bills").ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpWrite)
	if made, err := admin.CreateACLs(ctx, rule); err != nil || len(made) != 1 || !errors.Is(made[0].Err, kerr.SecurityDisabled) {
		t.Errorf("%+v, %v", made, err)
	}
}

// casbinNode starts a node whose users log in with their names for passwords, and may do what the policy says.
func casbinNode(t *testing.T) *Agent {
	t.Helper()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	users := file("users", "admin:admin\nalice:alice\neve:eve\nbob:bob\nnobody's friend:nobody's friend\n")
	a := testNode(t, map[string]string{"sasl": "true", "bootstrap-users-file": users}, nil,
		"authorizer=casbin", "authorizer.casbin.model="+filepath.Join("..", "broker", "auth", "testdata", "model.conf"), "authorizer.casbin.policy="+file("policy.csv", casbinPolicy),
		"super.users=User:admin", "sasl.enabled.mechanisms=PLAIN", "quorlog.sasl.plain.on.loopback=true")
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return a
}

func loginAs(a *Agent, user string) []kgo.Opt {
	return []kgo.Opt{kgo.SeedBrokers(a.Addr()), kgo.SASL(plain.Auth{User: user, Pass: user}.AsMechanism())}
}

// writers write a record to a topic as a user, by all protocols, and tell whether it was allowed; whatever else goes wrong is an error.
func writers(t *testing.T, a *Agent) map[string]func(ctx context.Context, user, topic string) (allowed bool, err error) {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+a.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return map[string]func(ctx context.Context, user, topic string) (bool, error){
		"Kafka": func(ctx context.Context, user, topic string) (bool, error) {
			cl := newClient(t, append(loginAs(a, user), kgo.DisableIdempotentWrite())...)
			defer cl.Close()
			err := cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("v")}).FirstErr()
			if errors.Is(err, kerr.TopicAuthorizationFailed) {
				return false, nil
			}
			return err == nil, err
		},
		"gRPC": func(ctx context.Context, user, topic string) (bool, error) {
			login := "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+user))
			_, err := quorlogv1.NewRecordsClient(cc).Produce(callmeta.AppendToOutgoingContext(ctx, "authorization", login),
				&quorlogv1.ProduceRequest{Topic: topic, Records: []*quorlogv1.Record{{Value: []byte("v")}}})
			if status.Code(err) == codes.PermissionDenied {
				return false, nil
			}
			return err == nil, err
		},
		"HTTP": func(ctx context.Context, user, topic string) (bool, error) {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+a.Addr()+"/v1/topics/"+topic+"/records",
				bytes.NewBufferString(`{"records":[{"value":"dg=="}]}`))
			if err != nil {
				return false, err
			}
			req.SetBasicAuth(user, user)
			resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
			if err != nil {
				return false, err
			}
			if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusForbidden {
				err = fmt.Errorf("the answer is %s", resp.Status)
			}
			return resp.StatusCode == http.StatusOK, errors.Join(err, resp.Body.Close())
		},
	}
}
