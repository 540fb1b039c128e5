package graph

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// StackConfig reads the configuration of a stack as the Pulumi CLI hands it to
// the program: what Pulumi.<stack>.yaml in dir sets, under full keys. Encrypted
// values become a mask.
func StackConfig(dir, stack string) (map[string]string, error) {
	content, err := os.ReadFile(filepath.Join(dir, "Pulumi."+stack+".yaml"))
	if err != nil {
		return nil, err
	}
	var file struct {
		Config map[string]any `json:"config"`
	}
	if err := yaml.Unmarshal(content, &file); err != nil {
		return nil, fmt.Errorf("Pulumi.%s.yaml: %w", stack, err)
	}
	config := map[string]string{}
	for key, value := range file.Config {
		if !strings.Contains(key, ":") {
			key = Project + ":" + key
		}
		switch v := value.(type) {
		case string:
			config[key] = v
		case map[string]any:
			if _, secure := v["secure"]; secure && len(v) == 1 {
				config[key] = maskSecret
				continue
			}
			config[key] = asJSON(v)
		default:
			config[key] = asJSON(v)
		}
	}
	return config, nil
}

func asJSON(v any) string {
	content, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(content)
}

// Placeholders are what a recording needs and a stack file leaves to the machine
// that deploys: a kubeconfig, which is read and not used, and a registry for the
// images that have no public one. dir is the root of the repository.
func Placeholders(dir string) map[string]string {
	return map[string]string{
		Project + ":kubeconfig":    filepath.Join(dir, "test", "graph", "testdata", "kubeconfig.yaml"),
		Project + ":imageRegistry": "registry.example.com/ephemos",
	}
}
