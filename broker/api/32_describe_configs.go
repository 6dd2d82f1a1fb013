package api

import (
	"context"

	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeConfigs, key 32, versions 1 to 4.
//
//	v1         sources and synonyms instead of "is default" (KIP-226)
//	v3         types and documentation (KIP-569)
//	v4         flexible
//
// Topics and brokers are described: every setting with its effective value and where that comes from. A broker's name is
// this node's id, or empty for what is set for the whole cluster. Of a broker's loggers (KIP-412) this node tells its own. Other kinds of resources are INVALID_REQUEST.
var describeConfigsRow = Row{Key: kafkaproto.KeyDescribeConfigs, Min: 1, Max: 4, AdvertisedMin: 1, Handler: handler(handleDescribeConfigs)}

func handleDescribeConfigs(_ context.Context, a *API, _ *Request, q *kmsg.DescribeConfigsRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrDescribeConfigsResponse()
	for i := range q.Resources {
		r := &q.Resources[i]
		rr := kmsg.NewDescribeConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = r.ResourceType, r.ResourceName
		rows, err := a.Admin.DescribeConfigs(resource(r.ResourceType, r.ResourceName), r.ConfigNames)
		rr.ErrorCode, rr.ErrorMessage = code(err), message(err)
		rr.Configs = make([]kmsg.DescribeConfigsResponseResourceConfig, len(rows))
		for j := range rows {
			fillConfig(&rr.Configs[j], &rows[j], q)
		}
		resp.Resources = append(resp.Resources, rr)
	}
	return resp, nil
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
