//! Signs a user in, keeps a note, and lists their notes: `cargo run -p client -- alice 'seven blue cafes of tin' 'Hello'`.

use std::{env, error::Error, process::ExitCode};

use tonic::{Request, Status, transport::Channel};

/// The messages and clients of `auth.v1`.
#[allow(dead_code, missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
mod auth {
    tonic::include_proto!("auth.v1");
}

/// The messages and clients of `profiles.v1`.
#[allow(dead_code, missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
mod profile {
    tonic::include_proto!("profiles.v1");
}

use auth::{LoginRequest, token_service_client::TokenServiceClient};
use profile::{CreateNoteRequest, ListNotesRequest, Note, note_service_client::NoteServiceClient};

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A status shows its code and its message, and nothing else of it is for people.
            let message = match error.downcast_ref::<Status>() {
                Some(status) => format!("{}: {}", status.code().description(), status.message()),
                None => access::error::error_chain(&*error),
            };
            eprintln!("client: {message}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the program shows the titles of the notes")]
async fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [username, password, title, rest @ ..] = arguments.as_slice() else {
        return Err("usage: client USERNAME PASSWORD TITLE [AUTH_URL PROFILE_URL]".into());
    };
    let url = |index: usize, default: &str| rest.get(index).cloned().unwrap_or_else(|| default.to_owned());
    let auth = Channel::from_shared(url(0, "http://127.0.0.1:50051"))?.connect().await?;
    let profile = Channel::from_shared(url(1, "http://127.0.0.1:50052"))?.connect().await?;

    let login = LoginRequest { username: username.clone(), password: password.clone() };
    let token = TokenServiceClient::new(auth).login(login).await?.into_inner().access_token;
    let authorization: tonic::metadata::MetadataValue<_> = format!("Bearer {token}").parse()?;
    let mut notes = NoteServiceClient::with_interceptor(profile, move |mut request: Request<()>| {
        request.metadata_mut().insert("authorization", authorization.clone());
        Ok(request)
    });

    let note = Note { title: title.clone(), ..Note::default() };
    // With a `note_id` of one's own choice it would be safe to retry.
    notes.create_note(CreateNoteRequest { user_id: "me".to_owned(), note: Some(note), ..Default::default() }).await?;
    let list = ListNotesRequest { user_id: "me".to_owned(), ..Default::default() };
    for note in notes.list_notes(list).await?.into_inner().notes {
        println!("{}", note.title);
    }
    Ok(())
}
