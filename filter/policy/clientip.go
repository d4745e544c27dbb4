package policy

import (
	"net/netip"

	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/clientip"
)

// clientIP compiles the section of the same name.
func (l *loader) clientIP() filter.AddrResolver {
	c := l.policy.ClientIP
	config := clientip.Config{Header: "X-Forwarded-For"}
	if c.Header.Set() {
		config.Header = c.Header.Value
	}
	for _, at := range c.TrustedProxies {
		if at.Value == "unix" {
			config.TrustUnix = true
			continue
		}
		prefix, err := parsePrefix(at.Value)
		if err != nil {
			l.errs = append(l.errs, at.Errorf("write an address or a prefix such as 10.0.0.0/8", "%q is no address prefix", at.Value))
			continue
		}
		if masked := prefix.Masked(); masked != prefix {
			l.errs = append(l.errs, at.Errorf("write "+masked.String(), "%q has bits set behind the prefix", at.Value))
			continue
		}
		config.TrustedProxies = append(config.TrustedProxies, prefix)
	}
	resolver, err := clientip.New(config)
	if err != nil {
		l.add(c.Header.Pos, "client_ip.header", err)
		return nil
	}
	return resolver
}

// parsePrefix reads an address or a prefix, unmapped.
func parsePrefix(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		addr = addr.Unmap()
		return addr.Prefix(addr.BitLen())
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	if addr := prefix.Addr(); addr.Is4In6() && prefix.Bits() >= 96 {
		return netip.PrefixFrom(addr.Unmap(), prefix.Bits()-96), nil
	}
	return prefix, nil
}
