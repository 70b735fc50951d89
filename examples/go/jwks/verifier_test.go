package jwks

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

var now = time.Unix(1_800_000_000, 0)

type object map[string]interface{}

func encode(t *testing.T, value interface{}) string {
	document, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(document)
}

func sign(t *testing.T, key *rsa.PrivateKey, header, claims object) string {
	text := encode(t, header) + "." + encode(t, claims)
	digest := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func with(base object, name string, value interface{}) object {
	changed := object{}
	for key, value := range base {
		changed[key] = value
	}
	if value == nil {
		delete(changed, name)
	} else {
		changed[name] = value
	}
	return changed
}

func TestVerify(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	fetches := 0
	n := base64.RawURLEncoding.EncodeToString(key.N.Bytes())
	set := object{"keys": []object{{"kty": "RSA", "kid": "one", "n": n, "e": base64.RawURLEncoding.EncodeToString(big.NewInt(65537).Bytes())}}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetches++
		_ = json.NewEncoder(w).Encode(set)
	}))
	defer server.Close()
	verifier := New(server.URL, "issuer", "orders")
	verifier.now = func() time.Time { return now }

	header := object{"alg": "RS256", "typ": "at+jwt", "kid": "one"}
	claims := object{
		"iss": "issuer", "sub": "user", "aud": []string{"orders", "mail"}, "iat": now.Unix(), "exp": now.Unix() + 600,
		"jti": "id", "client_id": "first-party", "preferred_username": "alice", "scope": "a.read a.write",
	}
	found, err := verifier.Verify(context.Background(), sign(t, key, header, claims))
	if err != nil || found.Username != "alice" || !found.May("a.write") || found.May("a.wri") {
		t.Fatal(found, err)
	}
	for name, token := range map[string]string{
		"another key":          sign(t, other, header, claims),
		"unknown key":          sign(t, key, with(header, "kid", "two"), claims),
		"no key":               sign(t, key, with(header, "kid", nil), claims),
		"no algorithm":         sign(t, key, with(header, "alg", "none"), claims),
		"HMAC":                 sign(t, key, with(header, "alg", "HS256"), claims),
		"refresh token":        sign(t, key, with(header, "typ", "rt+jwt"), claims),
		"critical extension":   sign(t, key, with(header, "crit", []string{"x"}), claims),
		"another issuer":       sign(t, key, header, with(claims, "iss", "other")),
		"another audience":     sign(t, key, header, with(claims, "aud", "mail")),
		"expired":              sign(t, key, header, with(claims, "exp", now.Unix()-31)),
		"without end":          sign(t, key, header, with(claims, "exp", nil)),
		"longer than a day":    sign(t, key, header, with(claims, "exp", now.Unix()+86_401)),
		"issued in the future": sign(t, key, header, with(claims, "iat", now.Unix()+31)),
		"not valid yet":        sign(t, key, header, with(claims, "nbf", now.Unix()+31)),
		"without subject":      sign(t, key, header, with(claims, "sub", nil)),
		"two parts":            "a.b",
		"too long":             strings.Repeat("a", maxToken) + ".b.c",
		"empty":                "",
	} {
		if _, err := verifier.Verify(context.Background(), token); err != ErrInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if fetches != 1 {
		t.Errorf("the keys were fetched %d times", fetches)
	}
}
