package policy

import (
	"time"

	"github.com/moatwaf/moat/rules"
	"github.com/moatwaf/moat/rules/match"
)

// Policy is what the operator wrote, decoded. Sections that were left out hold
// their defaults.
type Policy struct {
	Version   rules.Located[int]   `yaml:"version,required" doc:"version of the policy language; 1"`
	ClientIP  ClientIP             `yaml:"client_ip" doc:"who may speak for a client, and how"`
	Geo       Geo                  `yaml:"geo" doc:"databases of countries and networks"`
	Lists     map[string]List      `yaml:"lists" doc:"named address lists; a rule names one as $name"`
	Rules     []Rule               `yaml:"rules" doc:"access rules, in order; the first that matches decides"`
	Tiers     []Tier               `yaml:"tiers" doc:"rate limits; the first that matches limits"`
	TierTable TierTable            `yaml:"tier_table" doc:"the table that holds the state of the tiers' clients"`
	Bans      []Ban                `yaml:"bans" doc:"addresses are banned for what they did"`
	BanTable  BanTable             `yaml:"ban_table" doc:"where bans are kept"`
	Store     *Store               `yaml:"store" doc:"a Redis or Valkey in which nodes count clients and keep bans together; left out: this node alone"`
	WAF       WAF                  `yaml:"waf" doc:"payload rules"`
	Auth      *rules.Located[Auth] `yaml:"auth" doc:"who may see what; left out: nobody is asked"`
	CORS      *rules.Located[CORS] `yaml:"cors" doc:"scripts of other origins; left out: preflights pass on to the upstream"`
	Responses Responses            `yaml:"responses" doc:"the shape of refusals"`
	OnError   string               `yaml:"on_error" enum:"block|pass" doc:"what a stage that cannot decide means: block answers 503; default block"`
	Audit     Audit                `yaml:"audit" doc:"where refusals are reported"`
}

// ClientIP says how the client's address is found.
type ClientIP struct {
	TrustedProxies []rules.Located[string] `yaml:"trusted_proxies" doc:"addresses and prefixes whose forwarding header is believed; unix for whoever connects over a Unix socket"`
	Header         rules.Located[string]   `yaml:"header" doc:"X-Forwarded-For (default), Forwarded, or a header that holds one address"`
}

// Geo names the databases.
type Geo struct {
	Country rules.Located[string] `yaml:"country" doc:"mmdb file with countries; left out: the database that ships with moat"`
	ASN     rules.Located[string] `yaml:"asn" doc:"mmdb file with autonomous system numbers"`
}

// Rule is an access rule.
type Rule struct {
	ID rules.Located[string] `yaml:"id,required" doc:"name of the rule in the audit log"`
	match.Condition
	Action string             `yaml:"action,required" enum:"allow|block|detect" doc:"allow skips the other filter stages, not auth; detect reports only"`
	Mode   string             `yaml:"mode" enum:"block|detect" doc:"detect reports what the rule would do"`
	Status rules.Located[int] `yaml:"status" doc:"status of a refusal: 403 (default), 404, 410, 429, 451"`
}

// WAF is the payload stage.
type WAF struct {
	Mode         rules.Located[string]   `yaml:"mode" enum:"block|detect|off" doc:"default block"`
	Paranoia     int                     `yaml:"paranoia" min:"1" max:"4" doc:"paranoia level of the Core Rule Set; default 1"`
	Threshold    int                     `yaml:"threshold" min:"1" doc:"anomaly score from which a request is refused; default 5"`
	Include      []rules.Located[string] `yaml:"include" doc:"crs, and SecLang files, in order; default [crs]"`
	Methods      []rules.Located[string] `yaml:"methods" doc:"methods that the rule set allows"`
	ContentTypes []rules.Located[string] `yaml:"content_types" doc:"media types that the rule set allows"`
	Codings      []rules.Located[string] `yaml:"codings" doc:"content codings of bodies that are decoded for inspection: gzip, deflate, br, zstd; default all; a body in another one is answered with 415"`
	BodyLimit    rules.Size              `yaml:"body_limit" min:"1KiB" max:"64MiB" doc:"bytes of a body that are inspected; default 1MiB"`
	Oversize     string                  `yaml:"oversize" enum:"block|inspect|pass" doc:"a body over the limit: block answers 413; inspect looks at its beginning; pass looks at the header only; default block"`
	Responses    rules.Located[bool]     `yaml:"responses" doc:"inspection of responses; false"`
	Engine       string                  `yaml:"engine" enum:"fast|plain" doc:"fast (default) evaluates the rules that a request may match, and none for a request that provably matches none; plain evaluates every rule, for comparison: the verdicts are the same"`
	Memory       rules.Size              `yaml:"memory" min:"32MiB" max:"4GiB" doc:"what the automata of the fast engine may take, once for all policies with the same rules; what it remembers of header fields takes half as much beside it; default 64MiB"`
}

