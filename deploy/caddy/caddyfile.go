package moatcaddy

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/moatwaf/moat/filter/auth"
	"github.com/moatwaf/moat/rules"
)

// options are the names that a block of the directive may hold.
var options = []string{"policy", "mode", "paranoia", "threshold", "body_limit", "oversize", "exclude", "identity_header"}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	moat [<matcher>] [<policy>] {
//		policy          <file>
//		mode            block|detect|off
//		paranoia        <1-4>
//		threshold       <score>
//		body_limit      <size>
//		oversize        block|inspect|pass
//		exclude         <rule>|<first-last>|tag:<tag> [<targets...>]
//		identity_header <name> [subject|method|roles|scopes|claim:<claim>]
//	}
//
// The policy is named once, behind the directive or in the block. exclude and
// identity_header may be repeated. A single argument with a leading slash is the
// path of the policy, unless the block names one: then it is a path matcher.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if d.NextArg() {
		h.Policy = d.Val()
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	written := map[string]bool{"policy": h.Policy != ""}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		if !slices.Contains(options, name) {
			return d.Errf("moat has no option %q; it has %s", name, strings.Join(options, ", "))
		}
		if written[name] && name != "exclude" && name != "identity_header" {
			return d.Errf("%s is written twice", name)
		}
		written[name] = true
		if err := h.unmarshalOption(name, d); err != nil {
			return err
		}
	}
	if h.Policy == "" {
		return d.Err("moat needs a policy file: moat POLICY, or policy POLICY in its block")
	}
	return nil
}

func (h *Handler) unmarshalOption(name string, d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.ArgErr()
	}
	if len(args) > 1 && name != "exclude" && (name != "identity_header" || len(args) > 2) {
		return d.ArgErr()
	}
	value := args[0]
	switch name {
	case "policy":
		h.Policy = value
	case "mode":
		h.Mode = value
		return oneOf(d, name, value, "block", "detect", "off")
	case "oversize":
		h.Oversize = value
		return oneOf(d, name, value, "block", "inspect", "pass")
	case "paranoia":
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > 4 {
			return d.Errf("paranoia is a level from 1 to 4, not %q", value)
		}
		h.Paranoia = n
	case "threshold":
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 {
			return d.Errf("threshold is an anomaly score from 1, not %q", value)
		}
		h.Threshold = n
	case "body_limit":
		n, err := rules.ParseSize(value)
		if err != nil || n < 1<<10 || n > 64<<20 {
			return d.Errf("body_limit is a size from 1KiB to 64MiB, not %q", value)
		}
		h.BodyLimit = int64(n)
	case "exclude":
		e := Exclusion{Rules: value, Targets: args[1:]}
		if _, err := e.directives(); err != nil {
			return d.WrapErr(err)
		}
		h.Exclude = append(h.Exclude, e)
	case "identity_header":
		what := "subject"
		if len(args) > 1 {
			what = args[1]
		}
		if _, err := auth.NewIdentityHeaders(map[string]string{value: what}); err != nil {
			return d.WrapErr(err)
		}
		name := http.CanonicalHeaderKey(value)
		if _, twice := h.IdentityHeaders[name]; twice {
			return d.Errf("the identity header %s is written twice", name)
		}
		if h.IdentityHeaders == nil {
			h.IdentityHeaders = make(map[string]string)
		}
		h.IdentityHeaders[name] = what
	}
	return nil
}

// oneOf refuses a value that is not among those that there are.
func oneOf(d *caddyfile.Dispenser, name, value string, values ...string) error {
	if slices.Contains(values, value) {
		return nil
	}
	return d.Errf("%s is one of %s, not %q", name, strings.Join(values, ", "), value)
}

// parseDirective reads the directive with its matcher.
func parseDirective(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	if !h.Next() {
		return nil, h.ArgErr()
	}
	var matcher caddy.ModuleMap
	if policyAlone(h.Dispenser) {
		h.Reset()
	} else {
		var err error
		if matcher, err = h.ExtractMatcherSet(); err != nil {
			return nil, err
		}
	}
	handler := new(Handler)
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return h.NewRoute(matcher, handler), nil
}

// policyAlone reports whether the only argument is the path of a policy. In other
// directives a first argument with a leading slash is a path matcher; here it is
// one if the policy is named as well, behind it or in the block.
func policyAlone(d *caddyfile.Dispenser) bool {
	ahead := *d
	args := ahead.RemainingArgs()
	if len(args) != 1 || !strings.HasPrefix(args[0], "/") {
		return false
	}
	for nesting := ahead.Nesting(); ahead.NextBlock(nesting); {
		if ahead.Val() == "policy" {
			return false
		}
		ahead.RemainingArgs()
	}
	return true
}

var _ caddyfile.Unmarshaler = (*Handler)(nil)
