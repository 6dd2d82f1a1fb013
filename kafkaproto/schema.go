package kafkaproto

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A schema says how the body of a request is laid out, in one line of a small language:
//
//	name:type      a field. Types are int8 int16 int32 int64 bool uuid string bytes,
//	               {fields} for a structure, [max]type for an array of at most max elements
//	name:type?     the field may be null; ?5+ says since version 5
//	name:type/3+   the field exists since version 3; /3-5 and /3 say it of a range and of one version
//	@1:name:type   a tagged field and its number; it is known in all flexible versions, as it is to kmsg
//
// Whether strings, arrays and structures have the compact form of KIP-482 depends on the version alone.
type schema struct {
	versions Range
	flexible int16 // first flexible version
	root     structure
}

type kind uint8

const (
	kindFixed  kind = iota // size bytes
	kindString             // int16 length, or uvarint length+1
	kindBytes              // int32 length, or uvarint length+1
	kindArray
	kindStruct
)

// field is a field, or the element of an array.
type field struct {
	name     string
	kind     kind
	size     int // kindFixed: bytes on the wire
	max      int // kindArray: greatest count
	elem     *field
	body     *structure
	versions Range
	nullable int16 // first version in which it may be null; never: math.MaxInt16
	tag      uint32
	tagged   bool
	// least holds, for an array's element, the least bytes of one on the wire, by version: a count that can't fit into
	// what is left of the body is a lie.
	least []int
	// memory is about what kmsg's struct spends on the field, without what it points to.
	memory int
}

type structure struct {
	fields []field // in the order of the wire, without tagged ones
	tagged []field
	memory int
}

// memory of Go values, on 64-bit machines.
const (
	pointerMemory = 8
	stringMemory  = 16
	sliceMemory   = 24
	// tagsMemory is a first unknown tag's map in kmsg.Tags, furtherTagMemory what each of the others costs: maps grow in
	// groups of eight.
	tagsMemory       = 400
	furtherTagMemory = 96
)

// schemas has the parsed table, by key; nil where a key has none.
var schemas, errSchemas = parseSchemas(schemaTable)

// firstFlexible has the first flexible version of each key, math.MaxInt16 where there is none.
var firstFlexible = func() (first [keyCount]int16) {
	for k := range first {
		first[k] = math.MaxInt16
		req := kmsg.RequestForKey(int16(k))
		if req == nil {
			continue
		}
		for v := int16(0); v <= req.MaxVersion(); v++ {
			req.SetVersion(v)
			if req.IsFlexible() {
				first[k] = v
				break
			}
		}
	}
	return first
}()

// schemaRow is the source of a schema: all versions from 0 to max.
type schemaRow struct {
	key  Key
	max  int16
	text string
}

// parseSchemas parses the table. A row that does not parse is left out, so that its key is refused; a test looks at the
// error.
func parseSchemas(rows []schemaRow) ([keyCount]*schema, error) {
	var all [keyCount]*schema
	var errs []error
	for _, row := range rows {
		s, err := parseSchema(row)
		if err != nil {
			errs = append(errs, fmt.Errorf("schema of %s: %w", row.key, err))
			continue
		}
		all[row.key] = s
	}
	return all, errors.Join(errs...)
}

func parseSchema(row schemaRow) (*schema, error) {
	p := schemaParser{text: row.text}
	fields, err := p.fields(Range{Max: row.max})
	if err != nil {
		return nil, err
	}
	if p.text != "" {
		return nil, fmt.Errorf("%w: left over: %q", errSchema, p.text)
	}
	s := &schema{versions: Range{Max: row.max}, flexible: firstFlexible[row.key], root: fields}
	s.root.measure(s)
	return s, nil
}

var errSchema = errors.New("invalid schema text")

type schemaParser struct{ text string }

// take removes a prefix if it is there.
func (p *schemaParser) take(prefix string) bool {
	rest, ok := strings.CutPrefix(p.text, prefix)
	p.text = rest
	return ok
}

// word removes and returns a run of letters and digits.
func (p *schemaParser) word() string {
	end := strings.IndexFunc(p.text, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	})
	if end < 0 {
		end = len(p.text)
	}
	w := p.text[:end]
	p.text = p.text[end:]
	return w
}

func (p *schemaParser) number() (int, error) {
	w := p.word()
	n, err := strconv.Atoi(w)
	if err != nil {
		return 0, fmt.Errorf("%w: number %q before %q", errSchema, w, p.text)
	}
	return n, nil
}

