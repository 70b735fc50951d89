// Package jwks verifies access tokens (RFC 9068) with the keys that the auth service publishes. It needs only the standard library.
package jwks

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	maxToken    = 8192
	maxDocument = 1 << 20
	leeway      = 30 * time.Second
	// The interval after which the keys are fetched again for a token with an unknown key.
	refetch = 30 * time.Second
)

// ErrInvalid is the error for every token that is not valid. A service does not tell its callers more.
var ErrInvalid = errors.New("the access token is not valid")

// Claims are the claims of an access token.
type Claims struct {
	Issuer    string   `json:"iss"`
	Subject   string   `json:"sub"`
	Audience  audience `json:"aud"`
	Expires   int64    `json:"exp"`
	IssuedAt  int64    `json:"iat"`
	NotBefore int64    `json:"nbf"`
	ID        string   `json:"jti"`
	ClientID  string   `json:"client_id"`
	SessionID string   `json:"sid"`
	Scope     string   `json:"scope"`
	Groups    []string `json:"groups"`
	Username  string   `json:"preferred_username"`
	Actor     string   `json:"actor"`
}

// May returns true if the token holds the permission.
func (c *Claims) May(permission string) bool {
	for _, held := range strings.Fields(c.Scope) {
		if held == permission {
			return true
		}
	}
	return false
}

// Verifier verifies the tokens of one issuer for one audience. It is safe for concurrent use.
type Verifier struct {
	url, issuer, audience string
	client                *http.Client
	now                   func() time.Time

	mutex   sync.Mutex
	keys    map[string]*rsa.PublicKey
	fetched time.Time
}

// New returns a verifier that fetches the keys from url when it needs them.
func New(url, issuer, audience string) *Verifier {
	return &Verifier{url: url, issuer: issuer, audience: audience, client: &http.Client{Timeout: 5 * time.Second}, now: time.Now}
}

// Verify returns the claims of a valid token, and otherwise ErrInvalid, or an error if the keys cannot be fetched.
func (v *Verifier) Verify(ctx context.Context, token string) (*Claims, error) {
	parts := strings.Split(token, ".")
	if len(token) > maxToken || len(parts) != 3 {
		return nil, ErrInvalid
	}
	header := map[string]json.RawMessage{}
	if decode(parts[0], &header) != nil || !headerIsValid(header) {
		return nil, ErrInvalid
	}
	signature, err := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if err != nil {
		return nil, ErrInvalid
	}
	key, err := v.key(ctx, text(header["kid"]))
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if key == nil || rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) != nil {
		return nil, ErrInvalid
	}
	claims := &Claims{}
	if decode(parts[1], claims) != nil || !v.claimsAreValid(claims) {
		return nil, ErrInvalid
	}
	return claims, nil
}

func headerIsValid(header map[string]json.RawMessage) bool {
	for _, name := range []string{"crit", "b64", "zip", "enc", "cty", "jwk", "jku", "x5u", "x5c"} {
		if _, found := header[name]; found {
			return false
		}
	}
	kind := strings.TrimPrefix(strings.ToLower(text(header["typ"])), "application/")
	// Only RS256 is accepted, whatever the header and the key say.
	return text(header["alg"]) == "RS256" && kind == "at+jwt" && text(header["kid"]) != ""
}

func (v *Verifier) claimsAreValid(claims *Claims) bool {
	now := v.now()
	issued, expires := time.Unix(claims.IssuedAt, 0), time.Unix(claims.Expires, 0)
	isForUs := claims.Issuer == v.issuer && claims.Audience.contains(v.audience)
	isComplete := claims.Subject != "" && claims.ID != "" && claims.ClientID != "" && claims.IssuedAt > 0
	isShort := expires.After(issued) && expires.Sub(issued) <= 24*time.Hour
	hasBegun := !issued.After(now.Add(leeway)) && !time.Unix(claims.NotBefore, 0).After(now.Add(leeway))
	return isForUs && isComplete && isShort && hasBegun && expires.After(now.Add(-leeway))
}

// key returns the key with this id, or nil if the issuer has none. Known keys stay usable while the issuer cannot be reached.
func (v *Verifier) key(ctx context.Context, id string) (*rsa.PublicKey, error) {
	v.mutex.Lock()
	defer v.mutex.Unlock()
	if key := v.keys[id]; key != nil {
		return key, nil
	}
	if v.keys != nil && v.now().Sub(v.fetched) < refetch {
		return nil, nil
	}
	keys, err := v.fetch(ctx)
	if err != nil {
		return nil, fmt.Errorf("fetch the keys of the issuer: %w", err)
	}
	v.keys, v.fetched = keys, v.now()
	return keys[id], nil
}

func (v *Verifier) fetch(ctx context.Context) (map[string]*rsa.PublicKey, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, v.url, nil)
	if err != nil {
		return nil, err
	}
	response, err := v.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, errors.New(response.Status)
	}
	document, err := io.ReadAll(io.LimitReader(response.Body, maxDocument))
	if err != nil {
		return nil, err
	}
	return parse(document)
}

// parse reads the RSA keys of 2048 to 4096 bits that may verify signatures, and skips all others.
func parse(document []byte) (map[string]*rsa.PublicKey, error) {
	var set struct {
		Keys []struct{ Kty, Alg, Use, Kid, N, E string }
	}
	if err := json.Unmarshal(document, &set); err != nil {
		return nil, err
	}
	keys := map[string]*rsa.PublicKey{}
	for _, key := range set.Keys {
		n, errN := base64.RawURLEncoding.DecodeString(key.N)
		isForUs := key.Kty == "RSA" && (key.Alg == "" || key.Alg == "RS256") && (key.Use == "" || key.Use == "sig")
		modulus := new(big.Int).SetBytes(n)
		// 65537, the only exponent that the auth service uses.
		if isForUs && errN == nil && key.E == "AQAB" && modulus.BitLen() >= 2048 && modulus.BitLen() <= 4096 {
			keys[key.Kid] = &rsa.PublicKey{N: modulus, E: 65537}
		}
	}
	return keys, nil
}

// audience is one audience or several.
type audience []string

func (a *audience) UnmarshalJSON(data []byte) error {
	if bytes.HasPrefix(data, []byte(`"`)) {
		*a = audience{""}
		return json.Unmarshal(data, &(*a)[0])
	}
	return json.Unmarshal(data, (*[]string)(a))
}

func (a audience) contains(name string) bool {
	for _, one := range a {
		if one == name {
			return true
		}
	}
	return false
}

func decode(part string, into interface{}) error {
	document, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(document, into)
}

func text(value json.RawMessage) string {
	var text string
	if json.Unmarshal(value, &text) != nil {
		return ""
	}
	return text
}
