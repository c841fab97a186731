//! Reads a component and says in one line what is wrong with it, and what to do.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use wasmtime::{
    Engine,
    component::{Component, ComponentExportIndex, InstancePre, Linker},
};

use super::{
    bindings::SessionHandlerIndices,
    cache,
    host::{Lend, State},
};

/// The package and version of our WIT.
const CALLBACKS: &str = "wharf:webtransport/callbacks@0.1.0";
const ADMISSION: &str = "wharf:webtransport/admission@0.1.0";
const BATCHES: &str = "wharf:webtransport/batches@0.1.0";
/// What a component may import besides our own package.
const GRANTED: [&str; 6] = [
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:io/",
    "wasi:random/",
    "wasi:sockets/",
];
/// Bytes of a page of a memory.
const PAGE: u64 = 64 << 10;
const OURS: &str = "wharf:webtransport/";

/// Reads a file and makes sure that it is a component.
pub(super) fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let name = file.display();
    let wasm = match std::fs::read(file) {
        Ok(wasm) => wasm,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("{name}: no such file (give a .wasm file, or the folder of a Rust crate)")
        }
        Err(error) => return Err(error).with_context(|| format!("{name}: cannot be read")),
    };
    // The preamble: a magic number, a version, and what kind of thing it is.
    match wasm.get(..8) {
        Some([b'\0', b'a', b's', b'm', _, _, 1, 0]) => Ok(wasm),
        Some([b'\0', b'a', b's', b'm', 1, 0, 0, 0]) => {
            bail!(
                "{name}: not a component: a core module (build it for wasm32-wasip2, or wrap it with `wasm-tools component new`)"
            )
        }
        Some([b'\0', b'a', b's', b'm', ..]) => {
            bail!("{name}: not a component: of a WebAssembly version that is not known")
        }
        Some(_) | None => {
            bail!("{name}: not WebAssembly (give a component, or the folder of a Rust crate)")
        }
    }
}

/// A component that fits the world.
pub(super) struct Loaded {
    pub(super) pre: InstancePre<State>,
    /// Where the functions of the world are.
    pub(super) exports: SessionHandlerIndices,
    /// Where `admit` is, for components that export it.
    pub(super) admit: Option<ComponentExportIndex>,
    /// Where `on-datagrams` is, likewise.
    pub(super) on_datagrams: Option<ComponentExportIndex>,
}

/// Compiles, checks and links a component. `name` stands before what is wrong.
pub(super) fn link(
    engine: &Engine,
    cache: Option<&Path>,
    name: &str,
    wasm: &[u8],
) -> anyhow::Result<Loaded> {
    let component = cache::compile(engine, cache, wasm).map_err(|error| {
        anyhow::anyhow!("{name}: not a valid component: {}", first_line(&error))
    })?;
    check(engine, &component, name)?;
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    super::bindings::SessionHandler::add_to_linker::<_, Lend>(&mut linker, |state| state)?;
    let fitting = linker.instantiate_pre(&component).and_then(|pre| {
        let exports = SessionHandlerIndices::new(&pre)?;
        Ok((pre, exports))
    });
    let (pre, exports) = fitting.map_err(|error| {
        anyhow::anyhow!(
            "{name}: does not fit the world session-handler: {}",
            first_line(&error)
        )
    })?;
    let optional = |interface, function| {
        let interface = component.get_export_index(None, interface)?;
        component.get_export_index(Some(&interface), function)
    };
    Ok(Loaded {
        pre,
        exports,
        admit: optional(ADMISSION, "admit"),
        on_datagrams: optional(BATCHES, "on-datagrams"),
    })
}

/// Makes sure that an instance has the memory that it begins with.
pub(super) fn fits(loaded: &Loaded, name: &str, memory_max: usize) -> anyhow::Result<()> {
    let needed = loaded.pre.component().resources_required();
    let pages = needed.and_then(|needed| needed.max_initial_memory_size);
    let memory = pages.unwrap_or_default().saturating_mul(PAGE);
    ensure!(
        memory <= memory_max as u64,
        "{name}: begins with {memory} bytes of memory, and its limit is {memory_max} (raise `memory`)"
    );
    Ok(())
}

fn check(engine: &Engine, component: &Component, name: &str) -> anyhow::Result<()> {
    let kind = component.component_type();
    let exports: Vec<_> = kind
        .exports(engine)
        .map(|(export, _)| export.to_owned())
        .collect();
    if !exports.iter().any(|export| export == CALLBACKS) {
        let exported = if exports.is_empty() {
            "nothing".to_owned()
        } else {
            exports.join(", ")
        };
        bail!(
            "{name}: exports no {CALLBACKS} (it exports {exported}; build it for the world session-handler of wharf:webtransport@0.1.0)"
        );
    }
    let ungranted: Vec<_> = kind
        .imports(engine)
        .map(|(import, _)| import.to_owned())
        .filter(|import| {
            !import.starts_with(OURS) && !GRANTED.iter().any(|granted| import.starts_with(granted))
        })
        .collect();
    ensure!(
        ungranted.is_empty(),
        "{name}: imports {}, which is not granted (a handler may import wharf:webtransport and WASI 0.2 without http)",
        ungranted.join(" and ")
    );
    Ok(())
}

/// An error in one line: what went wrong, and the cause.
fn first_line(error: &wasmtime::Error) -> String {
    let chain = format!("{error:#}");
    chain.lines().next().unwrap_or_default().to_owned()
}
