package auth

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/casbin/casbin/v2"
	"github.com/casbin/casbin/v2/constant"
	"github.com/casbin/casbin/v2/model"

	"github.com/quorlog/quorlog/broker"
)

// ErrCasbin: a model or a policy is not what Casbin could decide by.
var ErrCasbin = errors.New("not a usable Casbin file")

// maxCasbinFile bounds a file, in bytes: a decision looks at every rule, so that larger ones would be too slow anyway.
const maxCasbinFile = 4 << 20

// trial is the question that tries a model.
var trial = question{
	who: who{"User:", netip.AddrFrom4([4]byte{127, 0, 0, 1})}, op: broker.Read, resource: broker.Topic("topic"),
}

// casbinFiles are a model and a policy that were read.
type casbinFiles struct {
	modelPath, policyPath string
	modelText             string
	model                 model.Model
	fields                []string // of requests
	rules                 []casbinRule
}

// casbinRule is a rule of the kind that decides.
type casbinRule struct {
	line   int // in the policy's file
	values []string
}

func readCasbin(modelPath, policyPath string) (*casbinFiles, error) {
	text, err := readSmall(modelPath)
	if err != nil {
		return nil, err
	}
	f := &casbinFiles{modelPath: modelPath, policyPath: policyPath, modelText: text}
	if f.model, err = model.NewModelFromString(text); err != nil {
		return nil, f.unparsed(err)
	}
	if err := f.checkModel(); err != nil {
		return nil, err
	}
	text, err = readSmall(policyPath)
	if err != nil {
		return nil, err
	}
	return f, f.readPolicy(text)
}

// readSmall reads a file that is not empty.
func readSmall(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrCasbin, err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxCasbinFile+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: %w", ErrCasbin, err)
	case len(data) > maxCasbinFile:
		return "", fmt.Errorf("%w: %s has more than %d bytes", ErrCasbin, path, maxCasbinFile)
	case len(strings.TrimSpace(string(data))) == 0:
		return "", fmt.Errorf("%w: %s is empty", ErrCasbin, path)
	}
	return string(data), nil
}

// line is where the model defines a key, 1 if it can't be told.
func (f *casbinFiles) line(key string) int {
	for i, l := range strings.Split(f.modelText, "\n") {
		if name, _, found := strings.Cut(l, "="); found && strings.TrimSpace(name) == key {
			return i + 1
		}
	}
	return 1
}

func (f *casbinFiles) fail(path string, line int, format string, args ...any) error {
	return fmt.Errorf("%w: %s:%d: %s", ErrCasbin, path, line, fmt.Sprintf(format, args...))
}

