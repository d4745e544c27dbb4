package auth

import (
	"errors"
	"strings"
	"testing"
)

// TestStoredPasswords holds hashes that other programs have made (openssl passwd,
// crypt(3), argon2) against their passwords.
func TestStoredPasswords(t *testing.T) {
	for _, tt := range []struct{ password, hash string }{
		{"", `$1$saltSALT$t6Bl8zoUZW3vgPaTPH0CX0`},
		{"", `$apr1$saltSALT$hbZ8QQy0/1Fqlawoc3eYJ0`},
		{"a", `$1$saltSALT$H7/7E6rYw5/JvMbnIAZ1v/`},
		{"a", `$apr1$saltSALT$JYQsHpSCl0Vu7ZljB950q0`},
		{"a", `$5$saltSALT$SFjIeAoueehwIUK5IOldPRiKhTVJCg6KIXDzpH58h/1`},
		{"a", `$6$saltSALT$oYuhvd7TR8vJ59dJuOZaYPQnwK8xLI6T.8ZHArT2.KDEyyKv1TG9p0ir/9gL6zT410vBHE02qLeQMxNNawhE20`},
		{"secret", `$1$saltSALT$cmavmWVcvHnxLkqGbVVX0/`},
		{"secret", `$apr1$saltSALT$WDJf6wM5.GXmxK8jyj/4v.`},
		{"secret", `$5$saltSALT$DOEZ/WGLDjofntljDre9hGx6pbF6X//XeJQu1KZynfA`},
		{"secret", `$6$saltSALT$cI89iEMjDOkbG/EJpgKHuhp4tQjqeQwD9aiSzEmffRSTPklDt1ifyx5M.q38c7HdD71tot3Pgsgh3qq7Nhi4f0`},
		{"Hello world!", `$1$saltSALT$bWw5uAkpfKNgPfwj4/YIV0`},
		{"Hello world!", `$apr1$saltSALT$xVAKMoEHkw/vvJStfMB8z.`},
		{"Hello world!", `$5$saltSALT$RLjW26ss7mrb0hoCZyy6BYsGh7..v4Ye0H0KprlpHUB`},
		{"Hello world!", `$6$saltSALT$oRY3lOwzTus.NU06XUpfrpifbgxo.1q820bWXJ0CiHuVWg4e39ydDWAme0MaPwgwpWEQs/E3LwccK1iaOSwlC.`},
		{"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdefXYZ", `$1$saltSALT$cDhE8IgBMWBuJ5Mqggcjf/`},
		{"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdefXYZ", `$apr1$saltSALT$r1XIsPa10tHEw6L6VoJ73.`},
		{"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdefXYZ", `$5$saltSALT$umKJzs4aPFt0tT7zbbihUZ9.qDMzDjke326AuSpQNt9`},
		{"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdefXYZ", `$6$saltSALT$7uqMdERhCscyS36oFbdDfTo8fjHAqMn6YllHYshGL1yEr/4bbOJwCXtu.qcLEFOfPVZjXIXMX9pNOVIJD8V3g1`},
		{"пароль☂", `$1$saltSALT$bwVjE0VRx.LriY.m8ic0.0`},
		{"пароль☂", `$apr1$saltSALT$qeaNC5CcfhIzFdkz/LVqK/`},
		{"пароль☂", `$5$saltSALT$3c4g1pUriMkYyO/54z0upwtftsfceY9cREspO0udlsD`},
		{"пароль☂", `$6$saltSALT$VFOpF7qJO8hSCC6gbZ/iQRuVX5zpvGm.GI3o8M3CilGCXGkYckPSjHUzJ5aZPTMGMgzlHC6wAJfuu.KPV.EXu.`},
		{"Hello world!", `$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA`},
		{"secret", `$6$rounds=1400$anotherlongsalt$GgIsmY8/iRvu5gZ47obybyiAhDD7s7u3Dw7dmgui/06yeirFJjz/UHTF1ruurLHgwOs1LjZn57x0E0WZeclyd1`},
		{"password", `$argon2i$v=19$m=65536,t=2,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b+dWRWJTmaaJObG`},
		{"right", `$2a$04$csjXMY9Sr32YmvR9Ert0vu4vvOlLb8r9LGk0MRBQ1jRhW64BTRY66`},
	} {
		h, fault := parseHash(tt.hash)
		if fault != nil {
			t.Errorf("%s: %s", tt.hash, fault.msg)
			continue
		}
		if tt.password != "right" && !h.matches([]byte(tt.password)) {
			t.Errorf("%s is not of %q", tt.hash, tt.password)
		}
		if h.cost() > 100_000 {
			if h.dummy().cost() != h.cost() {
				t.Errorf("%s: its dummy costs %d", tt.hash, h.dummy().cost())
			}
			continue // once is enough of the dear ones
		}
		for _, wrong := range []string{"", tt.password + "x", strings.ToUpper(tt.password) + "!", "\x00"} {
			if wrong != tt.password && h.matches([]byte(wrong)) {
				t.Errorf("%s takes %q", tt.hash, wrong)
			}
		}
		if h.cost() <= 0 {
			t.Errorf("%s costs %d", tt.hash, h.cost())
		}
		dummy := h.dummy()
		if dummy.cost() != h.cost() || dummy.matches([]byte(tt.password)) {
			t.Errorf("%s: its dummy costs %d, and takes the password: %v", tt.hash, dummy.cost(), dummy.matches([]byte(tt.password)))
		}
	}
}

