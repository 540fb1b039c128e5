package preview

import (
	"maps"

	"ephemos.dev/deploy/stacks"
	"ephemos.dev/deploy/stacks/platforms"
	"ephemos.dev/deploy/test/graph"
)

// Configuration is that of one of the repository's stacks under full keys: what Pulumi.<stack>.yaml in the folder root sets, overrides in
// its place, and placeholders for what is left to the machine that deploys.
func Configuration(root, stack string, overrides map[string]string) (map[string]string, error) {
	config, err := graph.Configuration(root, stack)
	if err != nil {
		return nil, err
	}
	maps.Copy(config, overrides)
	return config, nil
}

// StackOptions are the options of a preview of one of the repository's stacks.
func StackOptions(root, stack string, overrides map[string]string) (Options, error) {
	config, err := Configuration(root, stack, overrides)
	return Options{Stack: stack, Config: config, Program: stacks.Program(config, platforms.All()...)}, err
}

// Record records one of the repository's stacks without an engine, for what is computed over its resources.
func Record(root, stack string, overrides map[string]string) (recorded *graph.Graph, config map[string]string, err error) {
	if config, err = Configuration(root, stack, overrides); err != nil {
		return nil, nil, err
	}
	recorded, err = graph.Record(stack, stacks.Program(config, platforms.All()...), graph.Update)
	return recorded, config, err
}