// Auth is the auth stage.
type Auth struct {
	Realm           rules.Located[string]            `yaml:"realm" doc:"realm of the challenges; default moat"`
	Methods         []rules.Located[AuthMethod]      `yaml:"methods,required" doc:"ways to prove who one is, in the order of the challenges"`
	Require         []Requirement                    `yaml:"require" doc:"what is asked where; the first that matches decides; default: auth required everywhere"`
	Failures        *Failures                        `yaml:"failures" doc:"how often an address may send credentials that are not good, before anything of it is verified: off, or rate and burst; default 20/s and 600"`
	IdentityHeaders rules.Located[map[string]string] `yaml:"identity_headers" doc:"request header fields that tell the upstream who the caller is: name to subject, method, roles, scopes or claim:NAME; default X-Remote-User: subject; {} sets none; fields of these names from clients are removed"`
}

// AuthMethod is one way to prove who one is. Exactly one field is set.
type AuthMethod struct {
	Bearer        *rules.Located[Bearer]        `yaml:"bearer" doc:"JWT in Authorization: Bearer (RFC 6750)"`
	Basic         *rules.Located[Basic]         `yaml:"basic" doc:"user and password in Authorization: Basic (RFC 7617)"`
	APIKey        *rules.Located[APIKey]        `yaml:"api_key" doc:"a key in a header field or the query"`
	Session       *rules.Located[Session]       `yaml:"session" doc:"JWT in a cookie, signed or encrypted"`
	SignedURL     *rules.Located[SignedURL]     `yaml:"signed_url" doc:"a URL with an expiry and an HMAC-SHA256 signature in its query"`
	MTLS          *rules.Located[MTLS]          `yaml:"mtls" doc:"the client certificate of the connection"`
	Forward       *rules.Located[Forward]       `yaml:"forward" doc:"an external service that decides about each request; the last of the methods"`
	Introspection *rules.Located[Introspection] `yaml:"introspection" doc:"tokens in Authorization: Bearer that only their issuer can read (RFC 7662)"`
}

// Tokens says what signed tokens are held against.
type Tokens struct {
	Issuer     string                       `yaml:"issuer,required" doc:"the iss claim, exactly"`
	Audience   string                       `yaml:"audience,required" doc:"one of the aud claims, exactly"`
	JWKS       rules.Located[string]        `yaml:"jwks,required" doc:"file or https URL with the public keys (RFC 7517)"`
	Algorithms []rules.Located[string]      `yaml:"algorithms" doc:"signature algorithms that are taken; default: every asymmetric one"`
	Revoked    rules.Located[string]        `yaml:"revoked" doc:"file with revoked tokens: a jti a line"`
	Skew       rules.Located[time.Duration] `yaml:"skew" min:"0s" max:"10m" doc:"tolerance for clocks; default 1m"`
}

// Bearer configures JWT.
type Bearer struct {
	Tokens
	ResourceMetadata rules.Located[string] `yaml:"resource_metadata" doc:"https URL of the metadata of this resource (RFC 9728), named in challenges"`
}

