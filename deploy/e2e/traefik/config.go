package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/traefik/paerser/file"
	"github.com/traefik/traefik/v3/pkg/config/dynamic"
	"github.com/traefik/traefik/v3/pkg/plugins"
)

// staticConfig is the part of Traefik's static configuration that this program
// understands. The decoder refuses keys that it does not know, so a test with a
// configuration that says more fails, and is not run without what it says.
type staticConfig struct {
	Global struct {
		CheckNewVersion    bool
		SendAnonymousUsage bool
	}
	Log struct {
		Level string
	}
	EntryPoints  map[string]*entryPointConfig
	Providers    struct{ File fileProvider }
	Experimental struct {
		AbortOnPluginFailure bool
		LocalPlugins         map[string]plugins.LocalDescriptor
	}
}

type fileProvider struct {
	Filename string
	Watch    *bool
}

type entryPointConfig struct {
	Address          string
	ForwardedHeaders struct {
		Insecure   bool
		TrustedIPs []string
	}
	HTTP struct {
		AliasHeadersStrategy string
		SanitizePath         *bool
		MaxHeaderBytes       int
	}
	Transport struct {
		RespondingTimeouts struct{ ReadTimeout, IdleTimeout string }
	}
}

func readStatic(name string) (*staticConfig, error) {
	var c staticConfig
	if err := file.Decode(name, &c); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(c.EntryPoints) == 0 || c.Providers.File.Filename == "" {
		return nil, fmt.Errorf("%s: no entry points or no file provider", name)
	}
	return &c, nil
}

// readDynamic reads a file as Traefik's file provider does, without its templates.
func readDynamic(name string) (*dynamic.HTTPConfiguration, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var c dynamic.Configuration
	if err := file.DecodeContent(string(content), ".yml", &c); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if c.HTTP == nil || strings.Contains(string(content), "{{") {
		return nil, fmt.Errorf("%s: no http section, or a template", name)
	}
	return c.HTTP, nil
}
