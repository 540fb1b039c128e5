package debian

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMirrors(t *testing.T) {
	const mirror = "http://mirror.example.org/debian"
	const security = "http://mirror.example.org/debian-security"
	tests := []struct {
		name  string
		files map[string]string // below /etc/apt
		want  []Source
	}{
		{
			name: "one-line with options, comments and other lists",
			files: map[string]string{
				"sources.list": "# deb http://old.example/debian trixie main\n" +
					"deb\t[ arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg ] " + mirror + " trixie main contrib # ours\n" +
					"deb-src " + mirror + " trixie main\n" +
					"deb " + security + " trixie-security main\n" +
					"deb " + mirror + " trixie-backports main\n" +
					"deb cdrom:[Debian]/ trixie main\n",
				"sources.list.d/docker.list":   "deb [signed-by=/etc/apt/keyrings/docker.asc] http://docker.example/linux/debian trixie stable\n",
				"sources.list.d/vendor.list":   "deb [signed-by=/etc/apt/keyrings/vendor.gpg] http://vendor.example/apt trixie main\n",
				"sources.list.d/off.list.save": "deb http://never.example trixie main\n",
			},
			want: []Source{{mirror, "bookworm"}, {security, "bookworm-security"}},
		},
		{
			name: "deb822 with comments between lines, several suites and a disabled stanza",
			files: map[string]string{"sources.list.d/debian.sources": "Types: deb deb-src\n" +
				"# http://snapshot.example/debian\n" +
				"URIs: " + mirror + "\n" +
				"Suites: bookworm\n" +
				"# the next line continues Suites\n" +
				" bookworm-updates\n" +
				"Components: main\n" +
				"Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n" +
				"\n" +
				"Enabled: no\nTypes: deb\nURIs: http://off.example/debian\nSuites: bookworm\nComponents: main\n" +
				"\n\n" +
				"types: deb\nuris: " + security + "\nsuites: bookworm-security\ncomponents: main contrib\n",
				"sources.list.d/node.sources": "Types: deb\nURIs: http://node.example\nSuites: nodistro\nComponents: main\n",
				"sources.list.d/key.sources": "Types: deb\nURIs: http://key.example\nSuites: bookworm\nComponents: main\nSigned-By:\n" +
					" -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQ==\n -----END PGP PUBLIC KEY BLOCK-----\n",
			},
			want: []Source{{mirror, "bookworm"}, {mirror, "bookworm-updates"}, {security, "bookworm-security"}},
		},
		{
			name: "the same source twice counts once",
			files: map[string]string{
				"sources.list":                 "deb " + mirror + " bookworm main\n",
				"sources.list.d/debian.list":   "deb " + mirror + " bookworm main\n",
				"sources.list.d/empty.sources": "\n",
			},
			want: []Source{{mirror, "bookworm"}},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			codename := "bookworm"
			if _, ok := test.files["sources.list.d/docker.list"]; ok {
				codename = "trixie"
			}
			got, err := Mirrors(writeFiles(t, test.files), codename)
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
}

func TestMirrorsErrors(t *testing.T) {
	tests := []struct {
		name, file, content, want string
	}{
		{"nothing", "sources.list", "", "no source of Debian's own in"},
		{"other release", "sources.list", "deb http://mirror.example.org/debian sid main", "suite bookworm, component main"},
		{"open bracket", "sources.list", "\ndeb [arch=amd64 http://x bookworm main", "line 2: options without a closing bracket"},
		{"no suite", "sources.list", "deb http://x", "line 1: want deb, a URI and a suite"},
		{"no colon", "sources.list.d/a.sources", "Types deb", `line 1: want "Key: value"`},
		{"continues nothing", "sources.list.d/a.sources", " deb", "line 1: continues nothing"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Mirrors(writeFiles(t, map[string]string{test.file: test.content}), "bookworm")
			require.ErrorContains(t, err, test.want)
		})
	}
}

func FuzzDeb822(f *testing.F) {
	f.Add("Types: deb\nURIs: http://a\nSuites: b\n c\n\n#\n")
	f.Fuzz(func(t *testing.T, text string) {
		dir := writeFiles(t, map[string]string{"sources.list.d/x.sources": text, "sources.list": text})
		if mirrors, err := Mirrors(dir, "bookworm"); err == nil {
			require.NotEmpty(t, mirrors)
		}
	})
}

func TestRelease(t *testing.T) {
	dir := writeFiles(t, map[string]string{"os-release": "PRETTY_NAME=\"x\"\nID=debian\nVERSION_CODENAME=\"bookworm\"\n"})
	id, codename, err := Release(filepath.Join(dir, "os-release"))
	require.NoError(t, err)
	require.Equal(t, "debian", id)
	require.Equal(t, "bookworm", codename)
}

func TestLine(t *testing.T) {
	require.Equal(t, "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://a bookworm-security main",
		Source{"http://a", "bookworm-security"}.Line())
}

func TestCarried(t *testing.T) {
	for key, want := range map[string]bool{
		"Acquire::Check-Valid-Until":               true,
		"Acquire::http::Proxy::mirror.example.org": true,
		"Acquire::https::CaInfo":                   true,
		"Acquire::AllowInsecureRepositories":       false,
		"Acquire::Languages::":                     false,
	} {
		require.Equal(t, want, carried(key), key)
	}
}

func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
	}
	return dir
}
