//! gRPC messages may be compressed with gzip in both directions, and the limit of a message counts its decompressed size.

use profile_service::proto::{ListNotesRequest, Visibility, note_service_client::NoteServiceClient};
use testing::{assert_refused, on_both_engines};
use tonic::{Code, Request, codec::CompressionEncoding};

use crate::app::{App, create_note, note};

on_both_engines! {
    async fn messages_are_compressed_in_both_directions(app: App) {
        let alice = app.user("alice").await;
        let mut notes = alice.notes().send_compressed(CompressionEncoding::Gzip).accept_compressed(CompressionEncoding::Gzip);
        let body = "word ".repeat(1000);
        notes.create_note(create_note("me", "", note("large", &body, Visibility::Private))).await.unwrap();
        let request = ListNotesRequest { user_id: "me".to_owned(), ..ListNotesRequest::default() };
        let answer = notes.list_notes(request).await.unwrap();
        assert_eq!(answer.metadata().get("grpc-encoding").map(tonic::metadata::MetadataValue::as_bytes), Some(&b"gzip"[..]));
        assert_eq!(answer.into_inner().notes[0].body, body);

        let bomb = note("bomb", &"a".repeat(2 << 20), Visibility::Private);
        assert_refused(notes.create_note(create_note("me", "", bomb)).await, Code::ResourceExhausted, "MESSAGE_TOO_LARGE", &[]);
    }

    async fn a_refused_encoding_names_the_accepted_ones(app: App) {
        let mut notes = NoteServiceClient::new(app.channel.clone());
        let mut request = Request::new(ListNotesRequest { user_id: "me".to_owned(), ..ListNotesRequest::default() });
        let bearer = app.user("alice").await.bearer;
        request.metadata_mut().insert("authorization", bearer.parse().unwrap());
        request.metadata_mut().insert("grpc-encoding", "br".parse().unwrap());
        let status = notes.list_notes(request).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
        let accepted = status.metadata().get("grpc-accept-encoding").expect("the accepted encodings");
        assert!(accepted.to_str().unwrap().split(',').any(|encoding| encoding.trim() == "gzip"), "{accepted:?}");
    }
}
