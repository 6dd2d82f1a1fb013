package admin

import (
	"maps"
	"slices"

	"github.com/quorlog/quorlog/replication"
)

// What those who decide about access ask of the metadata.

// TopicName is the name of a topic by its id; false if there is none.
func TopicName(s *Service, id replication.TopicID) (string, bool) {
	t := s.images.Image().ByID[id]
	if t == nil {
		return "", false
	}
	return t.Name, true
}

// TopicNames are the names of all topics, sorted.
func TopicNames(s *Service) []string {
	return slices.Sorted(maps.Keys(s.images.Image().Topics))
}

// WouldCreate tells whether asking for a topic's metadata could create it: it does not exist, and auto.create.topics.enable is
// true.
func WouldCreate(s *Service, name string) bool {
	im := s.images.Image()
	return im.Topics[name] == nil && autoCreate(im)
}
