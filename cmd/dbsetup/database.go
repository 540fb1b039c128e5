package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// maintenance is the database that every cluster of RDS has.
const maintenance = "postgres"

// iamRole is the role whose members sign in with a token of IAM, and only so
// (https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.DBAccounts.html).
const iamRole = "rds_iam"

// lock keeps two runs apart. The number is this program's name.
const lock = 0x6462736574757000

// An unfitError is a state of the database that no further attempt mends.
type unfitError struct{ reason string }

func (e *unfitError) Error() string { return e.reason }

// connect signs in as the master user: verified TLS only, and only to the writer, which after a failover may have another address.
func connect(ctx context.Context, config Config, master credential) (*pgx.Conn, error) {
	// The text sets what the driver would otherwise take from its own environment variables and files.
	c, err := pgx.ParseConfig("host=replaced user=replaced password=replaced dbname=" + maintenance + " sslmode=disable application_name=dbsetup")
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	c.Host, c.Port, c.User, c.Password = config.Host, uint16(config.Port), master.Username, master.Password
	c.TLSConfig = &tls.Config{RootCAs: config.Roots, ServerName: config.Host, MinVersion: tls.VersionTLS12}
	c.Fallbacks = nil
	c.ConnectTimeout = 10 * time.Second
	c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	return conn, nil
}

// prepare provides role and database.
func prepare(ctx context.Context, config Config, master credential, log *slog.Logger) (err error) {
	if config.Role == master.Username {
		return &unfitError{fmt.Sprintf("role %s is the master user, who would be locked out of signing in with a password", config.Role)}
	}
	conn, err := connect(ctx, config, master)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, conn.Close(closing))
	}()
	s := session{ctx: ctx, conn: conn, role: pgx.Identifier{config.Role}.Sanitize(), database: pgx.Identifier{config.Database}.Sanitize()}
	// It ends with the connection.
	s.exec("SELECT pg_advisory_lock($1)", int64(lock))
	made := s.provideRole(config.Role)
	changed := s.provideDatabase(config.Database, config.Role)
	if s.err != nil {
		return s.err
	}
	log.Info("Database prepared", "role", config.Role, "roleMade", made, "databaseChanged", changed)
	return nil
}

// A session runs statements until the first error. Role and database are quoted.
type session struct {
	ctx            context.Context
	conn           *pgx.Conn
	role, database string
	err            error
}

func (s *session) exec(statement string, args ...any) {
	if s.err != nil {
		return
	}
	if _, err := s.conn.Exec(s.ctx, statement, args...); err != nil {
		s.err = fmt.Errorf("%s: %w", statement, err)
	}
}

// row reads one row; there is none when it returns false.
func (s *session) row(query string, args []any, into ...any) bool {
	if s.err != nil {
		return false
	}
	err := s.conn.QueryRow(s.ctx, query, args...).Scan(into...)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		s.err = fmt.Errorf("%s: %w", query, err)
	}
	return err == nil
}

// provideRole makes the role, or takes from one that is there what it should not have. It returns whether it made it.
func (s *session) provideRole(name string) (made bool) {
	var ignored int
	if !s.row("SELECT 1 FROM pg_roles WHERE rolname = $1", []any{iamRole}, &ignored) && s.err == nil {
		s.err = &unfitError{"there is no role " + iamRole + ": it is not a database of RDS"}
	}
	var superuser bool
	known := s.row("SELECT rolsuper FROM pg_roles WHERE rolname = $1", []any{name}, &superuser)
	switch {
	case superuser && s.err == nil:
		s.err = &unfitError{"role " + name + " is a superuser"}
	case !known:
		// Without rights of its own: that is the default.
		s.exec("CREATE ROLE " + s.role + " LOGIN")
	default:
		// It may have been made with more than it needs, and with a password.
		s.exec("ALTER ROLE " + s.role + " LOGIN NOCREATEDB NOCREATEROLE PASSWORD NULL")
	}
	s.exec("GRANT " + iamRole + " TO " + s.role)
	return !known && s.err == nil
}

// provideDatabase makes the database, and gives it to the role and to no one else. It returns whether it changed anything.
func (s *session) provideDatabase(name, role string) (changed bool) {
	var owner string
	var public bool
	// What an access list leaves out, such as one that is NULL, is Postgres' default, which lets everyone in.
	known := s.row(`SELECT pg_get_userbyid(datdba), EXISTS (SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE grantee = 0)
		FROM pg_database WHERE datname = $1`, []any{name}, &owner, &public)
	if s.err != nil {
		return false
	}
	if known && owner == role && !public {
		// Left behind by a run that was cut short.
		s.exec("REVOKE " + s.role + " FROM CURRENT_USER")
		return false
	}
	// Who gives something to a role has to belong to it, for the moment. Superusers do as it is.
	s.exec("GRANT " + s.role + " TO CURRENT_USER")
	if !known {
		s.exec("CREATE DATABASE " + s.database + " OWNER " + s.role)
	} else if owner != role {
		s.exec("ALTER DATABASE " + s.database + " OWNER TO " + s.role)
	}
	s.exec("REVOKE ALL ON DATABASE " + s.database + " FROM PUBLIC")
	s.exec("REVOKE " + s.role + " FROM CURRENT_USER")
	return s.err == nil
}
