package e2e

import (
	"context"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// unitFile returns the settings of a systemd unit; one that stands several times has
// its values joined by newlines.
func unitFile(t *testing.T, text string) map[string]string {
	t.Helper()
	settings := map[string]string{}
	for n, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' || line[0] == '[' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			t.Fatalf("line %d is no setting: %s", n+1, line)
		}
		settings[name] = strings.TrimPrefix(settings[name]+"\n"+value, "\n")
	}
	return settings
}

// TestServiceUnit holds what deploy/traefik/moat.service promises, and lets systemd
// judge it where there is one.
func TestServiceUnit(t *testing.T) {
	text := readDeployed(t, "moat.service")
	settings := unitFile(t, text)
	for name, want := range map[string]string{
		"Type": "notify", "Restart": "always", "DynamicUser": "yes", "Group": "moat-clients", "RuntimeDirectory": "moat", "RuntimeDirectoryMode": "0750",
		"RuntimeDirectoryPreserve": "yes", "NoNewPrivileges": "yes", "PrivateTmp": "yes", "ProtectSystem": "strict", "ProtectHome": "yes",
		"CapabilityBoundingSet": "", "SystemCallArchitectures": "native",
	} {
		if got, ok := settings[name]; !ok || got != want {
			t.Errorf("%s=%s, want %s", name, got, want)
		}
	}

	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("no systemd-analyze here: systemd does not judge the unit")
		return
	}
	program, err := os.Executable() // verify wants one that exists
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "moat.service")
	writeFile(t, file, []byte(replaceOnce(t, text, "/usr/local/bin/moat serve", program+" serve")))
	if out, err := exec.Command(analyze, "verify", "--man=no", file).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("verify: %v\n%s", err, out)
	}
	out, err := exec.Command(analyze, "security", "--offline=true", file).CombinedOutput()
	match := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindSubmatch(out)
	if match == nil {
		t.Logf("systemd does not say how exposed the unit is: %v", err)
		return
	}
	if exposure, _ := strconv.ParseFloat(string(match[1]), 64); exposure > 1.5 {
		t.Errorf("exposure %s, want 1.5 at most\n%s", match[1], out)
	}
}

// composeFile is what the test reads of deploy/traefik/compose.yml.
type composeFile struct {
	Services map[string]struct {
		Image, User string
		Command     []string
		ReadOnly    bool     `yaml:"read_only"`
		CapDrop     []string `yaml:"cap_drop"`
		SecurityOpt []string `yaml:"security_opt"`
		Volumes     []string
	}
}

// TestDaemonCommands starts the daemon with the command of the unit and with that of
// the compose file. It tells that it is ready only when its socket is there, with the
// mode that the command says.
func TestDaemonCommands(t *testing.T) {
	skipShort(t)
	var compose composeFile
	if err := yaml.Unmarshal([]byte(readDeployed(t, "compose.yml")), &compose); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"traefik", "moat"} {
		s := compose.Services[name]
		if s.User != "65532:65532" || !s.ReadOnly || len(s.CapDrop) != 1 || s.CapDrop[0] != "ALL" || len(s.SecurityOpt) != 1 {
			t.Errorf("%s has rights: %+v", name, s)
		}
	}
	unit := strings.Fields(unitFile(t, readDeployed(t, "moat.service"))["ExecStart"])
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		args []string
		mode fs.FileMode
	}{
		"unit":    {unit[1:], 0o660},
		"compose": {compose.Services["moat"].Command, 0o600},
	} {
		t.Run(name, func(t *testing.T) {
			socket := socketPath(t)
			args := strings.Join(tt.args, "\n")
			args = replaceOnce(t, args, "/run/moat/moat.sock", socket)
			args = replaceOnce(t, args, "/etc/moat/policy.yaml", openPolicy(t))
			args = strings.Replace(args, "127.0.0.1:2020", freeAddr(t), 1)

			notify := filepath.Join(filepath.Dir(socket), "notify")
			conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			t.Setenv("NOTIFY_SOCKET", notify)
			p := startProcess(t, t.TempDir(), path, strings.Split(args, "\n")...)
			if err := conn.SetReadDeadline(time.Now().Add(startTime)); err != nil {
				t.Fatal(err)
			}
			for message := make([]byte, 4096); ; {
				n, err := conn.Read(message)
				if err != nil {
					t.Fatalf("the daemon does not say that it is ready: %v\n%s", err, p.log.tail())
				}
				if strings.Contains(string(message[:n]), "READY=1") {
					break
				}
			}
			info, err := os.Stat(socket)
			if err != nil || info.Mode() != fs.ModeSocket|tt.mode {
				t.Fatalf("the socket: %v, %v, want mode %v", info, err, tt.mode)
			}
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", socket)
			}}}
			resp, err := client.Get("http://moat/v1/health")
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("health: %v, %v", resp, err)
			}
			if err == nil {
				_ = resp.Body.Close()
			}
			p.stop(t)
			if _, err := os.Lstat(socket); err == nil {
				t.Error("the socket is still there")
			}
		})
	}
}
