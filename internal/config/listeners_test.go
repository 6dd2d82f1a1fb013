package config

import (
	"slices"
	"strings"
	"testing"
)

// tlsFlags are flags of a node with TLS, and more.
func tlsFlags(more ...string) map[string]string {
	flags := map[string]string{"tls-cert": "n.crt", "tls-key": "n.key", "tls-ca": "ca.crt"}
	for _, pair := range more {
		name, value, _ := strings.Cut(pair, "=")
		flags[name] = value
	}
	return flags
}

func TestListeners(t *testing.T) {
	inside := Listener{Name: "INSIDE", Bind: "0.0.0.0:9092", Advertise: "n1:9092"}
	outside := Listener{Name: "OUT-SIDE.1", Bind: "[::]:9094", Advertise: "broker.example.com:9094", TLS: true}
	const list = "inside://0.0.0.0:9092?advertise=n1:9092, OUT-SIDE.1://[::]:9094?tls=true&advertise=broker.example.com:9094"
	kafka := []string{
		"KAFKA_LISTENERS=INSIDE://0.0.0.0:9092,CONTROLLER://:9093,OUT-SIDE.1://[::]:9094",
		"KAFKA_ADVERTISED_LISTENERS=OUT-SIDE.1://broker.example.com:9094,INSIDE://n1:9092",
		"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP=CONTROLLER:PLAINTEXT,INSIDE:PLAINTEXT,OUT-SIDE.1:SSL",
	}
	for name, c := range map[string]struct {
		from Sources
		want []Listener
	}{
		"one":             {Sources{}, []Listener{{Name: "PLAINTEXT", Bind: "127.0.0.1:9092"}}},
		"one, advertised": {Sources{Flags: map[string]string{"listen": ":1", "advertise": "a:2"}}, []Listener{{Name: "PLAINTEXT", Bind: ":1", Advertise: "a:2"}}},
		"one with TLS":    {Sources{Flags: tlsFlags()}, []Listener{{Name: "SSL", Bind: "127.0.0.1:9092", TLS: true}}},
		"a list":          {Sources{Flags: tlsFlags("listeners=" + list)}, []Listener{inside, outside}},
		"Kafka's names":   {Sources{Flags: tlsFlags(), Env: kafka}, []Listener{inside, outside}},
		"client-auth": {Sources{Flags: tlsFlags("listeners=A://a:1?tls=true&client-auth=required,B://b:1")},
			[]Listener{{Name: "A", Bind: "a:1", TLS: true, ClientAuth: "required"}, {Name: "B", Bind: "b:1"}}},
		"Kafka's client auth": {Sources{Flags: tlsFlags(), Env: []string{"KAFKA_LISTENERS=SSL://a:1", "KAFKA_LISTENER_NAME_SSL_SSL_CLIENT_AUTH=requested", "KAFKA_LISTENER_NAME_CONTROLLER_SSL_KEYSTORE_LOCATION=x"}},
			[]Listener{{Name: "SSL", Bind: "a:1", TLS: true, ClientAuth: "requested"}}},
		"Kafka's one": {Sources{Flags: tlsFlags(), Env: []string{"KAFKA_LISTENERS=SSL://a:1"}}, []Listener{{Name: "SSL", Bind: "a:1", TLS: true}}},
		"a file": {Sources{Flags: tlsFlags(), File: writeFile(t, `listeners:
  - {name: inside, bind: "0.0.0.0:9092", advertise: "n1:9092"}
  - name: out-side.1
    bind: "[::]:9094"
    advertise: broker.example.com:9094
    tls: true
`)}, []Listener{inside, outside}},
	} {
		n, err := Load(c.from)
		if err != nil || !slices.Equal(n.Listeners, c.want) {
			t.Errorf("%s: %+v, %v", name, n.Listeners, err)
			continue
		}
		if n.Listen != c.want[0].Bind || n.Advertise != c.want[0].Advertise {
			t.Errorf("%s: %s, %s", name, n.Listen, n.Advertise)
		}
		for _, l := range n.Listeners {
			if again, err := parseListener(l.String()); err != nil || again != l {
				t.Errorf("%s is %+v, %v", l, again, err)
			}
		}
	}
	n, err := Load(Sources{Flags: tlsFlags("listeners=" + list)})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"listeners":                      "INSIDE://0.0.0.0:9092,OUT-SIDE.1://[::]:9094",
		"advertised.listeners":           "INSIDE://n1:9092,OUT-SIDE.1://broker.example.com:9094",
		"listener.security.protocol.map": "INSIDE:PLAINTEXT,OUT-SIDE.1:SSL", "ssl.client.auth": "none",
	} {
		if n.Kafka[name] != want {
			t.Errorf("%s is %s, want %s", name, n.Kafka[name], want)
		}
	}
}

