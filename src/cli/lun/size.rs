//! Sizes as people and Kubernetes write them.

const UNITS: [(&str, u64); 5] = [("Pi", 1 << 50), ("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];

/// The exact size as a quantity of Kubernetes: `100Gi`, or bytes where no unit divides it.
pub(super) fn quantity(bytes: u64) -> String {
    match UNITS.iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// The size for people, rounded down to a tenth: `100Gi`, `1.5Ti`.
pub(super) fn rounded(bytes: u64) -> String {
    let Some((name, unit)) = UNITS.iter().find(|(_, unit)| bytes >= *unit) else { return bytes.to_string() };
    let (whole, tenth) = (bytes / unit, bytes % unit / (unit / 10));
    // A tenth of a binary unit is not whole.
    match tenth.min(9) {
        0 => format!("{whole}{name}"),
        tenth => format!("{whole}.{tenth}{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{quantity, rounded};

    #[test]
    fn a_size_is_exact_for_kubernetes_and_short_for_people() {
        let both = |bytes| (quantity(bytes), rounded(bytes));
        let expected = |exact: &str, short: &str| (exact.to_owned(), short.to_owned());
        assert_eq!(both(0), expected("0", "0"));
        assert_eq!(both(512), expected("512", "512"));
        assert_eq!(both(100 << 30), expected("100Gi", "100Gi"));
        assert_eq!(both(1536 << 30), expected("1536Gi", "1.5Ti"));
        assert_eq!(both((1 << 30) + 512), expected("1073742336", "1Gi"));
        assert_eq!(both((2 << 30) - 512), expected("2147483136", "1.9Gi"));
    }
}
