//! Tells `build.sh` where Wasmtime's C headers were installed.
fn main() {
    let include = std::env::var("DEP_WASMTIME_C_API_INCLUDE").expect("wasmtime-c-api publishes its header folder");
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    std::fs::write(std::path::Path::new(&out).join("wasmtime_include.txt"), include).expect("OUT_DIR is writable");
    println!("cargo:rerun-if-changed=build.rs");
}
