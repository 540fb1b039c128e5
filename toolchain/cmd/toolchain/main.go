// Command toolchain builds the programs and images of the local stack into the cache and tells where they are.
//
//	toolchain [build] [GROUP|NAME ...]   build what is missing; default: all
//	toolchain images                     print image names and references as JSON
//	toolchain list                       print programs and root filesystems as JSON, name to path
//	toolchain path NAME                  print the path of one program, image archive or root filesystem
//	toolchain push REGISTRY              copy the images to a registry and print their references there as JSON,
//	                                     by digest: a file for the stack's ephemos:imagesFile
//
// Only build and push build something. The groups are testbed, stack, check, test, aws and all.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"syscall"

	"ephemos.dev/deploy/toolchain"
)

const usage = "usage: toolchain [build [GROUP|NAME ...] | images | list | path NAME | push REGISTRY]"

// interrupted is the exit status after Ctrl-C, as shells have it: 128 and the signal's number.
const interrupted = 128 + int(syscall.SIGINT)

var errUsage = errors.New(usage)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := execute(ctx, os.Args[1:], os.Stdout)
	stopped := ctx.Err() != nil
	stop()
	switch {
	case err == nil:
	case stopped:
		fmt.Fprintln(os.Stderr, "interrupted")
		os.Exit(interrupted)
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func execute(ctx context.Context, args []string, out io.Writer) error {
	command := "build"
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	switch {
	case command == "build":
		groups := make([]toolchain.Group, len(args))
		for i, arg := range args {
			groups[i] = toolchain.Group(arg)
		}
		_, err := toolchain.Ensure(ctx, toolchain.Options{}, groups...)
		return err
	case command == "images" && len(args) == 0:
		result, err := toolchain.Lookup(ctx, toolchain.Options{})
		if err != nil {
			return err
		}
		return printJSON(out, result.ImageRefs())
	case command == "list" && len(args) == 0:
		result, err := toolchain.Lookup(ctx, toolchain.Options{})
		if err != nil {
			return err
		}
		paths := result.Programs()
		maps.Copy(paths, result.RootFilesystems())
		return printJSON(out, paths)
	case command == "path" && len(args) == 1:
		result, err := toolchain.Lookup(ctx, toolchain.Options{})
		if err != nil {
			return err
		}
		path, err := find(result, args[0])
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(out, path)
		return err
	case command == "push" && len(args) == 1:
		result, err := toolchain.Ensure(ctx, toolchain.Options{}, toolchain.GroupStack, toolchain.GroupAWS)
		if err != nil {
			return err
		}
		refs, err := result.Push(ctx, args[0])
		if err != nil {
			return err
		}
		return printJSON(out, refs)
	}
	return errUsage
}

// find returns the path of what has the name, programs first.
func find(result *toolchain.Result, name string) (string, error) {
	if path, err := result.Program(name); err == nil {
		return path, nil
	}
	if image, err := result.Image(name); err == nil {
		return image.Archive, nil
	}
	if dir, err := result.RootFS(name); err == nil {
		return dir, nil
	}
	return "", fmt.Errorf("%s is not in the cache: build it with \"toolchain build %s\"", name, name)
}

func printJSON(out io.Writer, v any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}
