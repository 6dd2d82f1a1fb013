// Command gen makes package grpcapi/v1 and the OpenAPI page from the protos:
//
//	go run ./grpcapi/gen [-out directory]
//
// It needs no protoc: protocompile reads the protos, and the generators are tools of this module (go tool).
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

const (
	modulePath = "module=github.com/quorlog/quorlog/grpcapi"
	httpRules  = "grpc_api_configuration=" // and the file
)

var protos = []string{"quorlog/v1/records.proto", "quorlog/v1/admin.proto"}

func main() {
	root := flag.String("root", "grpcapi", "the directory of the gRPC API")
	out := flag.String("out", "", "where to write; the root by default")
	flag.Parse()
	if *out == "" {
		*out = *root
	}
	if err := generate(context.Background(), *root, *out); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// generate compiles the protos and runs each generator on them.
func generate(ctx context.Context, root, out string) error {
	files, err := compile(ctx, filepath.Join(root, "proto"))
	if err != nil {
		return err
	}
	rules := httpRules + filepath.Join(root, "proto", "http.yaml")
	for _, g := range []struct {
		tool    string
		options []string
	}{
		{"protoc-gen-go", []string{modulePath}},
		{"protoc-gen-go-grpc", []string{modulePath}},
		{"protoc-gen-grpc-gateway", []string{modulePath, rules}},
		{"protoc-gen-openapiv2", []string{rules, "allow_merge=true", "merge_file_name=v1/quorlog", "json_names_for_fields=true"}},
	} {
		if err := run(ctx, out, g.tool, g.options, files); err != nil {
			return fmt.Errorf("%s: %w", g.tool, err)
		}
	}
	return nil
}

// compile reads the protos, with their comments, which become those of the generated code.
func compile(ctx context.Context, dir string) ([]*descriptorpb.FileDescriptorProto, error) {
	c := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{dir}}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	linked, err := c.Compile(ctx, protos...)
	if err != nil {
		return nil, err
	}
	var out []*descriptorpb.FileDescriptorProto
	for _, f := range linked {
		out = append(out, protodesc.ToFileDescriptorProto(f))
	}
	return out, nil
}

// run gives a generator the protos, as protoc would, and writes the files that it makes.
func run(ctx context.Context, out, tool string, options []string, files []*descriptorpb.FileDescriptorProto) error {
	request, err := proto.Marshal(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: protos, Parameter: proto.String(strings.Join(options, ",")), ProtoFile: files,
	})
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "tool", tool)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(request), os.Stderr
	answer, err := cmd.Output()
	if err != nil {
		return err
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(answer, &response); err != nil {
		return err
	}
	if response.Error != nil {
		return fmt.Errorf("%s", response.GetError())
	}
	for _, f := range response.GetFile() {
		path := filepath.Join(out, f.GetName())
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(f.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
