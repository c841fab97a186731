//! Compiled components on disk.
//!
//! Loading compiled code is running it, so only what this host wrote is loaded: from a folder that belongs to this user
//! and that nobody else may write. Code from elsewhere is never accepted.

use std::{
    hash::{Hash as _, Hasher},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};
use wasmtime::{Engine, component::Component};

/// Compiles a component, or loads what was compiled before. Trouble with the cache is no trouble with the component.
pub(super) fn compile(
    engine: &Engine,
    folder: Option<&Path>,
    wasm: &[u8],
) -> wasmtime::Result<Component> {
    let Some(folder) = folder else {
        return Component::new(engine, wasm);
    };
    let file = match entry(engine, folder, wasm) {
        Ok(file) => file,
        Err(error) => {
            tracing::warn!(folder = %folder.display(), "compiled code is not kept: {error:#}");
            return Component::new(engine, wasm);
        }
    };
    if let Some(component) = load(engine, &file) {
        return Ok(component);
    }
    let code = engine.precompile_component(wasm)?;
    if let Err(error) = store(&file, &code) {
        tracing::warn!(file = %file.display(), "compiled code is not kept: {error:#}");
        return Component::new(engine, wasm);
    }
    match load(engine, &file) {
        Some(component) => Ok(component),
        None => Component::new(engine, wasm),
    }
}

/// Where the code of a component is: named by its content, the engine's settings, and what the machine can do.
fn entry(engine: &Engine, folder: &Path, wasm: &[u8]) -> anyhow::Result<PathBuf> {
    make_private(folder)?;
    let mut key = Digest(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut key);
    key.0.update(env!("CARGO_PKG_VERSION"));
    key.0.update(wasm);
    let name: String = key
        .0
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(folder.join(name).with_extension("cwasm"))
}

/// Makes the folder for this user alone, or makes sure that it is.
#[cfg(unix)]
fn make_private(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let metadata = std::fs::metadata(folder)?;
    ensure!(
        metadata.uid() == rustix::process::geteuid().as_raw(),
        "the folder belongs to somebody else"
    );
    ensure!(
        metadata.mode() & 0o022 == 0,
        "others may write to the folder (chmod go-w)"
    );
    Ok(())
}

#[cfg(not(unix))]
fn make_private(_: &Path) -> anyhow::Result<()> {
    anyhow::bail!("no way is known on this system to keep others from writing to the folder")
}

/// Loads a file, whose name vouches for what it is and whose own sum for its being whole.
fn load(engine: &Engine, file: &Path) -> Option<Component> {
    let whole = std::fs::read(file).ok()?;
    let (code, sum) = whole.split_last_chunk::<32>()?;
    if Sha256::digest(code)[..] != sum[..] {
        return None;
    }
    #[expect(unsafe_code, reason = "compiled code cannot be checked, only trusted")]
    // SAFETY: the bytes are what `store` wrote of `Engine::precompile_component`'s output: the folder belongs to this user
    // and only this user can write there (`make_private`), the file was renamed into place whole, and its sum is right.
    // That it was made for an engine and machine like this one is in its name, and wasmtime checks it again.
    let component = unsafe { Component::deserialize(engine, code) };
    component.ok()
}

/// Writes a file whole or not at all.
fn store(file: &Path, code: &[u8]) -> anyhow::Result<()> {
    let folder = file.parent().context("a file is in a folder")?;
    let mut unfinished = tempfile::NamedTempFile::new_in(folder)?;
    unfinished.write_all(code)?;
    unfinished.write_all(&Sha256::digest(code))?;
    unfinished.persist(file)?;
    Ok(())
}

/// Lets what can only be hashed into a `Hasher` be part of a real digest.
struct Digest(Sha256);

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0 // the digest itself is used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    fn files(folder: &Path) -> Vec<PathBuf> {
        std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    #[test]
    fn compiled_code_is_kept_and_a_damaged_file_is_made_again() {
        let (engine, folder) = (Engine::default(), tempfile::tempdir().unwrap());
        compile(&engine, Some(folder.path()), EMPTY).unwrap();
        let [file] = &files(folder.path())[..] else {
            panic!("one file")
        };
        let good = std::fs::read(file).unwrap();
        assert!(load(&engine, file).is_some());
        for damaged in [&good[..good.len() / 2], b"", &[&[0], &good[1..]].concat()] {
            std::fs::write(file, damaged).unwrap();
            assert!(load(&engine, file).is_none());
            compile(&engine, Some(folder.path()), EMPTY).unwrap();
            assert_eq!(std::fs::read(file).unwrap(), good);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_others_may_write_to_is_not_used() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        compile(&Engine::default(), Some(folder.path()), EMPTY).unwrap();
        assert!(files(folder.path()).is_empty());
    }
}
