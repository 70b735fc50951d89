//! Generates the service with tonic-prost-build alone, and keeps the descriptors with their options.

use std::{env, fs, path::Path};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut compiler = protox::Compiler::new(["proto", protos::DIR, protos::THIRD_PARTY_DIR])?;
    compiler.include_imports(true).open_files(["clock/v1/clock.proto"])?;
    #[expect(clippy::disallowed_methods, reason = "Cargo passes the folder in the environment")]
    let out = env::var("OUT_DIR")?;
    // `prost_types` drops custom options, so the access rules are kept as encoded bytes.
    fs::write(Path::new(&out).join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    let mut descriptors = compiler.file_descriptor_set();
    descriptors.file.retain(|file| file.package() == "clock.v1");
    tonic_prost_build::configure().compile_fds_with_config(descriptors, prost_build::Config::new())?;
    Ok(())
}