// Session configures JWT in a cookie.
type Session struct {
	Cookie     rules.Located[string]        `yaml:"cookie,required" doc:"name of the cookie"`
	Issuer     string                       `yaml:"issuer,required" doc:"the iss claim, exactly"`
	Audience   string                       `yaml:"audience,required" doc:"one of the aud claims, exactly"`
	JWKS       rules.Located[string]        `yaml:"jwks" doc:"file or https URL with the public keys of signed tokens (RFC 7517)"`
	Encryption rules.Located[string]        `yaml:"encryption" doc:"file with the symmetric keys (RFC 7517, kty oct, 32 bytes) of encrypted tokens (RFC 7516, dir and A256GCM)"`
	Algorithms []rules.Located[string]      `yaml:"algorithms" doc:"signature algorithms that are taken; default: every asymmetric one"`
	Revoked    rules.Located[string]        `yaml:"revoked" doc:"file with revoked tokens: a jti a line"`
	Skew       rules.Located[time.Duration] `yaml:"skew" min:"0s" max:"10m" doc:"tolerance for clocks; default 1m"`
}

// SignedURL configures URLs that carry their own permission.
type SignedURL struct {
	Keys        rules.Located[string] `yaml:"keys,required" doc:"YAML file with the ids, secrets and owners of the keys"`
	Query       []string              `yaml:"query,single" doc:"query parameters that the signature covers, in its order; left out: the whole query; whatever is not covered anybody can change"`
	MaxLifetime time.Duration         `yaml:"max_lifetime" min:"1s" doc:"how far in the future a URL may expire; default 7d"`
}

// MTLS configures client certificates.
type MTLS struct {
	Name    string                `yaml:"name" enum:"cn|uri|dns|email|spki" doc:"what of the certificate names the caller: the common name (default), an alternative name, or the pin of the public key"`
	Allow   []AllowedCertificate  `yaml:"allow" doc:"names that are taken; left out: every certificate that is verified"`
	CA      rules.Located[string] `yaml:"ca" doc:"file with the certificates, in PEM, that a client's must lead to; left out: the server verifies"`
	Revoked rules.Located[string] `yaml:"revoked" doc:"file with revoked certificates: the SHA-256 of one a line"`
}

// AllowedCertificate is a name that is taken.
type AllowedCertificate struct {
	Name   string   `yaml:"name,required" doc:"the name; printer-*, spiffe://example.org/*, *.example.com and *@example.com stand for many"`
	Roles  []string `yaml:"roles,single" doc:"roles of the caller"`
	Scopes []string `yaml:"scopes,single" doc:"scopes of the caller"`
}

// Forward configures an external service that decides.
type Forward struct {
	URL             rules.Located[string] `yaml:"url,required" doc:"https URL that is asked with GET; http for loopback addresses"`
	Cleartext       bool                  `yaml:"cleartext" doc:"http for other addresses too: whoever is on the way can let anybody in"`
	CA              rules.Located[string] `yaml:"ca" doc:"file with the certificates, in PEM, that the service's must lead to; default: those of the system"`
	RequestHeaders  []string              `yaml:"request_headers,single" doc:"request header fields that the service gets to see; default Accept, Accept-Language, Authorization, Cookie, Origin, Referer, User-Agent, X-Requested-With"`
	UpstreamHeaders []string              `yaml:"upstream_headers,single" doc:"fields of its answer that the upstream gets; fields of these names from clients are removed"`
	ClientHeaders   []string              `yaml:"client_headers,single" doc:"fields of its answer that the client gets with the upstream's; default Set-Cookie"`
	Subject         string                `yaml:"subject" doc:"field of its answer with the caller's name; default: the caller has none"`
	Roles           string                `yaml:"roles" doc:"field of its answer with the caller's roles, commas between them"`
	Scopes          string                `yaml:"scopes" doc:"field of its answer with the caller's scopes, commas between them"`
	Timeout         time.Duration         `yaml:"timeout" min:"10ms" max:"1m" doc:"how long it may take; then 503; default 5s"`
}

// Introspection configures tokens that the issuer is asked about.
type Introspection struct {
	URL        rules.Located[string] `yaml:"url,required" doc:"https URL of the endpoint"`
	ClientID   string                `yaml:"client_id,required" doc:"the filter's own name there"`
	SecretFile rules.Located[string] `yaml:"secret_file,required" doc:"file with the filter's own secret there"`
	Audience   string                `yaml:"audience" doc:"one of the aud of the answer; default: any"`
	Cache      time.Duration         `yaml:"cache" min:"1s" max:"1h" doc:"how long an answer is good for, and a revoked token at most; default 1m"`
}

