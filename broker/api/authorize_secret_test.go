package api

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// secret is a topic that exists for one of two nodes; nobody but root may see it.
const secret = "hidden-topic"

// waits are keys whose requests wait for others, or begin what does.
var waits = []kafkaproto.Key{
	kafkaproto.KeyJoinGroup, kafkaproto.KeySyncGroup, kafkaproto.KeySASLHandshake, kafkaproto.KeySASLAuthenticate, kafkaproto.KeyProduce,
	kafkaproto.KeyAddOffsetsToTxn, kafkaproto.KeyTxnOffsetCommit, kafkaproto.KeyInitProducerID, kafkaproto.KeyEndTxn, kafkaproto.KeyAddPartitionsToTxn,
}

// TestSecretsStaySecret: whatever alice asks, of whatever key and version, the answers of a node that has a topic which she may not see
// and of one that has not are alike, and none names the topic to her unless she did.
func TestSecretsStaySecret(t *testing.T) {
	with, n, id := newShareAPI(t)
	n.createTopic(secret, 2)
	without, _, other := newShareAPI(t)
	var list []controller.ACL
	for _, r := range []broker.Resource{broker.Topic("orders"), broker.Group("g"), broker.TransactionalID("t")} {
		list = append(list, allow(broker.Read, r), allow(broker.Write, r), allow(broker.DescribeConfigs, r))
	}
	for _, a := range []*API{without, with} {
		awaitCoordinator(t, a)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, row := range Table() {
		if slices.Contains(waits, row.Key) {
			continue
		}
		for version := row.Min; version <= row.Max; version++ {
			for range 20 {
				seed := rng.Uint64()
				var shapes []string
				named := false
				for _, a := range []*API{without, with} {
					a.Authorizer = rules(list...)
					c := newClient(t, a)
					c.session.SetPrincipal("User:alice")
					q, ids := kmsg.RequestForKey(int16(row.Key)), []replication.TopicID{{}, other, {9}}
					if a == with {
						ids[1] = id
					}
					q.SetVersion(version)
					fillAny(reflect.ValueOf(q).Elem(), rand.New(rand.NewPCG(seed, 0)), ids)
					q.SetVersion(version)
					resp, err := c.finish(c.start(q, version), q)
					if err != nil {
						shapes = append(shapes, fmt.Sprintf("%T", err))
						continue
					}
					shapes = append(shapes, shapeOf(reflect.ValueOf(resp)))
					named = bytes.Contains(q.AppendTo(nil), []byte(secret))
				}
				if shapes[0] != shapes[1] {
					t.Errorf("%s %d, seed %d: without the topic %s, with it %s", row.Key, version, seed, shapes[0], shapes[1])
				}
				if !named && strings.Contains(shapes[1], secret) {
					t.Errorf("%s %d, seed %d: it is told", row.Key, version, seed)
				}
			}
		}
	}
}

// awaitCoordinator waits until the transactional id "t" has a coordinator. The first who looks for it creates the topic, and what is
// told meanwhile depends on the moment.
func awaitCoordinator(t *testing.T, a *API) {
	t.Helper()
	a.Authorizer = rules()
	c := newClient(t, a)
	c.session.SetPrincipal("User:root")
	find := &kmsg.FindCoordinatorRequest{CoordinatorKey: "t", CoordinatorType: coordinatorOfTransaction}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		found := ask[*kmsg.FindCoordinatorResponse](c, find, 3)
		if found.ErrorCode == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("no coordinator: %+v", found)
		case <-tick.C:
		}
	}
}

// fillAny fills a request at random, with names that mean something to the nodes.
func fillAny(v reflect.Value, rng *rand.Rand, ids []replication.TopicID) {
	text := func() string {
		return []string{secret, secret, "orders", "g", "t", "", "nothing", "1"}[rng.IntN(8)]
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; name != "Version" && name != "UnknownTags" {
				fillAny(v.Field(i), rng, ids)
			}
		}
	case reflect.Pointer:
		if v.Type().Elem().Kind() == reflect.String && rng.IntN(4) > 0 {
			s := text()
			v.Set(reflect.ValueOf(&s))
		}
	case reflect.String:
		v.SetString(text())
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64([]int{0, 0, 1, 2, 3, 4, -1, -2}[rng.IntN(8)]))
	case reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 && v.Len() == len(replication.TopicID{}) {
			reflect.Copy(v, reflect.ValueOf(ids[rng.IntN(len(ids))]))
		}
	case reflect.Slice:
		if n := rng.IntN(4); n > 0 && v.Type().Elem().Kind() != reflect.Uint8 {
			v.Set(reflect.MakeSlice(v.Type(), n-1, n-1))
			for i := range n - 1 {
				fillAny(v.Index(i), rng, ids)
			}
		}
	}
}

// shapeOf is what of a response two nodes must agree about: error codes, how long lists are, and the names of things in them.
func shapeOf(v reflect.Value) string {
	var b strings.Builder
	var walk func(name string, v reflect.Value)
	walk = func(name string, v reflect.Value) {
		switch {
		case v.Kind() == reflect.Pointer && !v.IsNil():
			walk(name, v.Elem())
		case v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8:
			fmt.Fprintf(&b, "%s[%d] ", name, v.Len())
			for i := range v.Len() {
				walk("", v.Index(i))
			}
		case v.Kind() == reflect.Struct:
			for i := range v.NumField() {
				if f := v.Type().Field(i); f.IsExported() {
					walk(f.Name, v.Field(i))
				}
			}
		case strings.HasSuffix(name, "ErrorCode"), name == "Topic", strings.HasSuffix(name, "Name"):
			fmt.Fprintf(&b, "%s=%v ", name, v.Interface())
		}
	}
	walk("", v)
	return b.String()
}
