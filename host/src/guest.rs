//! Makes a component of a folder that holds a Rust crate, with the tools a Rust installation has.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

/// The target whose modules are components already.
const TARGET: &str = "wasm32-wasip2";

/// Builds the crate in `folder` and returns the path of its component. Adds the `wasm32-wasip2` target by rustup where it
/// is missing, after saying so to `say`. Cargo's progress goes to the standard error of this process.
///
/// # Errors
///
/// When the folder holds no crate, the target is missing and there is no rustup, or the crate does not build.
pub fn build(folder: &Path, say: impl Fn(&str)) -> anyhow::Result<PathBuf> {
    let manifest = folder.join("Cargo.toml");
    ensure!(
        manifest.is_file(),
        "{}: holds no Cargo.toml (give the folder of a Rust crate, or a .wasm file)",
        folder.display()
    );
    add_target(&say)?;
    say(&format!("building {} for {TARGET}", folder.display()));
    let output = cargo()
        .args([
            "build",
            "--release",
            "--target",
            TARGET,
            "--message-format",
            "json-render-diagnostics",
        ])
        // In the folder, so that a `.cargo/config.toml` of the crate counts as when its author builds it.
        .current_dir(folder)
        // Flags of the environment are meant for the host's own build.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo (install Rust from https://rustup.rs)")?;
    ensure!(
        output.status.success(),
        "{}: does not build; cargo says why above",
        folder.display()
    );
    component(&output.stdout, &manifest).with_context(|| {
        format!(
            "{}: makes no component (its [lib] needs crate-type = [\"cdylib\"])",
            folder.display()
        )
    })
}

/// The cargo that runs this process, or the one on the path, without what an outer cargo says of its own package: build
/// scripts that look at it, such as ring's, would run again each time.
fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let of_package = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        });
        if of_package {
            command.env_remove(name);
        }
    }
    command
}

fn add_target(say: &impl Fn(&str)) -> anyhow::Result<()> {
    let sysroot = Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .context("cannot run rustc (install Rust from https://rustup.rs)")?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim());
    if sysroot.join("lib/rustlib").join(TARGET).is_dir() {
        return Ok(());
    }
    let mut rustup = Command::new("rustup");
    if rustup.arg("--version").output().is_err() {
        bail!(
            "the target {TARGET} is missing and there is no rustup; where there is, run: rustup target add {TARGET}"
        );
    }
    say(&format!(
        "adding the target {TARGET}: rustup target add {TARGET}"
    ));
    let added = Command::new("rustup")
        .args(["target", "add", TARGET])
        .status();
    ensure!(
        added.is_ok_and(|status| status.success()),
        "rustup cannot add the target; run: rustup target add {TARGET}"
    );
    Ok(())
}

/// What cargo says of a finished artifact.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// The component among what cargo built from that manifest.
fn component(messages: &[u8], manifest: &Path) -> Option<PathBuf> {
    let manifest = manifest.canonicalize().ok()?;
    messages
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Message>(line).ok())
        .filter(|message| {
            message.reason == "compiler-artifact" && message.manifest_path == manifest
        })
        .flat_map(|message| message.filenames)
        .find(|file| {
            file.extension()
                .is_some_and(|extension| extension == "wasm")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_crate_is_named_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let error = build(folder.path(), |_| {}).unwrap_err().to_string();
        assert!(
            error.contains(&folder.path().display().to_string()),
            "{error}"
        );
        assert!(error.contains("Cargo.toml"), "{error}");
    }

    #[test]
    fn the_component_is_found_among_cargos_messages() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = folder.path().join("Cargo.toml");
        std::fs::write(&manifest, "").unwrap();
        let here = manifest.canonicalize().unwrap();
        let line = |manifest: &Path, file: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"{}","filenames":["{file}"]}}"#,
                manifest.display()
            )
        };
        let messages = [
            "not json".to_owned(),
            line(Path::new("/other/Cargo.toml"), "/t/other.wasm"),
            line(&here, "/t/echo.d"),
            line(&here, "/t/echo.wasm"),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ]
        .join("\n");
        assert_eq!(
            component(messages.as_bytes(), &manifest),
            Some(PathBuf::from("/t/echo.wasm"))
        );
    }
}
