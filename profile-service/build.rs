//! Generates the messages, guards and validation of profile.v1.

fn main() -> Result<(), shared_build::Error> {
    // `sqlx::migrate!` does not see by itself that a file is new.
    println!("cargo:rerun-if-changed=migrations");
    shared_build::Protos::new("../proto").compile(&[
        "profile/v1/profile.proto",
        "profile/v1/friend.proto",
        "profile/v1/note.proto",
        "profile/v1/sync.proto",
    ])
}
