package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/ban"
	"github.com/moatwaf/moat/ratelimit"
	"github.com/moatwaf/moat/rules"
)

// Ban says after what an address is banned, and for how long.
type Ban struct {
	ID      rules.Located[string]        `yaml:"id" doc:"name of the rule in the audit log; default ban"`
	After   rules.Located[string]        `yaml:"after,required" doc:"how many refusals in which time: 5 blocks in 1m"`
	For     rules.Located[time.Duration] `yaml:"for,required" min:"1s" max:"3660d" doc:"length of the first ban"`
	Growth  rules.Located[float64]       `yaml:"growth" min:"1" max:"1000" doc:"how many times longer each ban is than the one before; default 1"`
	Max     rules.Located[time.Duration] `yaml:"max" min:"1s" max:"3660d" doc:"length of the longest ban, and of the quiet time after which bans begin anew; default 1d, without growth the length of a ban"`
	Key     rules.Located[string]        `yaml:"key" doc:"what is counted and banned: ip (default), ip/48, ip/24/56"`
	Reasons []rules.Located[string]      `yaml:"reasons,single" doc:"refusals that count: rule, rate-limit, payload, oversize and malformed (default), no-credentials, bad-credentials, forbidden, concealed"`
}

// BanTable says where bans are kept.
type BanTable struct {
	File rules.Located[string] `yaml:"file" doc:"file in which bans survive a restart; off: they do not; default: a file in the cache directory"`
	Max  rules.Located[int]    `yaml:"max" min:"1" max:"10000000" doc:"bans that are kept; for one more the one that ends first goes; default 100000"`
}

// bans is what a policy says of bans, compiled.
type bans struct {
	watcher *ban.Watcher
	file    string // empty: none
	max     int
}

// banStage compiles the rules of bans. The stage is in every pipeline: operators ban
// addresses by hand too.
func (l *loader) banStage() filter.Stage {
	compiled := &bans{file: l.banFile(), max: l.policy.BanTable.Max.Value}
	var list []ban.Rule
	for i := range l.policy.Bans {
		list = append(list, l.ban(&l.policy.Bans[i]))
	}
	watcher, err := l.state.clients.bans.Watch(list)
	if err != nil && len(l.errs) == 0 {
		var one *ban.RuleError
		at := rules.Located[string]{Pos: rules.Position{File: l.options.File}, Path: "bans"}
		if errors.As(err, &one) {
			at = l.policy.Bans[one.Index].After
			err = one
		}
		l.errs = append(l.errs, at.Errorf("", "%s", err))
	}
	compiled.watcher = watcher
	l.banned = compiled
	return l.state.clients.bans
}

// ban compiles one rule.
func (l *loader) ban(spec *Ban) ban.Rule {
	r := ban.Rule{ID: "ban", For: spec.For.Value, Max: spec.Max.Value, Growth: spec.Growth.Value}
	if spec.ID.Set() {
		r.ID = spec.ID.Value
		l.claim(l.ids, spec.ID)
	}
	if spec.After.Set() {
		n, within, err := ban.ParseAfter(spec.After.Value, rules.ParseDuration)
		if err != nil {
			l.errs = append(l.errs, spec.After.Errorf("such as 5 blocks in 1m", "%s", err))
		}
		r.After, r.Within = n, within
	}
	if m := spec.Max; m.Set() && m.Value < r.For {
		l.errs = append(l.errs, m.Errorf("", "the longest ban is shorter than the first, %s", r.For))
	}
	name := "ip"
	if spec.Key.Set() {
		name = spec.Key.Value
	}
	key, err := ratelimit.ParseKey(name)
	switch {
	case err != nil:
		l.errs = append(l.errs, spec.Key.Errorf("ip, ip/48 or ip/24/56", "%s", err))
	case key.NeedsIdentity():
		// The stage stands before payload and auth, where nobody is known yet; and
		// whoever could make an identity's requests be refused could lock it out.
		l.errs = append(l.errs, spec.Key.Errorf("ip, ip/48 or ip/24/56; limit an identity by a tier, or revoke its credentials", "only addresses can be banned: bans stand before auth, where no caller is known"))
	case key.Chosen():
		l.errs = append(l.errs, spec.Key.Errorf("ip, ip/48 or ip/24/56", "only addresses can be banned: a client chooses its own %s", name))
	case key.Kind() != ratelimit.KeyIP:
		l.errs = append(l.errs, spec.Key.Errorf("ip, ip/48 or ip/24/56", "only addresses can be banned"))
	}
	r.IPv4Bits, r.IPv6Bits = key.AddressBits()
	for _, reason := range spec.Reasons {
		i := slices.IndexFunc(filter.Reasons(), func(r filter.Reason) bool { return ban.Countable(r) && r.String() == reason.Value })
		if i < 0 {
			l.errs = append(l.errs, reason.Errorf("rule, rate-limit, payload, oversize, malformed, no-credentials, bad-credentials, forbidden or concealed", "%.40q is no reason that counts", reason.Value))
			continue
		}
		r.Reasons = append(r.Reasons, filter.Reasons()[i])
	}
	return r
}