// APIKey configures API keys.
type APIKey struct {
	Header rules.Located[string] `yaml:"header" doc:"header field that carries the key; default X-API-Key, unless query is set"`
	Query  string                `yaml:"query" doc:"query parameter that carries the key; queries are written into logs"`
	File   rules.Located[string] `yaml:"file,required" doc:"YAML file with the SHA-256 hashes of the keys and their owners"`
}

// Basic configures HTTP Basic.
type Basic struct {
	Htpasswd rules.Located[string] `yaml:"htpasswd,required" doc:"file with users and hashes of passwords, as htpasswd -B writes it; Argon2, SHA-crypt and MD5 are read too"`
	Groups   rules.Located[string] `yaml:"groups" doc:"file with the roles of users: role: user user, a role a line"`
}

// Requirement says what the auth stage asks of a request.
type Requirement struct {
	ID string `yaml:"id" doc:"name in the audit log"`
	match.Condition
	Auth    rules.Located[string]   `yaml:"auth" enum:"none|required" doc:"default required"`
	Roles   []string                `yaml:"roles,single" doc:"one of these roles is needed"`
	Scopes  []string                `yaml:"scopes,single" doc:"all of these scopes are needed"`
	Methods []rules.Located[string] `yaml:"methods,single" doc:"only these methods are taken"`
	If      match.Condition         `yaml:"if" doc:"what must hold of a known caller, claims among it; else 403"`
	ACR     []string                `yaml:"acr,single" doc:"one of these authentication contexts is needed, else a stronger proof is asked for (RFC 9470)"`
	MaxAge  time.Duration           `yaml:"max_age" min:"1s" doc:"how long ago a caller may have logged in, else a fresh proof is asked for (RFC 9470)"`
	Login   string                  `yaml:"login" doc:"where browsers are sent instead of being asked: a URL or a path; {uri} becomes the path and query of the request"`
	Realm   rules.Located[string]   `yaml:"realm" doc:"realm of the challenges here; default that of the section"`
	Conceal bool                    `yaml:"conceal" doc:"a caller without the right gets the 404 of a missing path"`
}

// CORS says which scripts of other origins may read answers.
type CORS struct {
	Origins     []string      `yaml:"origins,required,single" doc:"origins as browsers write them; https://*.example.com is every host below it; \"*\" is every origin"`
	Methods     []string      `yaml:"methods,single" doc:"methods that scripts may use; default GET, HEAD, POST"`
	Headers     []string      `yaml:"headers,single" doc:"request header fields that scripts may set"`
	Expose      []string      `yaml:"expose,single" doc:"header fields of the upstream's answers that scripts may read"`
	Credentials bool          `yaml:"credentials" doc:"scripts may send cookies"`
	MaxAge      time.Duration `yaml:"max_age" min:"0s" max:"1d" doc:"how long a browser may keep the answer to a preflight"`
}

// Responses shapes refusals.
type Responses struct {
	Profile rules.Located[string] `yaml:"profile" doc:"whose shape refusals have: default, github, stripe, s3, express, express-jwt, oauth2-jwt-bearer, cloudflare, aws-waf, or a file that ends in .yaml"`
	Strict  bool                  `yaml:"strict" doc:"401 and challenges stand even where the profile leaves them out"`
}

// Audit says where refusals are reported.
type Audit struct {
	File      rules.Located[string] `yaml:"file" doc:"stdout (default), stderr, off, or a file that is appended to"`
	Query     bool                  `yaml:"query" doc:"write the query string, which may hold secrets"`
	UserAgent bool                  `yaml:"user_agent" doc:"write the User-Agent"`
}

// defaults returns a policy in which no section was written.
func defaults() Policy {
	return Policy{
		TierTable: TierTable{Memory: 64 << 20, Full: "block"},
		WAF: WAF{
			Mode:      rules.Located[string]{Value: "block"},
			Paranoia:  1,
			Threshold: 5,
			Include:   []rules.Located[string]{{Value: "crs"}},
			BodyLimit: 1 << 20,
			Oversize:  "block",
			Engine:    "fast",
			Memory:    64 << 20,
		},
		Responses: Responses{Profile: rules.Located[string]{Value: "default"}},
		OnError:   "block",
		Audit:     Audit{File: rules.Located[string]{Value: "stdout"}},
	}
}
