package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/test/freeport"
)

const secret = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds!cluster-1"

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

const wanted = "login=t super=f createdb=f createrole=f password=f iam=t"

// TestPrepare runs against a real Postgres.
func TestPrepare(t *testing.T) {
	p := startPostgres(t)
	p.exec(t, "CREATE ROLE stranger LOGIN")
	var log bytes.Buffer
	prepared := func(t *testing.T, change func(*Config)) (string, string) {
		t.Helper()
		log.Reset()
		c := p.config(t)
		change(&c)
		require.NoError(t, run(t.Context(), c, func(context.Context) (credential, error) { return p.master, nil }, slog.New(slog.NewJSONHandler(&log, nil))))
		require.NotContains(t, log.String(), "secret")
		// The master user is no member for longer than it takes.
		var member bool
		require.NoError(t, p.super.QueryRow(t.Context(), "SELECT pg_has_role('master', $1, 'MEMBER')", c.Role).Scan(&member))
		require.False(t, member)
		return p.role(t, c.Role), p.database(t, c.Database)
	}
	line := func(t *testing.T) map[string]any {
		t.Helper()
		var fields map[string]any
		require.NoError(t, json.Unmarshal(log.Bytes(), &fields), "one line: %s", log.String())
		return fields
	}

	t.Run("nothing there", func(t *testing.T) {
		role, database := prepared(t, func(*Config) {})
		require.Equal(t, wanted, role)
		require.Equal(t, "owner=spire stranger=f", database)
		require.Equal(t, true, line(t)["roleMade"])
		require.Equal(t, true, line(t)["databaseChanged"])
	})
	t.Run("again", func(t *testing.T) {
		role, database := prepared(t, func(*Config) {})
		require.Equal(t, wanted, role)
		require.Equal(t, "owner=spire stranger=f", database)
		require.Equal(t, false, line(t)["roleMade"])
		require.Equal(t, false, line(t)["databaseChanged"])
	})
	t.Run("database of the master user", func(t *testing.T) { // as RDS makes it with the cluster
		p.exec(t, "CREATE DATABASE made OWNER master")
		role, database := prepared(t, func(c *Config) { c.Role, c.Database = "other", "made" })
		require.Equal(t, wanted, role)
		require.Equal(t, "owner=other stranger=f", database)
	})
	t.Run("role with more than it needs", func(t *testing.T) {
		p.exec(t, "CREATE ROLE wide LOGIN CREATEDB CREATEROLE PASSWORD 'x'")
		role, _ := prepared(t, func(c *Config) { c.Role, c.Database = "wide", "wide" })
		require.Equal(t, wanted, role)
	})
	t.Run("run that was cut short", func(t *testing.T) {
		p.exec(t, "GRANT spire TO master")
		prepared(t, func(*Config) {})
	})
	t.Run("owner can migrate", func(t *testing.T) {
		// Not by IAM, which is not here: the superuser takes the role.
		c := p.config(t)
		c.Role = "unused"
		conn, err := connect(t.Context(), c, credential{"super", "super"})
		require.NoError(t, err)
		defer conn.Close(context.Background())
		for _, right := range []string{"CREATE", "CONNECT", "TEMP"} {
			var may bool
			require.NoError(t, conn.QueryRow(t.Context(), "SELECT has_database_privilege('spire', 'spire', $1)", right).Scan(&may))
			require.True(t, may, right)
		}
	})

	refused := func(t *testing.T, change func(*Config), master credential) error {
		t.Helper()
		c := p.config(t)
		c.Deadline = 2 * time.Second
		change(&c)
		start := time.Now()
		err := run(t.Context(), c, func(context.Context) (credential, error) { return master, nil }, discard())
		require.Error(t, err)
		require.NotContains(t, err.Error(), master.Password)
		require.Less(t, time.Since(start), 10*time.Second, "the deadline holds")
		return err
	}
	t.Run("wrong password", func(t *testing.T) {
		require.ErrorContains(t, refused(t, func(*Config) {}, credential{"master", "wrong-pw"}), "given up after")
	})
	t.Run("unverified certificate", func(t *testing.T) {
		err := refused(t, func(c *Config) { c.Roots = x509.NewCertPool() }, p.master)
		var unknown x509.UnknownAuthorityError
		require.True(t, errors.As(err, &unknown), "%v", err)
	})
	t.Run("other host's certificate", func(t *testing.T) {
		err := refused(t, func(c *Config) { c.Host = "127.0.0.1" }, p.master)
		var name x509.HostnameError
		require.True(t, errors.As(err, &name), "%v", err)
	})
	t.Run("superuser as the role", func(t *testing.T) {
		err := refused(t, func(c *Config) { c.Role = "super" }, p.master)
		require.ErrorContains(t, err, "superuser")
		require.NotContains(t, err.Error(), "given up", "no attempt mends it")
	})
	t.Run("master user as the role", func(t *testing.T) {
		require.ErrorContains(t, refused(t, func(c *Config) { c.Role = "master" }, p.master), "master user")
	})
	t.Run("reader", func(t *testing.T) {
		p.exec(t, "ALTER SYSTEM SET default_transaction_read_only = on")
		p.exec(t, "SELECT pg_reload_conf()")
		defer func() {
			p.exec(t, "SET default_transaction_read_only = off")
			p.exec(t, "ALTER SYSTEM RESET default_transaction_read_only")
			p.exec(t, "SELECT pg_reload_conf()")
		}()
		require.ErrorContains(t, refused(t, func(*Config) {}, p.master), "read only")
	})
	t.Run("no database of RDS", func(t *testing.T) {
		p.exec(t, "ALTER ROLE rds_iam RENAME TO not_iam")
		defer p.exec(t, "ALTER ROLE not_iam RENAME TO rds_iam")
		require.ErrorContains(t, refused(t, func(*Config) {}, p.master), "not a database of RDS")
	})
}

