package policy

import (
	"log"
	"os"
	"testing"

	"github.com/moatwaf/moat/rules/waf"
)

// TestMain keeps the payload rules of the default policy loaded: policies with
// the same rules share them, and most policies here have those.
func TestMain(m *testing.M) {
	shared, err := waf.New(waf.Config{Fast: true})
	if err != nil {
		log.Fatal(err)
	}
	code := m.Run()
	if err := shared.Close(); err != nil {
		log.Print(err)
		code = 1
	}
	os.Exit(code)
}
