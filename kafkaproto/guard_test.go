package kafkaproto

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/quorlog/quorlog/internal/allocs"
)

func TestSchemasParse(t *testing.T) {
	if errSchemas != nil {
		t.Fatal(errSchemas)
	}
	for _, row := range schemaTable {
		req := kmsg.RequestForKey(int16(row.key))
		if req.MaxVersion() != row.max {
			t.Errorf("%s: the schema goes to version %d, kmsg to %d", row.key, row.max, req.MaxVersion())
		}
	}
}

func TestSchemaErrors(t *testing.T) {
	for _, text := range []string{
		"name", "name:", "name:what", "a:[x]int32", "a:[5int32", "a:{b:int8", "a:int8}", "a:int8/x", "a:int8?1", "@x:a:int8", "a:int8/1-", "@1:a:int8/2+", "?",
	} {
		if _, err := parseSchema(schemaRow{KeyProduce, 3, text}); !errors.Is(err, errSchema) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if all, err := parseSchemas([]schemaRow{{KeyFetch, 1, "a:b"}}); err == nil || all[KeyFetch] != nil {
		t.Error("a broken row must be left out and reported")
	}
}

// filler fills kmsg structs with random values that a version may carry.
type filler struct {
	rng   *rand.Rand
	nulls bool // leave nullable fields null at times
	tags  bool // add unknown tags
	odd   reflect.Kind
}

func (f *filler) fill(v reflect.Value, depth int) {
	if v.CanAddr() && v.Type() == reflect.TypeFor[kmsg.Tags]() {
		if f.tags && f.rng.IntN(3) == 0 {
			tags := v.Addr().Interface().(*kmsg.Tags)
			for i := range 1 + f.rng.IntN(3) {
				tags.Set(uint32(40+i*200), make([]byte, f.rng.IntN(4)))
			}
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; name != "Version" {
				f.fill(v.Field(i), depth+1)
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(make([]byte, f.rng.IntN(9)))
			return
		}
		if f.nulls && f.rng.IntN(4) == 0 {
			return
		}
		n := f.rng.IntN(4)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			f.fill(v.Index(i), depth+1)
		}
	case reflect.Array:
		for i := range v.Len() {
			f.fill(v.Index(i), depth+1)
		}
	case reflect.Pointer:
		if f.nulls && f.rng.IntN(3) == 0 {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem(), depth+1)
	case reflect.String:
		v.SetString("abcdefgh"[:f.rng.IntN(9)])
	case reflect.Bool:
		v.SetBool(f.rng.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(int8(f.rng.Uint64())))
	case reflect.Uint8:
		v.SetUint(f.rng.Uint64() & 0xff)
	default:
		f.odd = v.Kind()
	}
}

// random returns a random request and its encoding.
func random(rng *rand.Rand, key Key, version int16) (kmsg.Request, []byte) {
	req := kmsg.RequestForKey(int16(key))
	f := filler{rng: rng, nulls: rng.IntN(2) == 0, tags: rng.IntN(2) == 0}
	f.fill(reflect.ValueOf(req).Elem(), 0)
	req.SetVersion(version)
	if f.odd != reflect.Invalid {
		return req, nil // kmsg has a type that fill does not know; no schema takes nothing for it
	}
	return req, req.AppendTo(nil)
}

// each calls fn for each key and version that the guard knows.
func each(t *testing.T, fn func(t *testing.T, key Key, version int16)) {
	for _, row := range schemaTable {
		for v := int16(0); v <= row.max; v++ {
			t.Run(fmt.Sprintf("%s/%d", row.key, v), func(t *testing.T) { fn(t, row.key, v) })
		}
	}
}

// The schema of every key and version must describe exactly what kmsg writes: no byte more, no byte less.
func TestGuardAgreesWithKmsg(t *testing.T) {
	each(t, func(t *testing.T, key Key, version int16) {
		rng := rand.New(rand.NewPCG(uint64(key), uint64(version)))
		for range 200 {
			req, body := random(rng, key, version)
			if err := Guard(key, version, body); err != nil {
				t.Fatalf("%+v\n%x\n%v", req, body, err)
			}
			got, err := Decode(RequestHeader{Key: key, Version: version}, body)
			if err != nil {
				t.Fatal(err)
			}
			if again := got.AppendTo(nil); string(again) != string(body) {
				t.Fatalf("decoded and encoded again:\n%x\n%x", body, again)
			}
			if err := Guard(key, version, append(body, 0)); !errors.Is(err, ErrBody) {
				t.Fatalf("with a trailing byte: %v", err)
			}
			for n := range body {
				if err := Guard(key, version, body[:n]); !errors.Is(err, ErrBody) {
					t.Fatalf("cut to %d of %d bytes: %v", n, len(body), err)
				}
			}
		}
	})
}

// kmsg struct sizes must not be above what the budget charges for an element.
func TestSchemaMemory(t *testing.T) {
	for _, row := range schemaTable {
		req := kmsg.RequestForKey(int16(row.key))
		if s := schemas[row.key]; s != nil {
			compareMemory(t, row.key.String(), reflect.TypeOf(req).Elem(), s.root.memory)
			charged, actual := largestElements(&s.root, nil), goElements(reflect.TypeOf(req).Elem(), nil)
			if len(charged) != len(actual) {
				t.Errorf("%s: %d arrays of structures in the schema, %d in kmsg", row.key, len(charged), len(actual))
				continue
			}
			for i := range charged {
				compareMemory(t, fmt.Sprintf("%s array %d", row.key, i), actual[i], charged[i])
			}
		}
	}
}

func compareMemory(t *testing.T, what string, typ reflect.Type, charged int) {
	t.Helper()
	// The version and padding of the request itself are within the base of the budget.
	if slack := 16; int(typ.Size()) > charged+slack {
		t.Errorf("%s: %s takes %d bytes, charged are %d", what, typ, typ.Size(), charged)
	}
}

// largestElements lists what the elements of each array of structures are charged, in the order of the fields. No tagged
// field holds such an array, so that kmsg's order is the same.
func largestElements(s *structure, list []int) []int {
	for i := range s.fields {
		list = elementsOf(&s.fields[i], list)
	}
	for i := range s.tagged {
		list = elementsOf(&s.tagged[i], list)
	}
	return list
}

func elementsOf(f *field, list []int) []int {
	switch {
	case f.kind == kindArray && f.elem.kind == kindStruct:
		list = append(list, f.elem.memory)
		return largestElements(f.elem.body, list)
	case f.kind == kindStruct:
		return largestElements(f.body, list)
	}
	return list
}

func goElements(typ reflect.Type, list []reflect.Type) []reflect.Type {
	for i := range typ.NumField() {
		ft := typ.Field(i).Type
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		switch {
		case ft == reflect.TypeFor[kmsg.Tags]():
		case ft.Kind() == reflect.Struct:
			list = goElements(ft, list)
		case ft.Kind() == reflect.Slice && ft.Elem().Kind() == reflect.Struct:
			list = append(list, ft.Elem())
			list = goElements(ft.Elem(), list)
		}
	}
	return list
}

func TestGuardUnknown(t *testing.T) {
	for _, c := range []struct {
		key     Key
		version int16
	}{{-1, 0}, {500, 0}, {KeyVote, 0}, {KeyProduce, 14}, {KeyProduce, -1}} {
		if err := Guard(c.key, c.version, nil); !errors.Is(err, ErrUnknownRequest) {
			t.Errorf("%s version %d: %v", c.key, c.version, err)
		}
	}
}

func TestGuardRefuses(t *testing.T) {
	big := func(head []byte, n int) []byte { return append(head, make([]byte, n)...) }
	for _, c := range []struct {
		name    string
		key     Key
		version int16
		body    []byte
		want    error
	}{
		{"4 billion tags", KeyApiVersions, 3, []byte{1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f}, ErrTags},
		{"67 million tags", KeyApiVersions, 3, []byte{1, 1, 0xff, 0xff, 0xff, 0x1f}, ErrTags},
		{"endless number", KeyApiVersions, 3, []byte{1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0}, ErrVarint},
		{"33 bits", KeyApiVersions, 3, []byte{1, 1, 0xff, 0xff, 0xff, 0xff, 0x1f}, ErrVarint},
		{"null string", KeyApiVersions, 3, []byte{0, 1, 0}, ErrNull},
		{"65 tags", KeyApiVersions, 3, big([]byte{1, 1, 65}, 200), ErrTags},
		{"descending tags", KeyApiVersions, 3, []byte{1, 1, 2, 9, 0, 8, 0}, ErrTags},
		{"the same tag twice", KeyApiVersions, 3, []byte{1, 1, 2, 9, 0, 9, 0}, ErrTags},
		{"tag longer than the rest", KeyApiVersions, 3, []byte{1, 1, 1, 9, 7, 0}, ErrTags},
		{"array longer than the rest", KeyMetadata, 1, []byte{0, 0, 0, 9, 0, 0}, ErrCount},
		{"array of 2 billion", KeyMetadata, 1, []byte{0x7f, 0xff, 0xff, 0xff}, ErrCount},
		{"array of -2", KeyMetadata, 1, []byte{0xff, 0xff, 0xff, 0xfe}, ErrNull},
		{"null array before its version", KeyMetadata, 0, []byte{0xff, 0xff, 0xff, 0xff}, ErrNull},
		{"string of -2", KeySASLHandshake, 1, []byte{0xff, 0xfe}, ErrNull},
		{"more elements than the cap", KeyListConfigResources, 1, big([]byte{0xd2, 0x0f}, 4001), ErrCount},
		{"known tag of the wrong length", KeyFetch, 15, fetchWithTag(t, 1, make([]byte, 12)), ErrTruncated},
		{"known tag with spare bytes", KeyFetch, 15, fetchWithTag(t, 1, make([]byte, 14)), ErrTags},
		{"tags inside a known tag", KeyFetch, 15, fetchWithTag(t, 1, append(make([]byte, 12), 0xff, 0xff, 0xff, 0x1f)), ErrTags},
		{"cursor that is neither null nor there", KeyDescribeTopicPartitions, 0, []byte{1, 0, 0, 0, 1, 0xfe, 0}, ErrNull},
	} {
		if err := Guard(c.key, c.version, c.body); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// fetchWithTag returns a Fetch v15 body with one tagged field.
func fetchWithTag(t *testing.T, tag byte, content []byte) []byte {
	t.Helper()
	req := kmsg.NewPtrFetchRequest()
	req.Version = 15
	body := req.AppendTo(nil)
	body[len(body)-1] = 1
	return append(append(body, tag, byte(len(content))), content...)
}

// Bodies that a frame cap lets through but that would cost many times their size must be refused.
func TestGuardBudget(t *testing.T) {
	const n = 90_000
	// Metadata v9: topics with empty names, two bytes each on the wire, 40 in memory.
	metadata := append([]byte{0x91, 0xbf, 0x05}, make([]byte, 2*n)...)
	for i := 3; i < len(metadata); i += 2 {
		metadata[i] = 1
	}
	metadata = append(metadata, 0, 0, 0, 0)
	if err := Guard(KeyMetadata, 9, metadata); !errors.Is(err, ErrBudget) {
		t.Error("empty names:", err)
	}
	// The same with one unknown tag for each topic.
	var tagged []byte
	tagged = append(tagged, 0x91, 0xbf, 0x05)
	for range n {
		tagged = append(tagged, 4, 'a', 'b', 'c', 1, 9, 0)
	}
	tagged = append(tagged, 0, 0, 0, 0)
	if err := Guard(KeyMetadata, 9, tagged); !errors.Is(err, ErrBudget) {
		t.Error("tags:", err)
	}
	// An honest request of the same count passes.
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 9
	for i := range n {
		topic := fmt.Sprintf("topic-%06d", i)
		req.Topics = append(req.Topics, kmsg.MetadataRequestTopic{Topic: &topic})
	}
	if err := Guard(KeyMetadata, 9, req.AppendTo(nil)); err != nil {
		t.Error("honest:", err)
	}
}

// What the guard lets through may not allocate more than the budget says.
func TestDecodeAllocation(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	each(t, func(t *testing.T, key Key, version int16) {
		for range 20 {
			_, body := random(rng, key, version)
			allowed := uint64(budgetBase + budgetFactor*len(body))
			if got := allocs.Bytes(func() { _, _ = Decode(RequestHeader{Key: key, Version: version}, body) }); got > allowed {
				t.Fatalf("%d bytes allocated for a body of %d", got, len(body))
			}
		}
	})
}

func TestGuardAllocatesNothing(t *testing.T) {
	body := produceBody(1, 1, 100)
	metadata := kmsg.NewPtrMetadataRequest()
	metadata.Version = 12
	name := "topic"
	metadata.Topics = []kmsg.MetadataRequestTopic{{Topic: &name}}
	other := metadata.AppendTo(nil)
	n := testing.AllocsPerRun(100, func() {
		if Guard(KeyProduce, 9, body) != nil || Guard(KeyMetadata, 12, other) != nil {
			t.Error("refused")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A few bytes must not buy seconds of work: kmsg alone spins for minutes on the count of tags here.
func TestHostileTagsAreCheap(t *testing.T) {
	body := []byte{1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f}
	const rounds = 1000
	start := time.Now()
	for range rounds {
		if _, err := Decode(RequestHeader{Key: KeyApiVersions, Version: 3}, body); err == nil {
			t.Fatal("accepted")
		}
	}
	if spent := time.Since(start); spent > rounds*time.Millisecond {
		t.Errorf("%v for each", spent/rounds)
	}
}

// Records must alias the frame, and strings must not.
func TestDecodeAliases(t *testing.T) {
	body := produceBody(1, 1, 100)
	req, err := Decode(RequestHeader{Key: KeyProduce, Version: 9}, body)
	if err != nil {
		t.Fatal(err)
	}
	produce := req.(*kmsg.ProduceRequest)
	first, last := uintptr(unsafe.Pointer(&body[0])), uintptr(unsafe.Pointer(&body[len(body)-1]))
	inside := func(p unsafe.Pointer) bool { return uintptr(p) >= first && uintptr(p) <= last }
	if !inside(unsafe.Pointer(unsafe.SliceData(produce.Topics[0].Partitions[0].Records))) {
		t.Error("records were copied")
	}
	if inside(unsafe.Pointer(unsafe.StringData(produce.Topics[0].Topic))) {
		t.Error("the topic's name keeps the frame alive")
	}
}

func produceBody(topics, partitions, size int) []byte {
	req := kmsg.NewPtrProduceRequest()
	req.Version = 9
	for i := range topics {
		topic := kmsg.ProduceRequestTopic{Topic: fmt.Sprintf("topic-%d", i)}
		for p := range partitions {
			topic.Partitions = append(topic.Partitions, kmsg.ProduceRequestTopicPartition{
				Partition: int32(p), Records: make([]byte, size),
			})
		}
		req.Topics = append(req.Topics, topic)
	}
	return req.AppendTo(nil)
}

func FuzzGuardDecode(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, row := range schemaTable {
		for v := int16(0); v <= row.max; v++ {
			_, body := random(rng, row.key, v)
			f.Add(int16(row.key), v, body)
		}
	}
	f.Add(int16(KeyApiVersions), int16(3), []byte{1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		h := RequestHeader{Key: Key(key), Version: version}
		if Guard(h.Key, h.Version, body) != nil {
			return
		}
		var req kmsg.Request
		var err error
		used := allocs.Bytes(func() { req, err = Decode(h, body) })
		if err != nil {
			t.Fatalf("the guard let through what kmsg does not take: %v", err)
		}
		if allowed := uint64(2*budgetBase + budgetFactor*len(body)); used > allowed {
			t.Fatalf("%d bytes allocated for a body of %d", used, len(body))
		}
		_ = req.AppendTo(nil)
	})
}

func BenchmarkGuard(b *testing.B) {
	for _, c := range []struct {
		name    string
		key     Key
		version int16
		body    []byte
	}{
		{"produce 1 MiB in 1 partition", KeyProduce, 9, produceBody(1, 1, 1<<20)},
		{"produce 1 MiB in 64 partitions", KeyProduce, 9, produceBody(1, 64, 1<<14)},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := Guard(c.key, c.version, c.body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
