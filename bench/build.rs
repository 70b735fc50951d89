//! Generates the messages and the clients of both services.

fn main() -> Result<(), access_build::Error> {
    access_build::Protos::built_in().compile(&[
        "auth/v1/identity.proto",
        "auth/v1/reason.proto",
        "auth/v1/session.proto",
        "auth/v1/token.proto",
        "auth/v1/user.proto",
        "profiles/v1/note.proto",
        "profiles/v1/profile.proto",
        "profiles/v1/reason.proto",
    ])
}
