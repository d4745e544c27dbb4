package differ

import (
	"strings"
	"testing/fstest"

	"github.com/moatwaf/moat/rules/waf"
)

// File is a rule file.
type File struct{ Name, Text string }

// Names of files that have their place by their name; see waf.Config.Include.
const (
	SetupFile  = "crs-setup.conf"
	BeforeFile = "REQUEST-900-EXCLUSION-RULES-BEFORE-CRS.conf"
	AfterFile  = "RESPONSE-999-EXCLUSION-RULES-AFTER-CRS.conf"
	OwnFile    = "own.conf"
	AheadFile  = "ahead.conf" // loaded before the Core Rule Set
)

// Setup is a policy of the payload stage, in a form that a file can hold.
type Setup struct {
	// CRS includes the Core Rule Set.
	CRS bool
	// Paranoia and Threshold are those of waf.Config.
	Paranoia, Threshold int
	// BodyLimit and Oversize are those of waf.Config.
	BodyLimit int64
	Oversize  waf.Oversize
	// OwnMethods takes the methods and media types of the Core Rule Set itself in
	// place of moat's.
	OwnMethods bool
	// Files are the operator's rules.
	Files []File
}

// Config returns the configuration with the fast or the plain engine.
func (s *Setup) Config(fast bool) waf.Config {
	c := waf.Config{Paranoia: s.Paranoia, Threshold: s.Threshold, BodyLimit: s.BodyLimit, Oversize: s.Oversize, Fast: fast, Unbounded: !fast}
	if s.OwnMethods {
		c.Methods = []string{"GET", "HEAD", "POST", "OPTIONS"}
		c.ContentTypes = []string{
			"application/x-www-form-urlencoded", "multipart/form-data", "text/xml",
			"application/xml", "application/soap+xml", "application/json",
		}
	}
	fsys := fstest.MapFS{}
	c.FS = fsys
	add := func(f File) {
		fsys[f.Name] = &fstest.MapFile{Data: []byte(f.Text)}
		c.Include = append(c.Include, waf.Include{Name: "/" + f.Name})
	}
	for _, f := range s.Files {
		if f.Name == AheadFile {
			add(f)
		}
	}
	if s.CRS {
		c.Include = append(c.Include, waf.Include{Name: waf.CRS})
	}
	for _, f := range s.Files {
		if f.Name != AheadFile {
			add(f)
		}
	}
	if c.Include == nil {
		c.Include = []waf.Include{} // nil would be the Core Rule Set
	}
	return c
}

// Regression is the set-up that the regression tests of the Core Rule Set are
// written for, at a paranoia level.
func Regression(level int) Setup {
	return Setup{CRS: true, Paranoia: level, OwnMethods: true, Files: []File{{AheadFile, strings.Join([]string{
		`SecAction "id:1,phase:1,nolog,pass,`,
		`setvar:tx.crs_validate_utf8_encoding=1,setvar:tx.arg_name_length=100,setvar:tx.arg_length=400,`,
		`setvar:tx.total_arg_length=64000,setvar:tx.max_num_args=255,setvar:tx.max_file_size=64100,setvar:tx.combined_file_sizes=65535"`,
		"\n",
	}, "")}}}
}
