package config

import (
	"slices"
	"testing"
)

// TestSASLSettings: what says that clients must log in is never read as if they need not.
func TestSASLSettings(t *testing.T) {
	load := func(set []string, flags map[string]string) (*Node, error) {
		return Load(Sources{Set: set, Flags: flags})
	}
	n, err := load(nil, map[string]string{"sasl": "true"})
	if err != nil || len(n.Listeners) != 1 || !n.Listeners[0].SASL || n.Listeners[0].Name != "SASL_PLAINTEXT" {
		t.Fatalf("%+v, %v", n, err)
	}
	if got := Elements((Layers{Static: n.Kafka}).Get(Broker, mechanismsSetting)); !slices.Equal(got, []string{"SCRAM-SHA-512", "SCRAM-SHA-256"}) {
		t.Errorf("%q", got)
	}
	if n, err := load(nil, map[string]string{"listeners": "IN://127.0.0.1:1,OUT://127.0.0.1:2?sasl=true"}); err != nil || n.Listeners[0].SASL || !n.Listeners[1].SASL {
		t.Errorf("%+v, %v", n, err)
	}
	if n, err := load([]string{"listeners=SASL_PLAINTEXT://127.0.0.1:1"}, nil); err != nil || !n.Listeners[0].SASL {
		t.Errorf("%+v, %v", n, err)
	}
	plain := mechanismsSetting + "=PLAIN"
	if _, err := load([]string{plain, loopbackSetting + "=true"}, map[string]string{"sasl": "true"}); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		set   []string
		flags map[string]string
	}{
		"no boolean":         {nil, map[string]string{"sasl": "yes"}},
		"no boolean of one":  {nil, map[string]string{"listeners": "A://127.0.0.1:1?sasl=1"}},
		"said twice":         {nil, map[string]string{"sasl": "true", "listeners": "A://127.0.0.1:1"}},
		"a name of Kafka's":  {nil, map[string]string{"listeners": "SASL_PLAINTEXT://127.0.0.1:1"}},
		"half of it":         {nil, map[string]string{"listeners": "SASL_SSL://127.0.0.1:1?sasl=true"}},
		"the other half":     {nil, tlsFlags("listeners=sasl_ssl://127.0.0.1:1?tls=true")},
		"SSL without TLS":    {nil, map[string]string{"listeners": "SSL://127.0.0.1:1"}},
		"only plain":         {[]string{plain}, map[string]string{"sasl": "true"}},
		"unknown mechanism":  {[]string{mechanismsSetting + "=GSSAPI"}, nil},
		"no mechanism":       {[]string{mechanismsSetting + "="}, nil},
		"twice":              {[]string{mechanismsSetting + "=PLAIN,PLAIN"}, nil},
		"users without SASL": {nil, map[string]string{"bootstrap-users-file": "x"}},
		"negative lifetime":  {[]string{"connections.max.reauth.ms=-1"}, nil},
		"long delay":         {[]string{"connection.failed.authentication.delay.ms=60000"}, nil},
	} {
		if _, err := load(c.set, c.flags); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
