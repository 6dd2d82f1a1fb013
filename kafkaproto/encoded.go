package kafkaproto

// Region is a run of bytes that lie in files: the record batches of one partition in a Fetch answer. Its length is fixed.
// Whoever sends or drops an answer releases its regions, once.
type Region interface {
	// Len returns the number of bytes.
	Len() int
	// FileRanges returns where the bytes lie, in order, for sendfile. The descriptors stay open until Release. ok is false
	// where the bytes have no descriptor, and AppendTo is the only way.
	FileRanges() (ranges []FileRange, ok bool)
	// AppendTo appends all the bytes.
	AppendTo(dst []byte) ([]byte, error)
	// Release gives up the files.
	Release()
}

// FileRange is a run of bytes of an open file.
type FileRange struct {
	Fd     uintptr
	Offset int64
	Len    int
}

// Part is a piece of an answer: either Bytes or, where Region is not nil, a region.
type Part struct {
	Bytes  []byte
	Region Region
}

// Encoded is the body of an answer, ready for the wire, without the response header.
type Encoded struct {
	Parts []Part
	Size  int // bytes of all parts
}

// Bytes makes a body of plain bytes.
func Bytes(b []byte) Encoded {
	return Encoded{Parts: []Part{{Bytes: b}}, Size: len(b)}
}

// AppendTo appends the whole body, regions copied.
func (e Encoded) AppendTo(dst []byte) ([]byte, error) {
	for i := range e.Parts {
		p := &e.Parts[i]
		if p.Region == nil {
			dst = append(dst, p.Bytes...)
			continue
		}
		var err error
		if dst, err = p.Region.AppendTo(dst); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// Release releases the regions.
func (e Encoded) Release() {
	for i := range e.Parts {
		if r := e.Parts[i].Region; r != nil {
			r.Release()
		}
	}
}