func TestLongPasswords(t *testing.T) {
	long := strings.Repeat("p", 100)
	sha := &shaCrypt{long: true, rounds: 1000, salt: "salt"}
	sha.sum = sha.derive([]byte(long))
	line := "ida:$6$rounds=1000$salt$" + sha.sum + "\n"
	only, err := NewBasic(BasicConfig{Htpasswd: File{"users", []byte(line)}})
	if err != nil {
		t.Fatal(err)
	}
	if who, err := verifyAt(only, encode("ida:"+long), testNow); err != nil || who.Subject != "ida" {
		t.Errorf("%+v, %v", who, err)
	}
	mixed, err := NewBasic(BasicConfig{Htpasswd: File{"users", []byte(line + "anna:$2a$04$csjXMY9Sr32YmvR9Ert0vu4vvOlLb8r9LGk0MRBQ1jRhW64BTRY66\n")}})
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"ida", "anna", "nobody"} {
		if _, err := verifyAt(mixed, encode(user+":"+long), testNow); !errors.Is(err, errBasicPassword) {
			t.Errorf("%s: %v", user, err)
		}
	}
}

func FuzzStoredPassword(f *testing.F) {
	for _, s := range []string{"", "$2y$04$", "$5$rounds=1000$a$", "$6$", "$apr1$a$b", "$1$$", "$argon2id$v=19$m=8,t=1,p=1$$", "$argon2", "{SHA}", "$"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, hash string) {
		h, fault := parseHash(hash)
		if (h == nil) == (fault == nil) {
			t.Fatalf("%q: %v and %v", hash, h, fault)
		}
		if h == nil || h.cost() > 20_000 {
			return
		}
		if h.dummy().matches([]byte("x")) {
			t.Fatalf("%q: the dummy takes a password", hash)
		}
	})
}

func BenchmarkStoredPassword(b *testing.B) {
	for _, hash := range []string{
		"$apr1$saltSALT$hbZ8QQy0/1Fqlawoc3eYJ0",
		"$6$rounds=5000$anotherlongsalt$GgIsmY8/iRvu5gZ47obybyiAhDD7s7u3Dw7dmgui/06yeirFJjz/UHTF1ruurLHgwOs1LjZn57x0E0WZeclyd1",
		"$argon2i$v=19$m=65536,t=2,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b+dWRWJTmaaJObG",
	} {
		h, fault := parseHash(hash)
		if fault != nil {
			b.Fatal(fault.msg)
		}
		b.Run(hash[1:5], func(b *testing.B) {
			b.ReportMetric(float64(h.cost()), "estimated-µs")
			for b.Loop() {
				h.matches([]byte("secret"))
			}
		})
	}
}
