package config

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/toolchain"
)

// program returns the path of a SPIRE program: the one that an environment
// variable names, else the one that the toolchain has built.
func program(t *testing.T, name string) string {
	t.Helper()
	env := "EPHEMOS_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	if path := os.Getenv(env); path != "" {
		return path
	}
	// Whoever runs the tests alone need not have built SPIRE; `make unit` has, and must not pass over this check.
	missing := t.Skipf
	if os.Getenv("EPHEMOS_REQUIRE_PROGRAMS") != "" {
		missing = t.Fatalf
	}
	built, err := toolchain.Lookup(context.Background(), toolchain.Options{Progress: io.Discard})
	if err != nil {
		missing("%s is not set and the toolchain cannot be looked up: %v", env, err)
	}
	path, err := built.Program(name)
	if err != nil {
		missing("%s is not set and the toolchain has not built %s: %v", env, name, err)
	}
	return path
}

// TestProgramsAccept passes every rendered file through the validation of the
// program that reads it.
func TestProgramsAccept(t *testing.T) {
	for _, c := range rendered {
		if c.program == "" {
			continue
		}
		t.Run(c.golden, func(t *testing.T) {
			text, err := c.config.Render()
			require.NoError(t, err)
			out, err := validate(t, c.program, text, flagsOf(c.config)...)
			require.NoError(t, err, "%s\n%s", out, text)
		})
	}
}

// TestProgramsRefuse holds that the validation of the programs notices a
// mistake, or TestProgramsAccept would show nothing.
func TestProgramsRefuse(t *testing.T) {
	for _, c := range []struct {
		name, program, old, new string
		config                  renderer
	}{
		{"server block", "spire-server", `log_format = "json"`, `audit = "x"`, minimalServer()},
		{"attestor", "spire-server", `service_account_allow_list = ["spire-agent:spire-agent"]`, ``, minimalServer()},
		{"database type", "spire-server", `database_type "aws_postgres"`, `database_type "aws_postgresql"`, awsNamedServer()},
		{"keys", "spire-server", `key_identifier_file = "/run/spire/data/key-identifier"`, ``, awsNamedServer()},
		{"upstream", "spire-server", `certificate_authority_arn`, `certificate_authority`, awsNamedServer()},
		{"agent block", "spire-agent", `log_format = "json"`, `workload_api = "x"`, minimalAgent()},
		{"agent value", "spire-agent", `rebootstrap_mode = "auto"`, `rebootstrap_mode = "soon"`, minimalAgent()},
	} {
		t.Run(c.name, func(t *testing.T) {
			text, err := c.config.Render()
			require.NoError(t, err)
			require.Contains(t, text, c.old)
			out, err := validate(t, c.program, strings.Replace(text, c.old, c.new, 1))
			var refused *exec.ExitError
			require.ErrorAs(t, err, &refused, "%s", out)
		})
	}
}

// flagsOf are the flags with which a program reads a configuration: the one for variables when there are any.
func flagsOf(c renderer) []string {
	if s, ok := c.(Server); ok && len(s.Environment()) > 0 {
		return []string{"-expandEnv"}
	}
	return nil
}

// TestProgramExpands holds that the server puts the variables in before it validates: without, or without a value, it refuses.
func TestProgramExpands(t *testing.T) {
	text, err := awsServer().Render()
	require.NoError(t, err)
	out, err := validate(t, "spire-server", text)
	require.Error(t, err)
	require.Contains(t, out, "Key identifier must contain only")
	without := environment["SPIRE_UPSTREAM_CA_ARN"]
	environment["SPIRE_UPSTREAM_CA_ARN"] = ""
	defer func() { environment["SPIRE_UPSTREAM_CA_ARN"] = without }()
	out, err = validate(t, "spire-server", text, "-expandEnv")
	require.Error(t, err)
	require.Contains(t, out, "certificate_authority_arn")
}

func validate(t *testing.T, name, text string, flags ...string) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), name+".conf")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	cmd := exec.CommandContext(t.Context(), program(t, name), append([]string{"validate", "-config", file}, flags...)...)
	for key, value := range environment {
		cmd.Env = append(cmd.Env, key+"="+value)
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}
