package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// certificateTime is how long a certificate that moat makes is good for, and
// renewTime how long before the end of it the next one is made.
const (
	certificateTime = 825 * 24 * time.Hour
	renewTime       = 30 * 24 * time.Hour
)

// decideCertificate returns the certificate of the listeners: that of the files, or
// one of moat's own, which is kept over restarts so that a proxy can be told to
// trust it.
func decideCertificate(certFile, keyFile string, listeners []decideListener) (tls.Certificate, error) {
	if certFile != "" {
		c, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return c, fmt.Errorf("--decide-cert: %w", err)
		}
		return c, nil
	}
	var names []string
	for _, l := range listeners {
		if host, _, err := net.SplitHostPort(l.Address); l.TLS && err == nil && host != "" {
			names = append(names, host)
		}
	}
	path, err := ownCertificate()
	if err != nil {
		return tls.Certificate{}, err
	}
	if c, err := tls.LoadX509KeyPair(path, keyOf(path)); err == nil && covers(c.Leaf, names, time.Now()) {
		return c, nil
	}
	return makeCertificate(path, names, time.Now())
}

// ownCertificate returns the path of moat's own certificate.
func ownCertificate() (string, error) {
	// systemd's StateDirectory=, of several the first.
	dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":")
	if !filepath.IsAbs(dir) {
		config, err := os.UserConfigDir()
		if err != nil {
			return "", errors.New("there is no directory for a certificate: set --decide-cert and --decide-key, or STATE_DIRECTORY")
		}
		dir = filepath.Join(config, "moat")
	}
	return filepath.Join(dir, "decide.pem"), nil
}

// keyOf returns the path of the key beside a certificate.
func keyOf(cert string) string { return strings.TrimSuffix(cert, ".pem") + ".key" }

// covers reports whether a certificate is good for the names, and for a while.
func covers(leaf *x509.Certificate, names []string, now time.Time) bool {
	if leaf == nil || now.Before(leaf.NotBefore) || now.Add(renewTime).After(leaf.NotAfter) {
		return false
	}
	for _, name := range names {
		if leaf.VerifyHostname(name) != nil {
			return false
		}
	}
	return true
}

// makeCertificate makes a certificate for the names and this machine, and keeps it.
func makeCertificate(path string, names []string, now time.Time) (tls.Certificate, error) {
	fail := func(err error) (tls.Certificate, error) {
		return tls.Certificate{}, fmt.Errorf("making a certificate: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fail(err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return fail(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{CommonName: "moat decide"},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(certificateTime),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		// It is its own authority, so that a proxy can be given it as one.
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		DNSNames:    []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip == nil {
			template.DNSNames = append(template.DNSNames, name)
		} else if !ip.IsUnspecified() {
			template.IPAddresses = append(template.IPAddresses, ip)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fail(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fail(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fail(err)
	}
	if err := replaceFile(keyOf(path), keyPEM, 0o600); err != nil {
		return fail(err)
	}
	if err := replaceFile(path, certPEM, 0o644); err != nil {
		return fail(err)
	}
	return tls.X509KeyPair(certPEM, keyPEM)
}

// replaceFile writes a file as a whole, or not at all.
func replaceFile(path string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".moat-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// fingerprint returns the SHA-256 of a certificate, as tools print it.
func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return strings.ToUpper(strings.ReplaceAll(fmt.Sprintf("% x", sum), " ", ":"))
}
