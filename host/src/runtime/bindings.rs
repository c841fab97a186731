//! The generated bindings, and the map from WIT resources to host types.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "session-handler",
    imports: { default: trappable },
    exports: { default: async },
    with: { "wharf:webtransport/transport.session": super::host::Handle },
});
