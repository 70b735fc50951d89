// Command verify prints the username of a valid access token.
//
//	verify JWKS_URL ISSUER AUDIENCE TOKEN
package main

import (
	"context"
	"fmt"
	"os"

	"example.com/identity/examples/go/jwks"
)

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: verify JWKS_URL ISSUER AUDIENCE TOKEN")
		os.Exit(2)
	}
	claims, err := jwks.New(os.Args[1], os.Args[2], os.Args[3]).Verify(context.Background(), os.Args[4])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(claims.Username)
}
