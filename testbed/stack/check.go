package stack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"ephemos.dev/deploy/stacks"
	"sigs.k8s.io/yaml"
)

// Check refuses a bad Pulumi.local.yaml before anything is built or started. What the testbed itself fills in later, such as the
// kubeconfig, is not looked at.
func Check(root string) error {
	name := filepath.Join(root, "Pulumi."+Name+".yaml")
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var file struct {
		Config map[string]any `json:"config"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	values, secret := map[string]string{}, map[string]bool{}
	for key, value := range file.Config {
		switch v := value.(type) {
		case map[string]any, []any:
			_, secret[key] = value.(map[string]any) // an encrypted value; the engine decrypts it later
		default:
			values[key] = fmt.Sprint(v)
		}
	}
	_, err = stacks.Parse(Name, values, func(key string) bool { return secret[key] }, os.Getenv)
	all, ok := errors.AsType[stacks.ConfigErrors](err)
	if !ok {
		return err
	}
	var left stacks.ConfigErrors
	for _, e := range all {
		if c, ok := errors.AsType[*stacks.ConfigError](e); ok && filledIn[c.Key] {
			continue
		}
		left = append(left, e)
	}
	if len(left) > 0 {
		return fmt.Errorf("%s is refused, nothing was started:\n%w", filepath.Base(name), left)
	}
	return nil
}

// filledIn are the keys that the testbed sets itself.
var filledIn = map[string]bool{"kubeconfig": true, "kubeContext": true, "imagesFile": true, "imageRegistry": true}
