//! Links the handler for little memory.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // What a session costs begins with the pages that its instance touches. Rust puts a stack of 1 MiB before the data;
    // with this one, which is ample here, the end of the stack, the data and the first of the heap lie in two pages of
    // 4 KiB instead of four, and the memory begins with 64 KiB.
    if std::env::var_os("CARGO_CFG_TARGET_FAMILY").is_some_and(|family| family == "wasm") {
        println!("cargo::rustc-link-arg-cdylib=-zstack-size=59392");
    }
}
