//! Generates the messages, guards and validation of profiles.v1.

fn main() -> Result<(), access_build::Error> {
    // `sqlx::migrate!` does not notice a new file.
    println!("cargo:rerun-if-changed=migrations");
    access_build::Protos::built_in().compile(&[
        "profiles/v1/profile.proto",
        "profiles/v1/friend.proto",
        "profiles/v1/note.proto",
        "profiles/v1/sync.proto",
        "profiles/v1/audit.proto",
        "profiles/v1/reason.proto",
    ])
}
