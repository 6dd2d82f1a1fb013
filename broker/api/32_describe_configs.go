package api

import (
	"context"
	"fmt"

	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeConfigs, key 32, versions 1 to 4.
//
//	v1         sources and synonyms instead of "is default" (KIP-226)
//	v3         types and documentation (KIP-569)
//	v4         flexible
//
// Topics and brokers are described: every setting with its effective value and where that comes from. A broker's name is
// this node's id, or empty for what is set for the whole cluster. Of a broker's loggers (KIP-412) this node tells its own. Other kinds of resources are INVALID_REQUEST,
// and so is what an answer has no room for.
var describeConfigsRow = Row{Key: kafkaproto.KeyDescribeConfigs, Min: 1, Max: 4, AdvertisedMin: 1, Handler: handler(handleDescribeConfigs)}

func handleDescribeConfigs(_ context.Context, a *API, _ *Request, q *kmsg.DescribeConfigsRequest) (kmsg.Response, error) {
	return describeConfigs(a, q, maxConfigs), nil
}

func describeConfigs(a *API, q *kmsg.DescribeConfigsRequest, most int) *kmsg.DescribeConfigsResponse {
	resp := kmsg.NewPtrDescribeConfigsResponse()
	for i := range q.Resources {
		r := &q.Resources[i]
		rr := kmsg.NewDescribeConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = r.ResourceType, r.ResourceName
		rows, err := []admin.Setting(nil), errManyConfigs
		if most > 0 {
			rows, err = a.Admin.DescribeConfigs(resource(r.ResourceType, r.ResourceName), r.ConfigNames)
		}
		rr.ErrorCode, rr.ErrorMessage = code(err), message(err)
		rr.Configs = make([]kmsg.DescribeConfigsResponseResourceConfig, len(rows))
		for j := range rows {
			fillConfig(&rr.Configs[j], &rows[j], q)
			most -= sizeOfConfig(&rr.Configs[j])
		}
		resp.Resources = append(resp.Resources, rr)
	}
	return resp
}

// maxConfigs bounds an answer, in bytes. Groups need not exist to have settings, so the names of a small request would else be good for
// any amount of memory. It is enough for 20,000 topics, and clients take hardly more: librdkafka and franz-go 100 MB by default.
const maxConfigs = 64 << 20

var errManyConfigs = fmt.Errorf("%w: the answer has %d MiB without this: ask for fewer at a time", replication.ErrInvalidRequest, maxConfigs>>20)

// sizeOfConfig is about what a setting takes in an answer.
func sizeOfConfig(c *kmsg.DescribeConfigsResponseResourceConfig) int {
	const besides = 12 // lengths, flags and tags
	n := len(c.Name) + len(deref(c.Value)) + len(deref(c.Documentation)) + besides
	for i := range c.ConfigSynonyms {
		n += len(c.ConfigSynonyms[i].Name) + len(deref(c.ConfigSynonyms[i].Value)) + besides
	}
	return n
}

func resource(kind kmsg.ConfigResourceType, name string) admin.Resource {
	return admin.Resource{Kind: admin.ResourceKind(kind), Name: name}
}

func fillConfig(c *kmsg.DescribeConfigsResponseResourceConfig, row *admin.Setting, q *kmsg.DescribeConfigsRequest) {
	c.Default()
	c.Name, c.Value, c.ReadOnly, c.IsSensitive = row.Name, shown(*row), row.ReadOnly, row.Sensitive
	c.Source, c.ConfigType = kmsg.ConfigSource(row.Source), kmsg.ConfigType(row.Type)
	if q.IncludeDocumentation {
		c.Documentation = &row.Doc
	}
	if !q.IncludeSynonyms {
		return
	}
	for _, s := range row.Synonyms {
		synonym := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
		synonym.Name, synonym.Source = s.Name, kmsg.ConfigSource(s.Source)
		if !row.Sensitive {
			value := s.Value
			synonym.Value = &value
		}
		c.ConfigSynonyms = append(c.ConfigSynonyms, synonym)
	}
}

// shown is a setting's value, except that of a secret.
func shown(row admin.Setting) *string {
	if row.Sensitive {
		return nil
	}
	return &row.Value
}