// unparsed is Casbin's error about a model's text, with the line in the place where all errors have it.
func (f *casbinFiles) unparsed(err error) error {
	continued := false
	for i, l := range strings.Split(f.modelText, "\n") {
		l = strings.TrimSpace(l)
		section := strings.HasPrefix(l, "[") && strings.HasSuffix(l, "]")
		definition, _, _ := strings.Cut(strings.ReplaceAll(l, ";", "#"), "#")
		if definition != "" && !section && !continued && !strings.Contains(definition, "=") {
			return f.fail(f.modelPath, i+1, "%q is neither a [section] nor a definition, name = value", definition)
		}
		continued = strings.HasSuffix(l, `\`)
	}
	return fmt.Errorf("%w: %s: %w", ErrCasbin, f.modelPath, err) // of the whole file: a section is missing
}

// casbinEffects are those that Casbin can decide by; it knows no others, and finds that out when it is asked.
var casbinEffects = []string{
	constant.AllowOverrideEffect, constant.DenyOverrideEffect, constant.AllowAndDenyEffect, constant.PriorityEffect, constant.SubjectPriorityEffect,
}

// checkModel refuses what Casbin would notice only when it is asked, or never.
func (f *casbinFiles) checkModel() error {
	for _, section := range []string{"r", "p", "e", "m"} {
		if f.model[section] == nil || f.model[section][section] == nil {
			return f.fail(f.modelPath, 1, "there is no definition of %q", section)
		}
	}
	for _, token := range f.model["r"]["r"].Tokens {
		field := strings.TrimPrefix(token, "r_")
		if casbinFields[field] == nil {
			return f.fail(f.modelPath, f.line("r"), "a request has no %q: there are sub, host, type, name, obj and act", field)
		}
		f.fields = append(f.fields, field)
	}
	if effect := f.model["e"]["e"].Value; !slices.Contains(casbinEffects, effect) {
		return f.fail(f.modelPath, f.line("e"), "Casbin has no such effect: %s", strings.ReplaceAll(effect, "p_eft", "p.eft"))
	}
	for kind, roles := range f.model["g"] {
		if marks := strings.Count(roles.Value, "_"); len(roles.ParamsTokens) == 0 && (marks < 2 || marks > len(roles.Tokens)) {
			return f.fail(f.modelPath, f.line(kind), "roles are defined by _, _ or, in domains, by _, _, _ and not by %s", roles.Value)
		}
	}
	return nil
}

// readPolicy adds the rules. A rule that Casbin would skip, such as one that neither allows nor denies, is an error.
func (f *casbinFiles) readPolicy(text string) error {
	r := csv.NewReader(strings.NewReader(text))
	r.Comment, r.TrimLeadingSpace, r.FieldsPerRecord = '#', true, -1
	for {
		rule, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if bad := (*csv.ParseError)(nil); errors.As(err, &bad) {
			return f.fail(f.policyPath, bad.StartLine, "%v", bad.Err)
		}
		line, _ := r.FieldPos(0)
		if err := f.addRule(line, rule); err != nil {
			return err
		}
	}
	if len(f.rules) == 0 {
		return f.fail(f.policyPath, 1, "there is no rule")
	}
	return nil
}

func (f *casbinFiles) addRule(line int, rule []string) error {
	for i := range rule {
		rule[i] = strings.TrimSpace(rule[i])
	}
	kind, values := rule[0], rule[1:]
	section := kind[:min(1, len(kind))]
	if section != "p" && section != "g" || f.model[section] == nil || f.model[section][kind] == nil {
		return f.fail(f.policyPath, line, "the model does not define %q", kind)
	}
	definition := f.model[section][kind]
	if len(values) != len(definition.Tokens) {
		return f.fail(f.policyPath, line, "%d values where the model defines %d", len(values), len(definition.Tokens))
	}
	if at := slices.Index(definition.Tokens, kind+"_eft"); at >= 0 && values[at] != "allow" && values[at] != "deny" {
		return f.fail(f.policyPath, line, "the effect is %q, neither allow nor deny", values[at])
	}
	if err := f.model.AddPolicy(section, kind, values); err != nil {
		return f.fail(f.policyPath, line, "%v", err)
	}
	if kind == "p" { // what the matcher "m" goes through
		f.rules = append(f.rules, casbinRule{line, values})
	}
	return nil
}

// tryRules has each rule decide alone about just what it names, so that one which can't be evaluated is found now, and not by
// the first request that it concerns. What fails for a rule that has nothing special in just the same way is the matcher's fault.
func (f *casbinFiles) tryRules() error {
	alone := *f
	alone.model = f.model.Copy()
	e, err := alone.enforcer()
	if err != nil {
		return err
	}
	definition := alone.model["p"]["p"]
	try := func(rule []string) (failed string) {
		definition.Policy = [][]string{rule}
		if _, err := e.Enforce(f.about(definition.Tokens, rule)...); err != nil {
			return reason(err)
		}
		return ""
	}
	for _, r := range f.rules {
		switch failed := try(r.values); failed {
		case "":
		case try(f.ordinary(definition.Tokens)):
			return f.fail(f.modelPath, f.line("m"), "%s", failed)
		default:
			return f.fail(f.policyPath, r.line, "%s", failed)
		}
	}
	return nil
}

// ordinary is a rule that names what the trial asks for.
func (f *casbinFiles) ordinary(tokens []string) []string {
	rule := make([]string, len(tokens))
	for i, token := range tokens {
		name := strings.TrimPrefix(token, "p_")
		if field := casbinFields[name]; field != nil {
			rule[i] = field(trial)
		} else if name == "eft" {
			rule[i] = "allow"
		}
	}
	return rule
}

// about are the values of a request that a rule names.
func (f *casbinFiles) about(tokens, rule []string) []any {
	values := make([]any, len(f.fields))
	for i, field := range f.fields {
		values[i] = casbinFields[field](trial)
		// A rule may name a network, a request comes from an address.
		if at := slices.Index(tokens, "p_"+field); at >= 0 && field != "host" {
			values[i] = rule[at]
		}
	}
	return values
}

// enforcer is ready to be asked.
func (f *casbinFiles) enforcer() (*casbin.Enforcer, error) {
	e, err := casbin.NewEnforcer(f.model)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCasbin, f.modelPath, err)
	}
	e.AddFunction("implies", implies)
	if err := e.BuildRoleLinks(); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCasbin, f.policyPath, err)
	}
	return e, nil
}
