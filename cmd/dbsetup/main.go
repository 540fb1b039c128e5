// Command dbsetup prepares a Postgres of Amazon RDS for the SPIRE servers: a role that signs in by IAM, and a database that belongs
// to it. It runs as a Job in the cluster, because nobody else reaches the database.
//
// In: the database's address and the ARN of its master user's secret, as environment variables (Config); the Job's role in AWS, which
// may read that secret. Out: the role and the database, as they should be, whatever was there before, and a log in JSON. A second
// run changes nothing. It tries again until its deadline, reading the secret anew each time: a database that has just been made may
// not answer yet, and the secret may be about to change. It never logs the secret.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

func main() { os.Exit(start(os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr)) }

// start returns the exit status: 0 when the database is ready, 1 after a failure, 2 when the configuration is wrong.
func start(args []string, env func(string) (string, bool), out, usage io.Writer) int {
	if len(args) > 0 {
		fmt.Fprintf(usage, "dbsetup: unknown argument %q: it takes none\n", args[0])
		return 2
	}
	config, err := ParseConfig(env, os.ReadFile)
	if err != nil {
		fmt.Fprintf(usage, "dbsetup: the configuration is wrong:\n%v\n", err)
		return 2
	}
	log := slog.New(slog.NewJSONHandler(out, nil)).With("service", "dbsetup", "database", config.Database, "host", config.Host)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	read := func(ctx context.Context) (credential, error) {
		access, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithRegion(config.Region))
		if err != nil {
			return credential{}, fmt.Errorf("AWS: %w", err)
		}
		return readSecret(ctx, secretsmanager.NewFromConfig(access), config.SecretARN)
	}
	if err := run(ctx, config, read, log); err != nil {
		log.Error("Database not prepared", "error", err.Error())
		return 1
	}
	return 0
}

// pauses between attempts grow from the first to the last.
const (
	firstPause = time.Second
	lastPause  = 10 * time.Second
	// attempt bounds one of them.
	attempt = time.Minute
)

// run prepares the database, trying until the deadline.
func run(ctx context.Context, config Config, read func(context.Context) (credential, error), log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, config.Deadline)
	defer cancel()
	for n, pause := 1, firstPause; ; n, pause = n+1, min(2*pause, lastPause) {
		err := try(ctx, config, read, log)
		if err == nil {
			return nil
		}
		if final := (*unfitError)(nil); errors.As(err, &final) {
			return err
		}
		log.Warn("Attempt failed", "attempt", n, "error", err.Error())
		select {
		case <-ctx.Done():
			return fmt.Errorf("given up after %d attempts in at most %s: %w", n, config.Deadline, err)
		case <-time.After(pause):
		}
	}
}

func try(ctx context.Context, config Config, read func(context.Context) (credential, error), log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	master, err := read(ctx)
	if err != nil {
		return err
	}
	return prepare(ctx, config, master, log)
}

// A credential is the master user's.
type credential struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// LogValue keeps the password out of any log.
func (c credential) LogValue() slog.Value { return slog.StringValue(c.Username) }

// A secretReader is the part of Secrets Manager that is used.
type secretReader interface {
	GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)
}

// readSecret reads a secret as RDS keeps that of its master user.
func readSecret(ctx context.Context, client secretReader, arn string) (credential, error) {
	answer, err := client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String(arn)})
	if err != nil {
		return credential{}, fmt.Errorf("secret: %w", err)
	}
	var c credential
	// The error of the decoder may quote what it read.
	if json.Unmarshal([]byte(aws.ToString(answer.SecretString)), &c) != nil || c.Username == "" || c.Password == "" {
		return credential{}, fmt.Errorf("secret: %s is not JSON with username and password", arn)
	}
	return c, nil
}