// TestTriesAgain holds that the secret is read anew for each attempt, and that the last error is what is reported.
func TestTriesAgain(t *testing.T) {
	reads := 0
	config := Config{Host: "localhost", Port: freeport.Take(t), Role: "spire", Database: "spire", Roots: x509.NewCertPool(), Deadline: 2 * time.Second}
	err := run(t.Context(), config, func(context.Context) (credential, error) {
		reads++
		if reads == 1 {
			return credential{}, errors.New("no secret yet")
		}
		return credential{"master", "hidden"}, nil
	}, discard())
	require.Equal(t, 2, reads)
	var refusal *net.OpError
	require.ErrorAs(t, err, &refusal)
	require.NotContains(t, err.Error(), "hidden")
}

// TestReadSecret holds the request to Secrets Manager and what is taken as an answer.
func TestReadSecret(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"as RDS keeps it", `{"username":"postgres","password":"p"}`, ""},
		{"not JSON", `p4ssword`, "not JSON"},
		{"no password", `{"username":"postgres","other":"p4ssword"}`, "username and password"},
		{"nothing", ``, "not JSON"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var body struct {
					SecretID string `json:"SecretId"`
				}
				_ = json.NewDecoder(r.Body).Decode(&body)
				if body.SecretID != secret || r.Header.Get("X-Amz-Target") != "secretsmanager.GetSecretValue" {
					w.WriteHeader(http.StatusBadRequest)
					return
				}
				_ = json.NewEncoder(w).Encode(map[string]string{"SecretString": c.text})
			}))
			defer server.Close()
			client := secretsmanager.New(secretsmanager.Options{
				Region: "eu-central-1", BaseEndpoint: aws.String(server.URL),
				Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
					return aws.Credentials{AccessKeyID: "a", SecretAccessKey: "b"}, nil
				}),
			})
			got, err := readSecret(t.Context(), client, secret)
			if c.want != "" {
				require.ErrorContains(t, err, c.want)
				require.NotContains(t, err.Error(), "p4ssword")
				return
			}
			require.NoError(t, err)
			require.Equal(t, credential{"postgres", "p"}, got)
		})
	}
}

func TestPasswordIsNotLogged(t *testing.T) {
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "credential", credential{"master", "hidden"})
	require.NotContains(t, out.String(), "hidden")
}

func TestParseConfig(t *testing.T) {
	ca, _, _ := certificates(t)
	file := t.TempDir() + "/ca.pem"
	require.NoError(t, os.WriteFile(file, ca, 0o600))
	valid := func() map[string]string {
		return map[string]string{"DATABASE_HOST": "db.eu-central-1.rds.amazonaws.com", "DATABASE_CA_FILE": file, "MASTER_SECRET_ARN": secret, "AWS_REGION": "eu-central-1"}
	}
	parse := func(env map[string]string) (Config, error) {
		return ParseConfig(func(key string) (string, bool) { v, ok := env[key]; return v, ok }, os.ReadFile)
	}
	c, err := parse(valid())
	require.NoError(t, err)
	require.Equal(t, []any{5432, "spire", "spire", 5 * time.Minute}, []any{c.Port, c.Database, c.Role, c.Deadline})

	for key, value := range map[string]string{
		"DATABASE_HOST": "db:5432", "DATABASE_PORT": "0", "DATABASE_NAME": `a"b`, "DATABASE_ROLE": "Robert'); DROP", "DATABASE_CA_FILE": "/none",
		"MASTER_SECRET_ARN": "secret", "AWS_REGION": "", "DEADLINE": "0s",
	} {
		env := valid()
		env[key] = value
		_, err := parse(env)
		require.ErrorContains(t, err, key+":")
		require.Len(t, strings.Split(err.Error(), "\n"), 1)
	}
	_, err = parse(nil)
	require.Len(t, strings.Split(err.Error(), "\n"), 4, "%v", err)
	require.Equal(t, 2, start(nil, func(string) (string, bool) { return "", false }, &bytes.Buffer{}, &bytes.Buffer{}))
	require.Equal(t, 2, start([]string{"x"}, os.LookupEnv, &bytes.Buffer{}, &bytes.Buffer{}))
}
