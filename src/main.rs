//! The `multibond` binary.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    for crd in multibond::api::crds() {
        println!("---\n{}", serde_saphyr::to_string(&crd)?);
    }
    Ok(())
}
