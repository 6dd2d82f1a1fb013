package kafkaproto

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// RequestHeader is what stands in front of every request.
type RequestHeader struct {
	Key           Key
	Version       int16
	CorrelationID int32
	ClientID      string // does not alias the frame
	HasClientID   bool   // tells an empty client id from none
}

// maxClientID is longer than any client id that serves to tell clients apart; it is kept in metrics, logs and quotas.
const maxClientID = 1024

// Errors of headers. All wrap ErrHeader.
var (
	// ErrHeader is the kind of all header errors.
	ErrHeader = errors.New("invalid request header")
	// ErrUnknownKey means a key that the protocol does not define, so that the header's format is unknown too.
	ErrUnknownKey = fmt.Errorf("%w: unknown key", ErrHeader)
)

// headerBudget lets the header have as many tagged fields as any structure may.
const headerBudget = tagsMemory + maxTags*furtherTagMemory

// maxKnownApiVersions is the newest version of ApiVersions whose body can be parsed.
var maxKnownApiVersions = (&kmsg.ApiVersionsRequest{}).MaxVersion()

// fixedHeader is the length of key, version and correlation id.
const fixedHeader = 8

// ParseHeader splits a frame into header and body. The body aliases the frame.
//
// The header of an ApiVersions request of a version that nobody here knows must yield its correlation id, whatever stands
// behind it, because the client has to get an answer (KIP-511): it is parsed as far as possible and its body is nil.
func ParseHeader(frame []byte) (RequestHeader, []byte, error) {
	if len(frame) < fixedHeader {
		return RequestHeader{}, nil, fmt.Errorf("%w: %d bytes", ErrHeader, len(frame))
	}
	h := RequestHeader{
		Key:           Key(binary.BigEndian.Uint16(frame)),
		Version:       int16(binary.BigEndian.Uint16(frame[2:])),
		CorrelationID: int32(binary.BigEndian.Uint32(frame[4:])),
	}
	if !h.Key.Known() {
		return h, nil, fmt.Errorf("%w %d", ErrUnknownKey, h.Key)
	}
	if h.Version < 0 {
		return h, nil, fmt.Errorf("%w: version %d", ErrHeader, h.Version)
	}
	w := walker{rest: frame[fixedHeader:], budget: headerBudget}
	id, ok := w.nullableString()
	if ok && FlexibleRequest(h.Key, h.Version) {
		ok = w.skipTags()
	}
	if h.Key == KeyApiVersions && h.Version > maxKnownApiVersions {
		if ok && len(id) <= maxClientID {
			h.ClientID, h.HasClientID = string(id), id != nil
		}
		return h, nil, nil
	}
	if !ok {
		return h, nil, fmt.Errorf("%w: %s version %d: %w", ErrHeader, h.Key, h.Version, w.err)
	}
	if len(id) > maxClientID {
		return h, nil, fmt.Errorf("%w: client id of %d bytes", ErrHeader, len(id))
	}
	h.ClientID, h.HasClientID = string(id), id != nil
	return h, w.rest, nil
}

// AppendResponseHeader appends the header of the answer to a request.
func AppendResponseHeader(dst []byte, h RequestHeader) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(h.CorrelationID))
	if FlexibleResponse(h.Key, h.Version) {
		dst = append(dst, 0) // no tagged fields
	}
	return dst
}

// FlexibleRequest tells whether a request's header ends in tagged fields (header version 2).
func FlexibleRequest(key Key, version int16) bool {
	return key.Known() && version >= firstFlexible[key]
}

// FlexibleResponse tells whether a response's header ends in tagged fields (header version 1). That of ApiVersions never
// does, because a client reads it before it knows what the broker speaks.
func FlexibleResponse(key Key, version int16) bool {
	return key != KeyApiVersions && FlexibleRequest(key, version)
}
