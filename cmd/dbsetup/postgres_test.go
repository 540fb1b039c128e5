package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/test/freeport"
	"ephemos.dev/deploy/toolchain"
)

// A postgres is a server like one of RDS: TLS only, a master user who is no superuser, and the role rds_iam, which that user may give.
// Signing in by IAM is what only RDS has.
type postgres struct {
	port   int
	ca     []byte
	master credential
	// super signs in as the superuser, whom RDS gives to nobody.
	super *pgx.Conn
}

// programs returns the folder of Postgres' programs and the libraries that they need besides the machine's: those in the folder that
// EPHEMOS_POSTGRES_BIN names, else a copy below dir of what the toolchain has unpacked, whose own folder only its owner can enter.
func programs(t *testing.T, dir string) (bin, libraries string) {
	t.Helper()
	if bin := os.Getenv("EPHEMOS_POSTGRES_BIN"); bin != "" {
		return bin, ""
	}
	// Whoever runs the tests alone need not have built it; `make unit` has, and must not pass over this check.
	missing := t.Skipf
	if os.Getenv("EPHEMOS_REQUIRE_PROGRAMS") != "" {
		missing = t.Fatalf
	}
	built, err := toolchain.Lookup(t.Context(), toolchain.Options{Progress: io.Discard})
	if err != nil {
		missing("EPHEMOS_POSTGRES_BIN is not set and the toolchain cannot be looked up: %v", err)
	}
	root, err := built.RootFS("postgres-server")
	if err != nil {
		missing("EPHEMOS_POSTGRES_BIN is not set and the toolchain has not built postgres-server: %v", err)
	}
	// Postgres finds what else it has beside its programs.
	for _, folder := range []string{"usr/lib/postgresql", "usr/share/postgresql"} {
		require.NoError(t, os.CopyFS(filepath.Join(dir, folder), os.DirFS(filepath.Join(root, folder))))
	}
	libraries = filepath.Join(dir, "libraries")
	require.NoError(t, os.Mkdir(libraries, 0o755))
	found, err := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu/*.so.*"))
	require.NoError(t, err)
	for _, library := range found {
		name := filepath.Base(library)
		// The C library is the machine's, which belongs to its loader; LLVM is large and only for queries longer than these.
		if strings.HasPrefix(name, "libLLVM") || cLibrary.MatchString(name) {
			continue
		}
		content, err := os.ReadFile(library)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(libraries, name), content, 0o755))
	}
	found, err = filepath.Glob(filepath.Join(dir, "usr/lib/postgresql/*/bin/initdb"))
	require.NoError(t, err)
	require.Len(t, found, 1)
	return filepath.Dir(found[0]), libraries
}

var cLibrary = regexp.MustCompile(`^(ld-linux.*|lib(c|m|dl|rt|pthread|resolv|util|anl|nsl|nss_.*|thread_db|BrokenLocale|mvec))\.so\.`)

func startPostgres(t *testing.T) *postgres {
	t.Helper()
	dir, err := os.MkdirTemp("", "dbsetup")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	bin, libraries := programs(t, dir)
	// Postgres does not run as root.
	var user *syscall.SysProcAttr
	if os.Geteuid() == 0 {
		const nobody = 65534
		user = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		require.NoError(t, os.Chown(dir, nobody, nobody))
	}
	command := func(program string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, program), args...)
		cmd.Dir, cmd.SysProcAttr = dir, user
		if libraries != "" {
			cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+libraries)
		}
		return cmd
	}
	data := filepath.Join(dir, "data")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "password"), []byte("super"), 0o644))
	out, err := command("initdb", "-D", data, "-U", "super", "--pwfile", filepath.Join(dir, "password"), "-A", "scram-sha-256", "--no-sync", "--locale=C").CombinedOutput()
	require.NoError(t, err, "%s", out)

	p := &postgres{port: freeport.Take(t), master: credential{"master", "it's a \\ secret"}}
	var certificate, key []byte
	p.ca, certificate, key = certificates(t)
	for name, content := range map[string][]byte{
		"server.crt": certificate, "server.key": key,
		"pg_hba.conf": []byte("hostssl all all all scram-sha-256\n"),
	} {
		file := filepath.Join(data, name)
		require.NoError(t, os.WriteFile(file, content, 0o600))
		require.NoError(t, os.Chmod(file, 0o600))
		if user != nil {
			require.NoError(t, os.Chown(file, int(user.Credential.Uid), int(user.Credential.Gid)))
		}
	}
	server := command("postgres", "-D", data, "-p", strconv.Itoa(p.port), "-h", "127.0.0.1", "-k", "", "-c", "ssl=on", "-c", "fsync=off")
	log, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	server.Stdout, server.Stderr = log, log
	require.NoError(t, server.Start())
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGQUIT)
		_ = server.Wait()
		_ = log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("postgres:\n%s", text)
		}
	})
	require.Eventually(t, func() bool {
		p.super, err = connect(t.Context(), p.config(t), credential{"super", "super"})
		return err == nil
	}, time.Minute, 50*time.Millisecond, "%v", err)
	for _, statement := range []string{
		"CREATE ROLE rds_iam NOLOGIN",
		"CREATE ROLE master LOGIN CREATEDB CREATEROLE PASSWORD 'it''s a \\ secret'",
		"GRANT rds_iam TO master WITH ADMIN OPTION",
	} {
		p.exec(t, statement)
	}
	return p
}

func (p *postgres) exec(t *testing.T, statement string) {
	t.Helper()
	_, err := p.super.Exec(t.Context(), statement)
	require.NoError(t, err, statement)
}

// config is that of a run against the server.
func (p *postgres) config(t *testing.T) Config {
	t.Helper()
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(p.ca))
	return Config{Host: "localhost", Port: p.port, Database: "spire", Role: "spire", Roots: roots, SecretARN: secret, Region: "eu-central-1", Deadline: 5 * time.Second}
}

// certificates are a CA's and one for localhost with its key.
func certificates(t *testing.T) (ca, certificate, key []byte) {
	t.Helper()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "rds"}, NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, caKey.Public(), caKey)
	require.NoError(t, err)
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	leafDER, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "db"}, NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
	}, root, leafKey.Public(), caKey)
	require.NoError(t, err)
	keyDER, err := x509.MarshalECPrivateKey(leafKey)
	require.NoError(t, err)
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	return block("CERTIFICATE", rootDER), block("CERTIFICATE", leafDER), block("EC PRIVATE KEY", keyDER)
}

// role is what there is of a role.
func (p *postgres) role(t *testing.T, name string) string {
	t.Helper()
	var text string
	require.NoError(t, p.super.QueryRow(t.Context(), `SELECT format('login=%s super=%s createdb=%s createrole=%s password=%s iam=%s',
		rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolpassword IS NOT NULL, pg_has_role(rolname, 'rds_iam', 'MEMBER'))
		FROM pg_authid WHERE rolname = $1`, name).Scan(&text))
	return text
}

// database is who owns a database, and whether anyone may connect to it.
func (p *postgres) database(t *testing.T, name string) string {
	t.Helper()
	var text string
	require.NoError(t, p.super.QueryRow(t.Context(), `SELECT format('owner=%s stranger=%s', pg_get_userbyid(datdba), has_database_privilege('stranger', datname, 'CONNECT'))
		FROM pg_database WHERE datname = $1`, name).Scan(&text))
	return text
}
