package api

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestTable(t *testing.T) {
	last := kafkaproto.Key(-1)
	for _, row := range Table() {
		name := row.Key.String()
		if row.Key <= last {
			t.Errorf("%s comes after key %d", name, last)
		}
		last = row.Key
		if row.Min < 0 || row.Min > row.Max || row.AdvertisedMin > row.Min || row.AdvertisedMin < 0 {
			t.Errorf("%s: versions %d to %d, %d advertised", name, row.Min, row.Max, row.AdvertisedMin)
		}
		if (row.Handler == nil) == (row.Start == nil) {
			t.Errorf("%s needs either a handler or a starter", name)
		}
		if most := kmsg.RequestForKey(int16(row.Key)).MaxVersion(); row.Max > most {
			t.Errorf("%s: kmsg knows versions to %d only", name, most)
		}
	}
}

// versionsLine is how the head of a key's file says what is served.
var versionsLine = regexp.MustCompile(`(?m)^// (\w+), key (\d+), versions? (\d+)(?: (?:to|and) (\d+))?\b`)

// Each key has a file NN_name.go whose head says what the table says.
func TestFilesMatchTheTable(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	said := make(map[kafkaproto.Key]string)
	for _, e := range entries {
		var key kafkaproto.Key
		if n, _ := fmt.Sscanf(e.Name(), "%02d_", &key); n != 1 || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		text, err := os.ReadFile(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		m := versionsLine.FindStringSubmatch(string(text))
		if m == nil {
			t.Errorf("%s does not say its versions", e.Name())
			continue
		}
		most := m[4]
		if most == "" {
			most = m[3]
		}
		if m[2] != fmt.Sprint(int16(key)) {
			t.Errorf("%s is about key %s", e.Name(), m[2])
		}
		said[key] = fmt.Sprintf("%s %s-%s", m[1], m[3], most)
	}
	for _, row := range Table() {
		want := fmt.Sprintf("%s %d-%d", row.Key, row.Min, row.Max)
		if said[row.Key] != want {
			t.Errorf("the table says %q, the file %q", want, said[row.Key])
		}
		delete(said, row.Key)
	}
	for key, text := range said {
		t.Errorf("key %d (%s) has a file but no row", key, text)
	}
}
