// Verifies a token with golang-jwt, by a secret or by the published keys, and signs claims with a secret.
//
// Reads {"token", "secret"} or {"token", "jwks"} and prints the claims; reads {"claims", "secret"} and prints
// the token.
package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log"
	"math/big"
	"os"

	"github.com/golang-jwt/jwt/v5"
)

type publishedKey struct {
	Kid, Kty, Crv, X, Y, N, E string
}

type question struct {
	Token  string
	Secret string
	Claims jwt.MapClaims
	JWKS   struct{ Keys []publishedKey }
}

func main() {
	var asked question
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		log.Fatal(err)
	}
	answer, err := asked.answer()
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
		log.Fatal(err)
	}
}

func (asked question) answer() (any, error) {
	if asked.Claims != nil {
		return jwt.NewWithClaims(jwt.SigningMethodHS256, asked.Claims).SignedString([]byte(asked.Secret))
	}
	algorithms := []string{"HS256"}
	if asked.Secret == "" {
		algorithms = []string{"ES256", "EdDSA", "RS256"}
	}
	options := []jwt.ParserOption{jwt.WithValidMethods(algorithms), jwt.WithExpirationRequired(), jwt.WithIssuedAt()}
	token, err := jwt.Parse(asked.Token, asked.key, options...)
	if err != nil {
		return nil, err
	}
	return token.Claims, nil
}

func (asked question) key(token *jwt.Token) (any, error) {
	if asked.Secret != "" {
		return []byte(asked.Secret), nil
	}
	for _, key := range asked.JWKS.Keys {
		if key.Kid == token.Header["kid"] {
			return key.public()
		}
	}
	return nil, fmt.Errorf("no key %v is published", token.Header["kid"])
}

func (key publishedKey) public() (any, error) {
	switch key.Kty {
	case "EC":
		return &ecdsa.PublicKey{Curve: elliptic.P256(), X: number(key.X), Y: number(key.Y)}, nil
	case "OKP":
		return ed25519.PublicKey(octets(key.X)), nil
	case "RSA":
		return &rsa.PublicKey{N: number(key.N), E: int(number(key.E).Int64())}, nil
	default:
		return nil, fmt.Errorf("keys of type %q are not known here", key.Kty)
	}
}

func octets(text string) []byte {
	decoded, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		log.Fatal(err)
	}
	return decoded
}

func number(text string) *big.Int {
	return new(big.Int).SetBytes(octets(text))
}