// banFile returns the file of the bans; empty if there is none.
func (l *loader) banFile() string {
	switch at := l.policy.BanTable.File; {
	case at.Set() && at.Value == "off":
		return ""
	case at.Set() && at.Value == "":
		l.errs = append(l.errs, at.Errorf("off, or a path", "the name of the file is empty"))
		return ""
	case at.Set():
		return l.path(at.Value)
	case l.options.CacheDir == "":
		return ""
	}
	path, err := filepath.Abs(l.options.File)
	if err != nil {
		path = l.options.File
	}
	sum := sha256.Sum256([]byte(path))
	return filepath.Join(l.options.CacheDir, "bans-"+hex.EncodeToString(sum[:8])+".log")
}

// keepBans puts what a policy says of bans in force.
func (s *state) keepBans(b *bans) {
	if !s.usesBans {
		s.usesBans = true
		s.clients.users.Add(1)
	}
	table := s.clients.bans
	table.SetMax(b.max)
	s.watcher.Set(b.watcher)
	if b.file == "" {
		_ = table.Close() // the error was reported when it came
		return
	}
	if err := table.Persist(b.file); err != nil && s.options.Logger != nil {
		s.options.Logger.Warn("bans do not survive a restart", "file", b.file, "error", err)
	}
}

// closeBans gives the file of the bans up when nobody uses it any more.
func (s *state) closeBans() {
	if s.usesBans && s.clients.users.Add(-1) == 0 {
		_ = s.clients.bans.Close() // the error was reported when it came
	}
	s.usesBans = false
}

// Bans returns the table of bans. It is the same one over every reload.
func (rt *Runtime) Bans() *ban.Table { return rt.state.clients.bans }

// HandleBans adds the routes of bans to the admin API:
//
//	GET    /moat/bans                 the bans in force
//	POST   /moat/bans                 bans {"ip": "192.0.2.0/24", "for": "1h"}
//	DELETE /moat/bans/{ip}            lifts the bans that hold for an address or prefix
//
// running returns the policies in use; a change is made in all of them. An answer
// comes when the change is on disk. The routes belong on the admin address.
func HandleBans(mux *http.ServeMux, running func() []*Runtime) {
	tables := func() []*ban.Table {
		var all []*ban.Table
		for _, rt := range running() {
			if t := rt.Bans(); !slices.Contains(all, t) {
				all = append(all, t)
			}
		}
		return all
	}
	mux.HandleFunc("GET /moat/bans", func(w http.ResponseWriter, _ *http.Request) {
		bans := []ban.Ban{}
		for _, t := range tables() {
			bans = append(bans, t.List()...)
		}
		writeAdmin(w, http.StatusOK, map[string]any{"bans": bans})
	})
	mux.HandleFunc("POST /moat/bans", func(w http.ResponseWriter, r *http.Request) { addBan(w, r, tables()) })
	mux.HandleFunc("DELETE /moat/bans/{ip...}", func(w http.ResponseWriter, r *http.Request) { liftBans(w, r, tables()) })
}

func addBan(w http.ResponseWriter, r *http.Request, tables []*ban.Table) {
	var spec struct {
		IP  string `json:"ip"`
		For string `json:"for"`
	}
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096))
	body.DisallowUnknownFields()
	if err := body.Decode(&spec); err != nil {
		writeAdmin(w, http.StatusBadRequest, map[string]any{"error": `write {"ip": "192.0.2.1", "for": "1h"}`})
		return
	}
	prefix, err := parseBanned(spec.IP)
	var d time.Duration
	if err == nil {
		d, err = rules.ParseDuration(spec.For)
	}
	if err != nil {
		writeAdmin(w, http.StatusBadRequest, map[string]any{"error": err.Error()})
		return
	}
	var made []ban.Ban
	for _, t := range tables {
		b, err := t.Add(prefix, d, ban.Manual)
		if err != nil {
			writeAdmin(w, http.StatusBadRequest, map[string]any{"error": err.Error()})
			return
		}
		made = append(made, b)
	}
	answerBans(w, tables, map[string]any{"banned": made})
}

func liftBans(w http.ResponseWriter, r *http.Request, tables []*ban.Table) {
	prefix, err := parseBanned(r.PathValue("ip"))
	if err != nil {
		writeAdmin(w, http.StatusBadRequest, map[string]any{"error": err.Error()})
		return
	}
	lifted := []ban.Ban{}
	for _, t := range tables {
		lifted = append(lifted, t.Lift(prefix)...)
	}
	if len(lifted) == 0 {
		writeAdmin(w, http.StatusNotFound, map[string]any{"error": "no ban holds for it", "lifted": lifted})
		return
	}
	answerBans(w, tables, map[string]any{"lifted": lifted})
}

// answerBans answers when the change is on disk, or cannot be brought there: it is
// in force in either case.
func answerBans(w http.ResponseWriter, tables []*ban.Table, answer map[string]any) {
	for _, t := range tables {
		if err := t.Sync(); err != nil {
			answer["warning"] = "in force, but not on disk: " + err.Error()
		}
	}
	writeAdmin(w, http.StatusOK, answer)
}

// parseBanned reads an address or a prefix.
func parseBanned(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return p, errors.New("not a prefix such as 192.0.2.0/24")
		}
		return p, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, errors.New("not an address")
	}
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen()), nil
}

func writeAdmin(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) // the client has gone if this fails
}