// What is wrong with listeners and TLS stops the start; nothing of it means "without TLS".
func TestBadListeners(t *testing.T) {
	for name, c := range map[string]struct {
		from Sources
		want string
	}{
		"no scheme":        {Sources{Flags: map[string]string{"listeners": "a:1"}}, "NAME://"},
		"no name":          {Sources{Flags: map[string]string{"listeners": "://a:1"}}, "1 to 50"},
		"a bad name":       {Sources{Flags: map[string]string{"listeners": "a b://a:1"}}, "letters"},
		"no port":          {Sources{Flags: map[string]string{"listeners": "A://a"}}, "host:port"},
		"twice":            {Sources{Flags: map[string]string{"listeners": "A://a:1,a://a:2"}}, "two listeners"},
		"an option":        {Sources{Flags: map[string]string{"listeners": "A://a:1?ssl=true"}}, "unknown"},
		"a value":          {Sources{Flags: tlsFlags("listeners=A://a:1?tls=yes")}, "true or false"},
		"an address":       {Sources{Flags: map[string]string{"listeners": "A://a:1?advertise=0.0.0.0:1"}}, "unspecified"},
		"both":             {Sources{Flags: map[string]string{"listeners": "A://a:1", "listen": "b:1"}}, "leave out one"},
		"hidden":           {Sources{Flags: map[string]string{"listeners": "A://a:1,B://:2"}}, "advertise must be given"},
		"too many":         {Sources{Flags: map[string]string{"listeners": strings.Repeat("A://a:1,", 9)}}, "two listeners"},
		"no certificate":   {Sources{Flags: map[string]string{"listeners": "A://a:1?tls=true"}}, "no tls-cert"},
		"no key":           {Sources{Flags: map[string]string{"tls-cert": "x"}}, "go together"},
		"no use":           {Sources{Flags: tlsFlags("listeners=A://a:1")}, "no listener has TLS"},
		"an authority":     {Sources{Flags: map[string]string{"tls-ca": "x"}}, "nothing is encrypted"},
		"no authority":     {Sources{Flags: map[string]string{"tls-cert": "x", "tls-key": "y", "tls-client-auth": "required"}}, "tls-ca"},
		"client auth":      {Sources{Flags: map[string]string{"tls-client-auth": "maybe"}}, "none, requested, required"},
		"no peers' CA":     {Sources{Flags: map[string]string{"tls-cert": "x", "tls-key": "y", "cluster-key-file": "k"}}, "speak TLS with each other"},
		"Kafka's protocol": {Sources{Set: []string{"listeners=A://a:1"}}, "no protocol"},
		"an odd protocol":  {Sources{Set: []string{"listeners=A://a:1", "listener.security.protocol.map=A:TLS"}}, "NAME:PROTOCOL"},
		"advertised alone": {Sources{Set: []string{"listeners=SSL://a:1", "advertised.listeners=B://a:1"}}, "not one of listeners"},
		"a plain one":      {Sources{Flags: tlsFlags(), Set: []string{"listeners=PLAINTEXT://a:1"}}, "no listener has TLS"},
		"a map alone":      {Sources{Set: []string{"listener.security.protocol.map=A:SSL"}}, "no listeners for it"},
		"a field":          {Sources{File: writeFile(t, "listeners:\n  - {name: A, bind: 'a:1', port: 2}\n")}, "port: a listener has"},
		"a keystore":       {Sources{Set: []string{"ssl.keystore.location=x"}}, "PEM"},
		"a variable":       {Sources{Env: []string{"KAFKA_SSL_KEYSTORE_LOCATION=x"}}, "PEM"},
		"an authorizer":    {Sources{Env: []string{"KAFKA_AUTHORIZER_CLASS_NAME=org.apache.kafka.metadata.authorizer.StandardAuthorizer"}}, "authorizer=acl"},
		"unknown security": {Sources{Env: []string{"KAFKA_SASL_SERVER_CALLBACK_HANDLER_CLASS=x"}}, "Unknown"},
		"unknown, of one":  {Sources{Flags: tlsFlags(), Env: []string{"KAFKA_LISTENER_NAME_SSL_SSL_KEYSTORE_LOCATION=x"}}, "Unknown"},
		"auth of none":     {Sources{Flags: tlsFlags(), Set: []string{"listener.name.other.ssl.client.auth=required"}}, "no listener OTHER"},
		"an odd auth":      {Sources{Flags: tlsFlags(), Set: []string{"listener.name.ssl.ssl.client.auth=maybe"}}, "none, requested, required"},
		"an odd option":    {Sources{Flags: tlsFlags("listeners=A://a:1?tls=true&client-auth=yes")}, "none, requested, required"},
		"auth without TLS": {Sources{Flags: tlsFlags("listeners=A://a:1?client-auth=required,B://b:1?tls=true")}, "no TLS"},
		"auth by nobody":   {Sources{Flags: map[string]string{"listeners": "A://a:1?tls=true&client-auth=required", "tls-cert": "x", "tls-key": "y"}}, "on listener A"},
		"peers":            {Sources{Flags: tlsFlags("tls-peers=maybe")}, "auto, optional, required"},
		"optional peers":   {Sources{Flags: tlsFlags("tls-peers=optional")}, "leave it out"},
		"peers, no cert":   {Sources{Flags: map[string]string{"tls-peers": "required"}}, "no tls-cert"},
		"peers, no CA": {Sources{Flags: map[string]string{"listeners": "A://a:1", "tls-peers": "optional", "tls-cert": "x", "tls-key": "y", "cluster-key-file": "k"}},
			"speak TLS with each other"},
	} {
		if _, err := Load(c.from); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// Who speaks TLS with other nodes, and what clients must show.
func TestWhoNeedsCertificates(t *testing.T) {
	for name, c := range map[string]struct {
		flags     map[string]string
		may, must bool
	}{
		"plain":           {map[string]string{}, false, false},
		"TLS":             {tlsFlags(), true, true},
		"TLS second":      {tlsFlags("listeners=A://a:1,B://b:1?tls=true"), false, false},
		"going over":      {tlsFlags("listeners=A://a:1,B://b:1?tls=true", "tls-peers=optional"), true, false},
		"among peers":     {tlsFlags("listeners=A://a:1", "tls-peers=required"), true, true},
		"said once more":  {tlsFlags("tls-peers=required"), true, true},
		"TLS first again": {tlsFlags("listeners=B://b:1?tls=true,A://a:1"), true, true},
	} {
		n, err := Load(Sources{Flags: c.flags})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if may, must := n.PeerTLS(); may != c.may || must != c.must {
			t.Errorf("%s: %t, %t", name, may, must)
		}
	}
	n, err := Load(Sources{Flags: tlsFlags("tls-client-auth=requested", "listeners=A://a:1,B://b:1?tls=true,C://c:1?tls=true&client-auth=required,D://d:1?tls=true&client-auth=none")})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"none", "requested", "required", "none"} {
		if got := n.ClientAuthOf(n.Listeners[i]); got != want {
			t.Errorf("%s: %s, want %s", n.Listeners[i].Name, got, want)
		}
	}
}