// fields parses fields up to the end or a closing brace. Those without a range have that of their surroundings.
func (p *schemaParser) fields(all Range) (structure, error) {
	var s structure
	for {
		p.text = strings.TrimLeft(p.text, " \n\t")
		if p.text == "" || p.text[0] == '}' {
			return s, nil
		}
		f, err := p.field(all)
		if err != nil {
			return s, err
		}
		if f.tagged {
			s.tagged = append(s.tagged, f)
		} else {
			s.fields = append(s.fields, f)
		}
	}
}

func (p *schemaParser) field(all Range) (field, error) {
	var tag int
	tagged := p.take("@")
	if tagged {
		var err error
		if tag, err = p.number(); err != nil {
			return field{}, err
		}
		p.take(":")
	}
	name := p.word()
	if name == "" || !p.take(":") {
		return field{}, fmt.Errorf("%w: no field at %q", errSchema, p.text)
	}
	f, err := p.kind(all)
	if err != nil {
		return f, err
	}
	f.name, f.tag, f.tagged, f.nullable, f.versions = name, uint32(tag), tagged, math.MaxInt16, all
	if p.take("?") {
		f.nullable = 0
		if p.text != "" && p.text[0] >= '0' && p.text[0] <= '9' {
			since, err := p.number()
			if err != nil || !p.take("+") {
				return f, fmt.Errorf("%w: ? of %s", errSchema, name)
			}
			f.nullable = int16(since)
		}
	}
	if !tagged && p.take("/") {
		if f.versions, err = p.versions(all); err != nil {
			return f, err
		}
	}
	return f, nil
}

func (p *schemaParser) versions(all Range) (Range, error) {
	from, err := p.number()
	if err != nil {
		return all, err
	}
	r := Range{Min: int16(from), Max: int16(from)}
	switch {
	case p.take("+"):
		r.Max = all.Max
	case p.take("-"):
		to, err := p.number()
		if err != nil {
			return all, err
		}
		r.Max = int16(to)
	}
	return r, nil
}

// kind parses a type.
func (p *schemaParser) kind(all Range) (field, error) {
	switch {
	case p.take("["):
		count, err := p.number()
		if err != nil || !p.take("]") {
			return field{}, fmt.Errorf("%w: array at %q", errSchema, p.text)
		}
		elem, err := p.kind(all)
		elem.versions, elem.nullable = all, math.MaxInt16
		return field{kind: kindArray, max: count, elem: &elem, memory: sliceMemory}, err
	case p.take("{"):
		body, err := p.fields(all)
		if err == nil && !p.take("}") {
			err = fmt.Errorf("%w: } missing at %q", errSchema, p.text)
		}
		return field{kind: kindStruct, body: &body}, err
	}
	switch w := p.word(); w {
	case "string":
		return field{kind: kindString, memory: stringMemory}, nil
	case "bytes":
		return field{kind: kindBytes, memory: sliceMemory}, nil
	case "bool", "int8":
		return field{size: 1, memory: 8}, nil // padding included
	case "int16":
		return field{size: 2, memory: 8}, nil
	case "int32":
		return field{size: 4, memory: 4}, nil
	case "int64":
		return field{size: 8, memory: 8}, nil
	case "uuid":
		return field{size: 16, memory: 16}, nil
	default:
		return field{}, fmt.Errorf("%w: type %q", errSchema, w)
	}
}

// measure computes what the structure costs in memory and, for each array in it, the least size of an element.
func (s *structure) measure(in *schema) {
	s.memory = pointerMemory // of the unknown tags' map
	for _, list := range [][]field{s.fields, s.tagged} {
		for i := range list {
			f := &list[i]
			f.measure(in)
			s.memory += f.memory
		}
	}
	s.memory = (s.memory + 7) &^ 7
}

func (f *field) measure(in *schema) {
	switch f.kind {
	case kindStruct:
		f.body.measure(in)
		f.memory = f.body.memory
	case kindArray:
		f.elem.measure(in)
		f.least = make([]int, in.versions.Max+1)
		for v := range f.least {
			f.least[v] = max(1, f.elem.leastSize(in, int16(v)))
		}
	}
}

// leastSize returns the fewest bytes that the field takes on the wire in a version.
func (f *field) leastSize(in *schema, version int16) int {
	flexible := version >= in.flexible
	compact := func(classic int) int {
		if flexible {
			return 1
		}
		return classic
	}
	switch {
	case f.kind == kindFixed:
		return f.size
	case f.kind == kindString:
		return compact(2)
	case f.kind == kindBytes, f.kind == kindArray:
		return compact(4)
	case version >= f.nullable:
		return 1
	}
	n := compact(0) // the count of tagged fields
	for i := range f.body.fields {
		if sub := &f.body.fields[i]; sub.versions.Contains(version) {
			n += sub.leastSize(in, version)
		}
	}
	return n
}
