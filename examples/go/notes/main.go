// Command notes signs a user in, creates a note, and lists the titles of the user's notes, the newest first.
//
//	notes USERNAME PASSWORD TITLE AUTH_HOST PROFILE_HOST
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	authv1 "example.com/identity/examples/go/gen/auth/v1"
	profilesv1 "example.com/identity/examples/go/gen/profiles/v1"
)

func main() {
	if len(os.Args) != 6 {
		fmt.Fprintln(os.Stderr, "usage: notes USERNAME PASSWORD TITLE AUTH_HOST PROFILE_HOST")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(username, password, title, authHost, profileHost string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// Use TLS outside of one machine.
	auth, err := grpc.DialContext(ctx, authHost, grpc.WithInsecure())
	if err != nil {
		return err
	}
	defer auth.Close()
	profile, err := grpc.DialContext(ctx, profileHost, grpc.WithInsecure())
	if err != nil {
		return err
	}
	defer profile.Close()

	login := &authv1.LoginRequest{Username: username, Password: password}
	tokens, err := authv1.NewTokenServiceClient(auth).Login(ctx, login)
	if err != nil {
		return fmt.Errorf("login: %w", err)
	}
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+tokens.AccessToken)
	notes := profilesv1.NewNoteServiceClient(profile)
	create := &profilesv1.CreateNoteRequest{UserId: "me", Note: &profilesv1.Note{Title: title}}
	if _, err := notes.CreateNote(ctx, create); err != nil {
		return fmt.Errorf("create a note: %w", err)
	}
	list := &profilesv1.ListNotesRequest{UserId: "me"}
	for {
		page, err := notes.ListNotes(ctx, list)
		if err != nil {
			return fmt.Errorf("list the notes: %w", err)
		}
		for _, note := range page.Notes {
			fmt.Println(note.Title)
		}
		if page.NextPageToken == "" {
			return nil
		}
		list.PageToken = page.NextPageToken
	}
}
