package api

import (
	"github.com/quorlog/quorlog/broker/fetch"
	"github.com/quorlog/quorlog/broker/share"
	"github.com/quorlog/quorlog/kafkaproto"
)

// fileRegion lets records go from their files to the socket.
type fileRegion struct{ fetch.Records }

// region is the region of a result's records; nil for none.
func region(r *fetch.Result) kafkaproto.Region {
	if r.Records == nil {
		return nil
	}
	return fileRegion{r.Records}
}

// shareRegion is the same for a share group's.
func shareRegion(r *share.FetchResult) kafkaproto.Region {
	if r.Records == nil {
		return nil
	}
	return fileRegion{r.Records}
}

// FileRanges tells where the records lie.
func (r fileRegion) FileRanges() ([]kafkaproto.FileRange, bool) {
	pieces, ok := r.Pieces()
	if !ok {
		return nil, false
	}
	ranges := make([]kafkaproto.FileRange, len(pieces))
	for i, p := range pieces {
		ranges[i] = kafkaproto.FileRange(p)
	}
	return ranges, true
}
