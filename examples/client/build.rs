//! Generates the clients of both services.

fn main() -> Result<(), shared_build::Error> {
    let protos = shared_build::Protos::new("../../proto");
    protos.compile(&["auth/v1/session.proto", "auth/v1/token.proto", "auth/v1/user.proto", "profile/v1/note.proto"])
}
