//! Which texts of objects may become a part of a file's path or an argument of a tool, and what RFC 3722 does not allow
//! in iSCSI names.
//!
//! open-iscsi makes a directory of a target's name, as root. So a name with `/` or `..` is refused when it is applied,
//! and never used by an agent: objects of earlier versions may still have one. Everything else that the RFC
//! forbids is only reported, because many targets have such names and work.

/// Why a text must not become one component of a path, or an argument; `None` if it may.
#[must_use]
pub fn why_unsafe(text: &str) -> Option<&'static str> {
    if text.is_empty() || text == "." {
        Some("is empty")
    } else if text.contains('/') {
        Some("contains \"/\"")
    } else if text.contains("..") {
        Some("contains \"..\"")
    } else if text.contains(|character: char| character.is_control()) {
        Some("contains a control character")
    } else if text.starts_with('-') {
        Some("starts with \"-\"")
    } else {
        None
    }
}

/// Whether a text from elsewhere than a validated object may be used as a target's name. It admits every name that the
/// schema admits, and nothing that could be anything else than a name.
#[must_use]
pub fn is_plausible(text: &str) -> bool {
    let has_type = ["iqn.", "eui.", "naa."].iter().any(|prefix| text.starts_with(prefix));
    let is_allowed = |letter: char| letter.is_ascii_alphanumeric() || "-._:+@=~".contains(letter);
    has_type && text.len() <= 223 && text.chars().all(is_allowed) && why_unsafe(text).is_none()
}

/// The characters of an iSCSI name that RFC 3722 section 6.2 forbids, each once, in the order of the name.
///
/// Of ASCII it allows letters, digits, `-`, `.` and `:`. Capital letters stand for small ones.
#[must_use]
pub fn forbidden_characters(name: &str) -> Vec<char> {
    let mut forbidden = Vec::new();
    for character in name.chars().filter(|c| c.is_ascii() && !c.is_ascii_alphanumeric() && !"-.:".contains(*c)) {
        if !forbidden.contains(&character) {
            forbidden.push(character);
        }
    }
    forbidden
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::api::schema::{iqn, iqn_set, tests::admits};

    #[rstest]
    #[case("iqn.2003-01.org.example:..")]
    #[case("iqn.2003-01.org.example:../../../../../srv/walked-out")]
    #[case("iqn.2003-01.org.example:array/lun-1")]
    #[case("iqn.2003-01.org.example:a..b")]
    #[case("iqn.2003-01.org..example:a")]
    #[case("iqn.2003-01.org.example:a..")]
    #[case("iqn.2003-01.org.example:..a")]
    fn a65_a_name_that_leaves_its_directory_is_refused_at_apply(#[case] name: &str) {
        assert!(admits(iqn_set, name), "released versions accepted it");
        assert!(!admits(iqn, name));
        assert!(why_unsafe(name).is_some());
    }

    #[rstest]
    #[case("iqn.2003-01.org.example")]
    #[case("iqn.2003-01.org.example:a")]
    #[case("iqn.2003-01.org.ex-am--ple.a:.")]
    #[case("iqn.2003-01.org.example:.a.b.:-_+@=~.")]
    #[case("iqn.2003-01.org.example:Array-A.lun_1")]
    #[case("iqn.1992-04.com.emc:cx.apm00123456789.a0")]
    #[case("eui.02004567A425678D")]
    #[case("naa.52004567BA64678D")]
    fn every_other_name_of_released_versions_is_still_accepted(#[case] name: &str) {
        assert!(admits(iqn_set, name));
        assert!(admits(iqn, name), "{name}");
        assert_eq!(why_unsafe(name), None);
        assert!(is_plausible(name), "{name}");
    }

    #[rstest]
    #[case("a/b", Some("contains \"/\""))]
    #[case("..", Some("contains \"..\""))]
    #[case(".", Some("is empty"))]
    #[case("", Some("is empty"))]
    #[case("a\nb", Some("contains a control character"))]
    #[case("a\u{85}b", Some("contains a control character"))]
    #[case("-p", Some("starts with \"-\""))]
    #[case("bond0.100", None)]
    #[case("fd00::10", None)]
    fn a65_only_a_plain_text_is_a_part_of_a_path(#[case] text: &str, #[case] why: Option<&str>) {
        assert_eq!(why_unsafe(text), why);
    }

    #[test]
    fn characters_that_the_rfc_forbids_are_named_once() {
        assert_eq!(forbidden_characters("iqn.2003-01.org.example:A_1_+~"), ['_', '+', '~']);
        assert_eq!(forbidden_characters("iqn.2003-01.org.example:a-1.b"), [] as [char; 0]);
    }
}
