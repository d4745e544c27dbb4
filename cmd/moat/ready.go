package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jwt"
	"golang.org/x/crypto/bcrypt"
)

//go:embed ready/policy.yaml
var readyPolicy []byte

// readyName is the name of the ready policy in logs.
const readyName = "ready/policy.yaml"

// readyFiles are the ready policy and the keys beside it. The keys are made at
// every start: a key that ships with a program is a key that everybody has.
type readyFiles struct {
	files    map[string][]byte
	password string // of the user demo
	token    string // a bearer token that is good for an hour
}

func newReadyFiles() (*readyFiles, error) {
	password := rand.Text()[:16]
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	if err != nil {
		return nil, fmt.Errorf("making a password: %w", err)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	key, err := jwk.Import(private)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	if err := key.Set(jwk.KeyIDKey, "ready"); err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	if err := key.Set(jwk.AlgorithmKey, jwa.ES256()); err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	set := jwk.NewSet()
	if err := set.AddKey(public); err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	jwks, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	now := time.Now()
	token, err := jwt.NewBuilder().
		Issuer("https://moat.invalid").Audience([]string{"moat"}).Subject("demo").
		IssuedAt(now).Expiration(now.Add(time.Hour)).Build()
	if err != nil {
		return nil, fmt.Errorf("making a token: %w", err)
	}
	signed, err := jwt.Sign(token, jwt.WithKey(jwa.ES256(), key))
	if err != nil {
		return nil, fmt.Errorf("making a token: %w", err)
	}
	return &readyFiles{
		files: map[string][]byte{
			"policy.yaml":    readyPolicy,
			"users.htpasswd": fmt.Appendf(nil, "demo:%s\n", hash),
			"keys.json":      jwks,
		},
		password: password,
		token:    string(signed),
	}, nil
}

// read returns a file of the ready policy. There are no others.
func (f *readyFiles) read(name string) ([]byte, error) {
	if data, ok := f.files[filepath.Base(name)]; ok {
		return data, nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}
